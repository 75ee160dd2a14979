//! The library behind the `medgrpo` binary: command line, experiments as TOML, run directories and reports.
//!
//! Only this crate prints, and only [`device`] names a backend.

mod alarms;
mod archive;
pub mod build;
mod calibrate;
mod cards;
pub mod cli;
pub mod commands;
pub mod config;
mod dashboard;
pub mod device;
pub mod environment;
mod events;
mod memory;
mod output;
pub mod predict;
mod pretrained;
pub mod progress;
pub mod report;
mod reward_check;
mod rollouts;
pub mod run_dir;
mod stop;
mod train;

use output::print;
pub use output::{init_logging, report_failure};
