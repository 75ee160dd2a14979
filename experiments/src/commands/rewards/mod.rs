//! `medgrpo rewards`: what a reward pays, without a model.

mod check;
mod rescore;

pub(crate) use check::Violated;
pub(super) use check::run as check;
pub(super) use rescore::run as rescore;

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use medgrpo_rewards::{Reward, compose::normalise::Identity};

use crate::{
    build, calibrate,
    config::resolved::{Experiment, Recipe},
    print,
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

/// The reward of a stage. `folder` may hold the calibration of a run; where there is none, components are paid as measured,
/// and a line says so.
fn reward_of(experiment: &Experiment, index: usize, folder: &Path) -> Result<Arc<dyn Reward>> {
    let stage = &experiment.stages[index];
    let Some(grpo) = stage.recipe.on_policy() else {
        bail!("stage {index} (\"{}\") is supervised and has no reward: choose another --stage", stage.name)
    };
    let experts = build::open_experts(&grpo.rewards, &stage.data.tasks, folder)?;
    let normaliser = match calibrate::table_of(stage, folder)? {
        None if grpo.rewards.normalization.calibration().is_some() => {
            print("the normalization has no calibration yet: components are paid as measured");
            Arc::new(Identity)
        }
        table => build::normaliser(&grpo.rewards.normalization, table)?,
    };
    build::reward(&grpo.rewards, grpo.max_completion_length, &experts, &normaliser)
}
