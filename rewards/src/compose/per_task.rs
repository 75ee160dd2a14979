//! Sends every sample to the reward of its task.

use std::collections::BTreeMap;

use medgrpo_datasets::{TaskKind, TaskSample};

use crate::{Response, Reward, RewardError, Score};

/// One reward a task; a sample of a task without one is an error, because a silent 0 would look like a bad answer.
#[derive(Default)]
pub struct PerTask {
    rewards: BTreeMap<TaskKind, Box<dyn Reward>>,
}

impl PerTask {
    /// No rewards yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the reward of a task.
    #[must_use]
    pub fn with(mut self, task: TaskKind, reward: impl Reward + 'static) -> Self {
        self.rewards.insert(task, Box::new(reward));
        self
    }

    /// Whether the task has a reward: what a data set for training should be restricted to.
    pub fn covers(&self, task: TaskKind) -> bool {
        self.rewards.contains_key(&task)
    }

    /// The tasks with a reward.
    pub fn tasks(&self) -> impl Iterator<Item = TaskKind> + '_ {
        self.rewards.keys().copied()
    }
}

impl Reward for PerTask {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Some(reward) = self.rewards.get(&sample.task) else {
            let known: Vec<&str> = self.tasks().map(TaskKind::key).collect();
            return Err(RewardError::NoReward {
                row: sample.row,
                source_name: sample.source.to_string(),
                task: sample.task.to_string(),
                message: format!(
                    "no reward is set for this task; restrict the training data to {}, or set one",
                    if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
                ),
            });
        };
        reward.score_group(sample, responses)
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::Gold;

    use super::*;
    use crate::task::{contract::sample, stg::StgReward, tag::TagReward};

    #[test]
    fn a_task_without_reward_is_an_error_that_says_what_to_do() {
        let reward = PerTask::new().with(TaskKind::Tag, TagReward::default()).with(TaskKind::Stg, StgReward);
        assert!(reward.covers(TaskKind::Tag) && !reward.covers(TaskKind::Cvs));
        let sample = sample(TaskKind::NextAction, Gold::Class("tying".into()));
        let error = reward.score_group(&sample, &[]).expect_err("next action has no reward here").to_string();
        assert!(error.contains("task nap") && error.contains("tag, stg"), "{error}");
    }
}
