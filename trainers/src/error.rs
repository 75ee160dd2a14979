//! What stops a training run.

use std::path::{Path, PathBuf};

use medgrpo_datasets::DatasetError;
use medgrpo_model::{ModelError, processor::ProcessorError};
use medgrpo_rewards::RewardError;

/// A reason why training cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The model refused an input or a checkpoint.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The processor refused a sample.
    #[error("{origin}: {source}")]
    Processor {
        /// Which sample: file and row.
        origin: String,
        /// Why.
        source: ProcessorError,
    },
    /// A sample or its media cannot be read.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// A reward failed on our side.
    #[error(transparent)]
    Reward(#[from] RewardError),
    /// A sample cannot be trained on.
    #[error("{origin}: {message}")]
    Sample {
        /// Which sample: file and row.
        origin: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The loss or its gradient is not a finite number; the model is still that of the step before.
    #[error("step {step}: {what} is {value}{}; `--resume` goes on from the last checkpoint", told(batch.as_deref()))]
    NotFinite {
        /// The step that failed, from 1.
        step: usize,
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Where the step's batch lies to be looked at.
        batch: Option<PathBuf>,
    },
    /// Too few groups have anything to compare, however often prompts were drawn.
    #[error("step {step}: {message}")]
    NoSignal {
        /// The step that could not be made, from 1.
        step: usize,
        /// What was dropped by task and dataset, and what to do.
        message: String,
    },
    /// A checkpoint cannot be written or read.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The part of the program that watches the training failed.
    #[error("{0}")]
    Observer(String),
}

/// Where a batch lies, as the end of a clause.
fn told(batch: Option<&Path>) -> String {
    batch.map_or_else(String::new, |dir| format!(", its batch is in {}", dir.display()))
}

impl TrainError {
    /// A number of a step whose batch nobody has kept so far.
    pub(crate) fn not_finite(step: usize, what: &'static str, value: f64) -> Self {
        Self::NotFinite { step, what, value, batch: None }
    }

    /// The same, with the place where the batch was kept.
    pub(crate) fn kept_in(self, kept: Option<PathBuf>) -> Self {
        match self {
            Self::NotFinite { step, what, value, .. } => Self::NotFinite { step, what, value, batch: kept },
            other => other,
        }
    }

    /// What is wrong with a sample, for those who say themselves which it is.
    pub fn without_origin(&self) -> String {
        match self {
            Self::Sample { message, .. } => message.clone(),
            Self::Processor { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }
}
