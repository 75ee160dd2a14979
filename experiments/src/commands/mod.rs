//! What each verb does.

mod bench;
mod calibrate;
mod check;
mod compare;
mod data;
mod eval;
mod generate;
mod inference;
mod inspect;
mod merge;
mod replay;
mod rewards;
mod score;
mod submit;

use anyhow::Result;

use crate::cli::{Cli, Command, DataCommand, RewardsCommand};

pub(crate) use rewards::Violated;

/// Carries out a command line.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Train(args) => crate::train::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::MergePredictions(args) => crate::predict::merge(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Submit(args) => submit::run(&args),
        Command::Data(DataCommand::Synth(args)) => data::synth(&args),
        Command::Data(DataCommand::Check(args)) => data::check(&args),
        Command::Rewards(RewardsCommand::Check(args)) => rewards::check(&args),
        Command::Rewards(RewardsCommand::Rescore(args)) => rewards::rescore(&args),
    }
}
