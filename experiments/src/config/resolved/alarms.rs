//! The alarms, every default filled in.

use serde::Serialize;

/// When training on rewards is said to go wrong; a bound of 0 is off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Alarms {
    pub stop: bool,
    pub window: usize,
    pub min_entropy: f64,
    pub min_entropy_share: f64,
    pub max_length_factor: f64,
    pub max_truncated_share: f64,
    pub max_flat_steps: usize,
    pub max_kl: f64,
    pub max_reward_fall: f64,
    pub hacking_margin: f64,
}
