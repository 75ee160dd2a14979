//! The command line of `replay`.

#![expect(clippy::doc_markdown, reason = "these texts are printed by --help, where backticks are noise")]

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize as _, de::IntoDeserializer as _};

use crate::config::resolved::recipe::Method;

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// The run directory
    pub run: PathBuf,
    /// Type of the recipe to replay: grpo, dapo, rloo, … [default: the run's own]
    #[arg(long, value_parser = method)]
    pub recipe: Option<Method>,
    /// Override a key of that recipe: --set loss_type=dapo
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Which stage, from 0 [default: all that learn from rewards]
    #[arg(long)]
    pub stage: Option<usize>,
    /// Tables and the numbers of every completion, JSON
    #[arg(long)]
    pub out: Option<PathBuf>,
}

fn method(text: &str) -> Result<Method, serde::de::value::Error> {
    Method::deserialize(text.into_deserializer())
}
