//! Bounds that a healthy run stays far within.

use crate::config::{resolved::Alarms, wire::AlarmsWire};

impl Alarms {
    pub(super) fn from_wire(wire: &AlarmsWire) -> Self {
        Self {
            stop: wire.stop.unwrap_or(false),
            window: wire.window.unwrap_or(10),
            min_entropy: wire.min_entropy.unwrap_or(0.005),
            min_entropy_share: wire.min_entropy_share.unwrap_or(0.1),
            max_length_factor: wire.max_length_factor.unwrap_or(3.0),
            max_truncated_share: wire.max_truncated_share.unwrap_or(0.5),
            max_flat_steps: wire.max_flat_steps.unwrap_or(10),
            max_kl: wire.max_kl.unwrap_or(1.0),
            max_reward_fall: wire.max_reward_fall.unwrap_or(0.3),
            hacking_margin: wire.hacking_margin.unwrap_or(0.1),
        }
    }
}
