//! Putting rewards of different datasets, tasks and components on one scale.
//!
//! MedGRPO's first idea and its rivals: a [`Normaliser`] turns the measured values of one group into comparable ones. The
//! table-based ones look a pair of dataset and task up in a [`Calibration`].

use std::fmt;

use medgrpo_datasets::{SourceId, TaskKind};

use crate::RewardError;

/// Whose values are normalised together: a component of a task on a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The dataset.
    pub dataset: String,
    /// The task.
    pub task: TaskKind,
    /// The component of the task's reward.
    pub component: String,
}

impl Pair {
    /// The pair of these three.
    pub fn new(dataset: &SourceId, task: TaskKind, component: &str) -> Self {
        Self { dataset: dataset.to_string(), task, component: component.to_owned() }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.dataset, self.task, self.component)
    }
}

/// Maps measured values to rewards.
pub trait Normaliser: Send + Sync {
    /// The rewards of one group's measured values, in order.
    ///
    /// # Errors
    ///
    /// If nothing is known of the pair and no fallback was chosen.
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError>;

    /// Whether values are left as they are.
    fn is_identity(&self) -> bool {
        false
    }
}

/// Leaves values as they are: what MedGRPO's ablation calls no normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity;

impl Normaliser for Identity {
    fn normalise(&self, _pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        Ok(measured.to_vec())
    }

    fn is_identity(&self) -> bool {
        true
    }
}
