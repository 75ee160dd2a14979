//! What each verb does.

mod bench;
mod check;
mod data;
mod generate;
mod inference;
mod inspect;
mod score;

use anyhow::Result;

use crate::cli::{Cli, Command, DataCommand};

/// Carries out a command line.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Train(args) => crate::train::run(&args),
        Command::Score(args) => score::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::MergePredictions(args) => crate::predict::merge(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Data(DataCommand::Synth(args)) => data::synth(&args),
        Command::Data(DataCommand::Check(args)) => data::check(&args),
    }
}
