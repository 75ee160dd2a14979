//! The command line of `compare`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// Run directories; those that differ in nothing but their seed are one variant
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Folder for compare.json, index.html and curves.svg
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A variant to count differences from, by its name or the value in it (dapo); those from the model that each run's
    /// last stage started from are always told
    #[arg(long, value_name = "VARIANT")]
    pub baseline: Option<String>,
    /// A key that makes no variants, with all keys below it: --ignore model.path
    #[arg(long = "ignore", value_name = "KEY")]
    pub ignored: Vec<String>,
    /// Print one JSON object in place of the tables
    #[arg(long)]
    pub json: bool,
}
