//! `medgrpo rewards check`: gold, nothing, half answers and tricks, over the records that a stage trains on.

use anyhow::{Result, bail};
use medgrpo_rewards::audit::Limits;

use super::{reward_of, stage_index};
use crate::{
    build, cli::RewardsCheckArgs, config, print, reward_check::RewardCheck, train::render_practice_set,
};

/// The reward pays what it should not: a result, not a mistake in the command.
#[derive(Debug, thiserror::Error)]
#[error("the reward breaks its laws {num} times: a policy would find that; --out FILE.json lists them all")]
pub(crate) struct Violated {
    num: usize,
}

pub(in super::super) fn run(args: &RewardsCheckArgs) -> Result<()> {
    if !(0.0..=1.0).contains(&args.max_beaten_share) || !(0.0..=1.0).contains(&args.min_gold_metric) {
        bail!("--max-beaten-share and --min-gold-metric are from 0 to 1");
    }
    let experiment = config::load(&args.config, &args.overrides)?;
    let index = stage_index(&experiment, args.stage)?;
    let reward = reward_of(&experiment, index, &experiment.out)?;
    render_practice_set(&experiment)?;
    let stage = &experiment.stages[index];
    let files = build::open_train(&experiment)?;
    let limits = Limits { max_beaten_share: args.max_beaten_share, min_gold_metric: args.min_gold_metric };
    let check = RewardCheck::of(&reward, &files, &stage.data.tasks, args.limit, limits)?;
    let num_records = check.audit.records;
    if num_records == 0 {
        bail!("{}: no row of `data.train` is of the tasks of stage {index}", args.config.display());
    }
    if let Some(out) = &args.out {
        check.write(out)?;
    }
    print(&format!("reward of stage {index} (\"{}\"), {num_records} records\n", stage.name));
    print(&check.to_markdown());
    match check.tell()? {
        0 => Ok(()),
        num => Err(Violated { num }.into()),
    }
}
