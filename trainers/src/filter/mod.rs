//! Which groups are worth learning from.

mod zero_variance;

pub use zero_variance::ZeroVariance;

use crate::rollout::RolloutCompletion;

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is learned from.
    Keep,
    /// It is not, for this reason: a word for a metric's name.
    Drop(&'static str),
}

/// Keeps groups or drops them; a pure function of one group.
///
/// It sees the task's raw metric, never only the shaped reward: shaping can give a group of equally bad answers a spread
/// that no advantage should be made of.
pub trait GroupFilter: Send + Sync {
    /// What becomes of the group of these completions.
    fn verdict(&self, completions: &[RolloutCompletion]) -> Verdict;
}
