//! GRPO's advantage: distance from the mean of the group, in units of a standard deviation.
//!
//! Source: Shao et al. 2024 (`DeepSeekMath`), eq. 3 and TRL 1.16 `GRPOTrainer` (`scale_rewards`): standard deviations with
//! Bessel's correction, 1e-4 added to the denominator.

use super::Advantage;

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
#[derive(Clone, Copy, Debug)]
pub struct GroupMean {
    /// The denominator.
    pub scale: Scale,
    /// Keeps near-constant groups from blowing up.
    pub epsilon: f64,
}

impl GroupMean {
    /// TRL's epsilon.
    pub const TRL_EPSILON: f64 = 1e-4;

    /// TRL's GRPO with this `scale_rewards`.
    pub fn trl(scale: Scale) -> Self {
        Self { scale, epsilon: Self::TRL_EPSILON }
    }
}

impl Advantage for GroupMean {
    fn advantages(&self, rewards: &[Vec<Option<f32>>]) -> Vec<Vec<f32>> {
        let batch = statistics(rewards.iter().flatten());
        rewards
            .iter()
            .map(|group| {
                let own = statistics(group.iter());
                let denominator = match self.scale {
                    Scale::Group => own.std + self.epsilon,
                    Scale::Batch => batch.std + self.epsilon,
                    Scale::None => 1.0,
                };
                let advantage = |reward: &Option<f32>| {
                    reward.map_or(0.0, |reward| (f64::from(reward) - own.mean) / denominator)
                };
                group.iter().map(|reward| advantage(reward) as f32).collect()
            })
            .collect()
    }
}

struct Statistics {
    mean: f64,
    std: f64,
}

fn statistics<'a>(rewards: impl Iterator<Item = &'a Option<f32>>) -> Statistics {
    let rewards: Vec<f64> = rewards.flatten().map(|reward| f64::from(*reward)).collect();
    let count = rewards.len() as f64;
    let mean = if rewards.is_empty() { 0.0 } else { rewards.iter().sum::<f64>() / count };
    let squares: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    Statistics { mean, std: if rewards.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_group(scale: Scale, rewards: &[Option<f32>]) -> Vec<f32> {
        GroupMean::trl(scale).advantages(&[rewards.to_vec()]).remove(0)
    }

    #[test]
    fn group_scale_by_hand() {
        // Mean 1/4, deviation with Bessel's correction 1/2: 0.75 / 0.5001 and -0.25 / 0.5001.
        let advantages = one_group(Scale::Group, &[Some(1.0), Some(0.0), Some(0.0), Some(0.0)]);
        assert!((advantages[0] - 1.499_700_1).abs() < 1e-6, "{advantages:?}");
        assert!((advantages[1] + 0.4999).abs() < 1e-6, "{advantages:?}");
    }

    #[test]
    fn no_scale_is_the_plain_distance() {
        assert_eq!(
            one_group(Scale::None, &[Some(1.0), Some(0.0), Some(0.5), Some(0.5)]),
            [0.5, -0.5, 0.0, 0.0]
        );
    }

    #[test]
    fn noise_on_a_constant_group_stays_small() {
        let advantages = one_group(Scale::Group, &[Some(0.5), Some(0.5 + 1e-7), Some(0.5), Some(0.5 + 1e-7)]);
        assert!(advantages.iter().all(|advantage| advantage.abs() < 2e-3), "{advantages:?}");
    }

    #[test]
    fn unscored_completions_take_no_part() {
        let with = one_group(Scale::Group, &[Some(1.0), None, Some(0.0)]);
        let without = one_group(Scale::Group, &[Some(1.0), Some(0.0)]);
        assert_eq!([with[0], with[2]], [without[0], without[1]]);
        assert_eq!(with[1], 0.0);
        assert_eq!(one_group(Scale::Group, &[None, None]), [0.0, 0.0]);
    }

    #[test]
    fn batch_scale_shares_one_deviation() {
        let advantages = GroupMean::trl(Scale::Batch)
            .advantages(&[vec![Some(1.0), Some(0.0)], vec![Some(0.2), Some(0.0)]]);
        let ratio = advantages[0][0] / advantages[1][0];
        assert!((ratio - 5.0).abs() < 1e-4, "{advantages:?}");
    }

    #[test]
    fn affine_changes_of_a_group_change_nothing() {
        let base = one_group(Scale::Group, &[Some(0.1), Some(0.7), Some(0.3)]);
        let scaled = one_group(Scale::Group, &[Some(10.3), Some(12.1), Some(10.9)]);
        for (a, b) in base.iter().zip(scaled) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}
