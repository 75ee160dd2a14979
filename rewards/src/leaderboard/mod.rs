//! The benchmark's table: all records of all tasks to ten numbers, by the rules of the official scorer or strict ones.
//!
//! [`evaluate()`] takes samples and answers, [`evaluate_records`] the leaderboard's own JSON. The three numbers of the LLM
//! judge need a [`Judge`](crate::judge::Judge); captions get ROUGE-L beside them, under names of its own. [`constant_baseline`] answers without
//! looking, so that every [`table()`] can show what that is worth.

mod averages;
pub mod baseline;
pub mod bootstrap;
mod caption_metrics;
pub mod evaluate;
pub mod ground_truth;
mod judged;
mod official;
pub mod report;
mod rows;
mod strict;
pub mod submission;
pub mod table;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod cases_captions;
#[cfg(test)]
mod repairs;

pub use averages::Averages;
pub use baseline::constant_baseline;
pub use bootstrap::Bootstrap;
pub use caption_metrics::CaptionMetrics;
pub use evaluate::{Options, evaluate, evaluate_with};
pub use ground_truth::{EvalError, evaluate_records, evaluate_some, official_task, samples};
pub use report::{Counts, Group, Interval, Judging, Report, Rules, headline_names};
pub use submission::Submission;
pub use table::table;
