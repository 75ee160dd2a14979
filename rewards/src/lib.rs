//! Text in, number out: answer parsers, the benchmark's metrics, and rewards built on both.
//!
//! Rewards are pure functions of a sample and the responses to it; only a [`judge`] may ask a server, through [`chat`].
//! Model text is untrusted: whatever it holds gives a low score, never an error or a panic; an `Err` means that our side
//! broke.
//!
//! [`parse`] reads answers, [`metric`] compares them with the truth, [`task`] and [`compose`] make rewards of that,
//! [`leaderboard`] makes the benchmark's table of it, and [`audit`] shows what a reward pays for tricks.

pub mod answer;
pub mod audit;
pub mod chat;
pub mod compose;
pub mod embed;
pub mod judge;
pub mod leaderboard;
pub mod metric;
pub mod parse;
pub mod task;

/// Compiles and runs the reward of the how-to page.
#[cfg(doctest)]
#[doc = include_str!("../../docs/how-to/add-a-reward.md")]
mod how_to {}

/// The fuzz targets' code names this crate from outside; the test of their corpus compiles it inside.
#[cfg(test)]
extern crate self as medgrpo_rewards;
#[cfg(test)]
mod fuzz_corpus;

pub use answer::canonical_answer;
pub use compose::PerTask;

use std::{borrow::Cow, sync::Arc};

use medgrpo_datasets::TaskSample;

/// One completion as a reward sees it.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The decoded text, special tokens removed.
    pub text: &'a str,
    /// Its length in tokens.
    pub num_tokens: usize,
    /// Whether it ended for lack of budget rather than with a stop token.
    pub truncated: bool,
}

/// The named parts a score was made of, for metrics and rollout files.
pub type Parts = Vec<(Cow<'static, str>, f32)>;

/// What a reward says of one response.
#[derive(Clone, Debug, PartialEq)]
pub enum Score {
    /// It could be judged.
    Scored {
        /// The reward.
        value: f32,
        /// The task's raw metric before any shaping: what filters look at.
        raw: f32,
        /// What it was made of.
        parts: Parts,
    },
    /// It could not be judged, for a reason that is not the response's fault: masked out of its group, never 0.
    Unscored(String),
}

/// Our own failure to score; a bad response is a low [`Score`] instead.
#[derive(Debug, thiserror::Error)]
pub enum RewardError {
    /// No reward is defined for a sample of this kind.
    #[error("row {row} ({source_name}, task {task}): {message}")]
    NoReward {
        /// Row of the sample.
        row: usize,
        /// Its source.
        source_name: String,
        /// Its task.
        task: String,
        /// What to do.
        message: String,
    },
    /// A pair of dataset and task has no scale.
    #[error(
        "no calibration of {pair}: {count} value{} where {needed} are needed; calibrate on records of it, or let \
         `normalization.unseen` name a fallback",
        if *count == 1 { "" } else { "s" }
    )]
    NotCalibrated {
        /// Dataset, task and component.
        pair: String,
        /// Values that the calibration holds of it.
        count: usize,
        /// Values it must hold.
        needed: usize,
    },
    /// What a normalisation has learned cannot be used.
    #[error("{0}")]
    State(String),
    /// The judge cannot go on.
    #[error("the judge: {0}")]
    Judge(#[from] judge::JudgeError),
}

impl Score {
    /// A score that is the raw metric itself, in no parts.
    pub fn metric(value: f32) -> Self {
        Self::Scored { value, raw: value, parts: Parts::new() }
    }
}

/// Scores all responses to one prompt together.
pub trait Reward: Send + Sync {
    /// One [`Score`] per response, in order.
    fn score_group(&self, sample: &TaskSample, responses: &[Response<'_>])
    -> Result<Vec<Score>, RewardError>;
}

/// A shared reward is a reward.
impl<R: Reward + ?Sized> Reward for Arc<R> {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        (**self).score_group(sample, responses)
    }
}

/// A boxed reward is a reward.
impl<R: Reward + ?Sized> Reward for Box<R> {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        (**self).score_group(sample, responses)
    }
}
