//! The benchmark's table: all records of all tasks to ten numbers, by the rules of the official scorer.
//!
//! [`evaluate`] takes samples and answers, [`evaluate_records`] the leaderboard's own JSON. The three numbers of the LLM
//! judge stay empty here; captions get ROUGE-L beside them, under names of its own. [`constant_baseline`] answers without
//! looking, so that every table can show what that is worth.

pub mod baseline;
pub mod evaluate;
pub mod ground_truth;
pub mod report;

#[cfg(test)]
mod cases;

pub use baseline::constant_baseline;
pub use evaluate::{evaluate, evaluate_with};
pub use ground_truth::{EvalError, evaluate_records};
pub use report::Report;
