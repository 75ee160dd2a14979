//! The bounds of alarms.

use super::Judge;
use crate::config::resolved::Alarms;

impl Judge {
    pub(super) fn alarms(&mut self, alarms: &Alarms) {
        self.at_least("alarms.window", alarms.window, 1);
        for (name, share) in [
            ("min_entropy_share", alarms.min_entropy_share),
            ("max_truncated_share", alarms.max_truncated_share),
        ] {
            let fits = (0.0..1.0).contains(&share);
            self.number(&format!("alarms.{name}"), share, fits, "0 (off) or above, and below 1");
        }
        for (name, bound) in [
            ("min_entropy", alarms.min_entropy),
            ("max_kl", alarms.max_kl),
            ("max_reward_fall", alarms.max_reward_fall),
            ("hacking_margin", alarms.hacking_margin),
        ] {
            self.number(&format!("alarms.{name}"), bound, bound >= 0.0, "0 (off) or above");
        }
        let factor = alarms.max_length_factor;
        self.number("alarms.max_length_factor", factor, factor == 0.0 || factor > 1.0, "0 (off) or above 1");
    }
}
