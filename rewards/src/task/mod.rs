//! Rewards of single tasks, one file each, for group-relative training.
//!
//! The paper names the metric of a task but not how surplus, missing or misplaced answers are charged, nor what the format
//! factor is; each file says what is chosen here and why. TAG and STG are here; the other tasks each get their file.

pub mod format;
pub mod stg;
pub mod tag;

#[cfg(test)]
pub(crate) mod contract;

use medgrpo_datasets::TaskSample;

use crate::RewardError;

/// The error for a sample whose gold is not of the kind a reward needs.
fn wrong_gold(sample: &TaskSample, needed: &str) -> RewardError {
    RewardError::NoReward {
        row: sample.row,
        source_name: sample.source.to_string(),
        task: sample.task.to_string(),
        message: format!(
            "the record holds no {needed}: train on records with ground truth, or leave this task out"
        ),
    }
}
