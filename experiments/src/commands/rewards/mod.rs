//! `medgrpo rewards`: what a reward pays, without a model.

mod check;
mod rescore;

pub(crate) use check::Violated;
pub(super) use check::run as check;
pub(super) use rescore::run as rescore;

use anyhow::{Context, Result, bail};
use medgrpo_rewards::PerTask;

use crate::{
    build,
    config::resolved::{Experiment, Recipe},
};

/// The stage that is meant: `wanted`, or the last one with a reward.
fn stage_index(experiment: &Experiment, wanted: Option<usize>) -> Result<usize> {
    let num_stages = experiment.stages.len();
    match wanted {
        Some(index) if index < num_stages => Ok(index),
        Some(index) => bail!("there is no stage {index}: the experiment has {num_stages}, numbered from 0"),
        None => {
            experiment.stages.iter().rposition(|stage| !matches!(stage.recipe, Recipe::Sft)).context(
                "no stage of the experiment has a reward: give it one with a recipe such as \"grpo\"",
            )
        }
    }
}

/// The reward of a stage.
fn reward_of(experiment: &Experiment, index: usize) -> Result<PerTask> {
    let stage = &experiment.stages[index];
    match &stage.recipe {
        Recipe::Grpo(config) => Ok(build::reward(config.rewards)),
        Recipe::Sft => bail!(
            "stage {index} (\"{}\") is supervised and has no reward: choose another --stage",
            stage.name
        ),
    }
}
