//! Putting rewards of different datasets, tasks and components on one scale.
//!
//! MedGRPO's first idea and its rivals: a [`Normaliser`] turns the measured values of one group into comparable ones.
//! [`Tabled`] applies a curve ([`MedianLogistic`], [`MinMax`], [`ZScore`], [`Rank`]) with what a [`Calibration`] of the SFT
//! model says of the pair. [`GroupZScore`] looks at the group alone, [`RunningStd`] at what was seen so far.
//!
//! Groups' z-score advantages cancel any affine map of a group's rewards, so [`MinMax`] and [`ZScore`] change such a
//! method only where several components are added up; a curved map changes it everywhere.

pub mod calibration;
pub mod group_z_score;
pub mod median_logistic;
pub mod min_max;
pub mod rank;
pub mod reference;
pub mod running_std;
pub mod tabled;
pub mod z_score;

#[cfg(test)]
mod contract;

use std::fmt;

use medgrpo_datasets::{SourceId, TaskKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use calibration::{Calibration, Distribution};
pub use group_z_score::GroupZScore;
pub use median_logistic::MedianLogistic;
pub use min_max::MinMax;
pub use rank::Rank;
pub use reference::{Reference, Unseen};
pub use running_std::RunningStd;
pub use tabled::{Curve, Tabled};
pub use z_score::ZScore;

use crate::RewardError;

/// Whose values are normalised together: a component of a task on a dataset.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair {
    /// The dataset; [`Pair::ALL`] for all of them together.
    pub dataset: String,
    /// The task.
    #[serde(with = "task_key")]
    pub task: TaskKind,
    /// The component of the task's reward.
    pub component: String,
}

/// Tasks under the short names that configs and tables use.
mod task_key {
    use medgrpo_datasets::TaskKind;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(task: &TaskKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(task.key())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TaskKind, D::Error> {
        let key = String::deserialize(deserializer)?;
        TaskKind::from_key(&key).ok_or_else(|| D::Error::custom(format!("`{key}` is no task")))
    }
}

impl Pair {
    /// The name that stands for all datasets.
    pub const ALL: &str = "*";

    /// The pair of these three.
    pub fn new(dataset: &SourceId, task: TaskKind, component: &str) -> Self {
        Self { dataset: dataset.to_string(), task, component: component.to_owned() }
    }

    /// The same component of the same task on all datasets together.
    #[must_use]
    pub fn on_all_datasets(&self) -> Self {
        Self { dataset: Self::ALL.to_owned(), ..self.clone() }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.dataset, self.task, self.component)
    }
}

/// Maps measured values to rewards.
///
/// What a normaliser learns while training it learns between steps only, and from all values of a step whatever their
/// order, so that neither threads nor a resumed run change a number.
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

    /// Takes in what was measured since the last call: to be called once after all groups of a step.
    fn end_step(&self) {}

    /// What it has learned, for a checkpoint.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from a checkpoint's [`state`](Self::state).
    ///
    /// # Errors
    ///
    /// If the state is not this normaliser's.
    fn restore(&self, state: &Value) -> Result<(), RewardError> {
        let _ = state;
        Ok(())
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
