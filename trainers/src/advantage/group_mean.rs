//! GRPO's advantage: distance from the mean of the group, in units of a standard deviation.

use super::{Advantage, Deviation, Payment, Statistics, totals};

/// What a reward's distance from its group's mean is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The group's standard deviation.
    Group,
    /// The whole batch's standard deviation.
    Batch,
    /// Nothing (Dr. GRPO, Liu et al. 2025).
    None,
}

/// `(reward - mean of the group) / (scale + epsilon)`.
///
/// Sources: Shao et al. 2024 (`DeepSeekMath`), eq. 3; TRL 1.16 `GRPOTrainer` (`scale_rewards`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupMean {
    /// The denominator.
    pub scale: Scale,
    /// Keeps near-constant groups from blowing up.
    pub epsilon: f64,
    /// Which standard deviation.
    pub deviation: Deviation,
}

impl GroupMean {
    /// TRL's epsilon.
    pub const TRL_EPSILON: f64 = 1e-4;
    /// verl's and EasyR1's.
    pub const VERL_EPSILON: f64 = 1e-6;

    /// TRL's GRPO with this `scale_rewards`.
    pub fn trl(scale: Scale) -> Self {
        Self { scale, epsilon: Self::TRL_EPSILON, deviation: Deviation::Sample }
    }

    /// verl's and EasyR1's GRPO.
    pub fn verl(scale: Scale) -> Self {
        Self { epsilon: Self::VERL_EPSILON, ..Self::trl(scale) }
    }

    /// Mean of each group, with the deviation that its rewards are seen against: the batch's under [`Scale::Batch`],
    /// else its own.
    pub fn statistics(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Statistics> {
        let groups: Vec<_> = groups.iter().map(|group| totals(group)).collect();
        let batch = Statistics::of(groups.iter().flatten(), self.deviation);
        let of_group = |group: &Vec<Option<f64>>| {
            let own = Statistics::of(group, self.deviation);
            if self.scale == Scale::Batch { Statistics { std: batch.std, ..own } } else { own }
        };
        groups.iter().map(of_group).collect()
    }
}

impl Advantage for GroupMean {
    fn advantages(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Vec<f64>> {
        let of_group = |(group, statistics): (&Vec<Option<Payment>>, Statistics)| {
            let advantage = |payment: &Option<Payment>| {
                payment.as_ref().map_or(0.0, |payment| match self.scale {
                    Scale::None => payment.total - statistics.mean,
                    Scale::Group | Scale::Batch => statistics.normalise(payment.total, self.epsilon),
                })
            };
            group.iter().map(advantage).collect()
        };
        groups.iter().zip(self.statistics(groups)).map(of_group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(rewards: &[f64]) -> Vec<Option<Payment>> {
        rewards.iter().map(|reward| Some(Payment { total: *reward, parts: Vec::new() })).collect()
    }

    fn one_group(scale: Scale, rewards: &[f64]) -> Vec<f64> {
        GroupMean::trl(scale).advantages(&[paid(rewards)]).remove(0)
    }

    #[test]
    fn group_scale_by_hand() {
        // Mean 1/4, deviation with Bessel's correction 1/2: 0.75 / 0.5001 and -0.25 / 0.5001.
        let advantages = one_group(Scale::Group, &[1.0, 0.0, 0.0, 0.0]);
        assert!((advantages[0] - 0.75 / 0.5001).abs() < 1e-12, "{advantages:?}");
        assert!((advantages[1] + 0.25 / 0.5001).abs() < 1e-12, "{advantages:?}");
    }

    #[test]
    fn population_deviation_by_hand() {
        // The same group's deviation over its count is sqrt(3)/4.
        let rule = GroupMean { deviation: Deviation::Population, ..GroupMean::verl(Scale::Group) };
        let advantages = rule.advantages(&[paid(&[1.0, 0.0, 0.0, 0.0])]).remove(0);
        assert!((advantages[0] - 0.75 / (3.0_f64.sqrt() / 4.0 + 1e-6)).abs() < 1e-12, "{advantages:?}");
    }

    #[test]
    fn no_scale_is_the_plain_distance() {
        assert_eq!(one_group(Scale::None, &[1.0, 0.0, 0.5, 0.5]), [0.5, -0.5, 0.0, 0.0]);
    }

    #[test]
    fn noise_on_a_constant_group_stays_small() {
        let advantages = one_group(Scale::Group, &[0.5, 0.5 + 1e-7, 0.5, 0.5 + 1e-7]);
        assert!(advantages.iter().all(|advantage| advantage.abs() < 2e-3), "{advantages:?}");
    }

    #[test]
    fn batch_scale_shares_one_deviation() {
        let advantages = GroupMean::trl(Scale::Batch).advantages(&[paid(&[1.0, 0.0]), paid(&[0.2, 0.0])]);
        let ratio = advantages[0][0] / advantages[1][0];
        assert!((ratio - 5.0).abs() < 1e-9, "{advantages:?}");
    }

    #[test]
    fn affine_changes_of_a_group_change_nothing() {
        let base = one_group(Scale::Group, &[0.1, 0.7, 0.3]);
        let scaled = one_group(Scale::Group, &[10.3, 12.1, 10.9]);
        for (a, b) in base.iter().zip(scaled) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}
