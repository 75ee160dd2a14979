//! The keys of alarms.

use schemars::JsonSchema;
use serde::Deserialize;

/// When training on rewards is said to go wrong: a warning, `alarm/…` in the metrics and a line on the run's page, told
/// once until it has been quiet for a window. A bound of 0 is off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlarmsWire {
    /// Whether an alarm ends the run, after saving, with exit code 1. `--resume` goes on in spite of it.
    pub stop: Option<bool>,
    /// Logged steps that a number is averaged over before it is looked at. The first so many steps are what later ones are
    /// compared with.
    pub window: Option<usize>,
    /// Least entropy of the policy, in nats a token.
    pub min_entropy: Option<f64>,
    /// Least entropy as a share of what it was at first.
    pub min_entropy_share: Option<f64>,
    /// Factor by which the mean length of completions may grow or shrink.
    pub max_length_factor: Option<f64>,
    /// Largest share of completions that are cut off for length.
    pub max_truncated_share: Option<f64>,
    /// Logged steps in a row in which no group has rewards that differ.
    pub max_flat_steps: Option<usize>,
    /// Largest divergence from the reference (`kl`), which is measured where `beta` is above 0.
    pub max_kl: Option<f64>,
    /// Most that the mean reward may fall below its best.
    pub max_reward_fall: Option<f64>,
    /// Reward hacking: the mean reward of a task and dataset has risen by this much since the first steps, and its raw metric
    /// has fallen by as much.
    pub hacking_margin: Option<f64>,
}
