//! The clipped surrogate of PPO as GRPO, DAPO and GSPO use it.

use burn::tensor::backend::Backend;

use super::{Level, Metric, Objective, TokenBatch, TokenLosses};

/// `-min(ratio · A, clip(ratio, 1 - epsilon, 1 + epsilon_high) · A)` per token.
///
/// Sources: Schulman et al. 2017, eq. 7; DAPO (Yu et al. 2025), eq. 8 for the two bounds; GSPO (Zheng et al. 2025)
/// for the ratio of a sequence; TRL's `GRPOTrainer` for `delta` and the metrics; Ye et al. 2020 for the dual clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// How far the ratio may fall below 1.
    pub epsilon: f64,
    /// How far it may rise above 1.
    pub epsilon_high: f64,
    /// Whose ratio it is.
    pub level: Level,
    /// Most that an unclipped ratio may be: bounds the loss of negative advantages, whose tokens then stop learning.
    pub delta: Option<f64>,
    /// The same bound as verl and EasyR1 have it: the loss of a negative advantage is at most this times `-A`.
    pub clip_ratio_c: Option<f64>,
}

impl Default for Clip {
    /// TRL's: 0.2 either way per token.
    fn default() -> Self {
        Self { epsilon: 0.2, epsilon_high: 0.2, level: Level::Token, delta: None, clip_ratio_c: None }
    }
}

impl<B: Backend> Objective<B> for Clip {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let ratio = self.level.ratio(batch);
        let (low, high) = (1.0 - self.epsilon, 1.0 + self.epsilon_high);
        let advantages = batch.advantages.clone();
        let clipped = ratio.clone().clamp(low, high) * advantages.clone();
        let ratio = match self.delta {
            Some(delta) => ratio.clamp_max(delta),
            None => ratio,
        };
        let losses = (ratio.clone() * advantages.clone()).min_pair(clipped).neg();

        let ratio = ratio.detach();
        let clipped_low = batch.indicator(ratio.clone().lower_elem(low)) * batch.is_negative();
        let clipped_high = batch.indicator(ratio.clone().greater_elem(high)) * batch.is_positive();
        let metric = |name, values| Metric { name, per: self.level, values };
        let mut metrics = vec![
            metric("clip_ratio/region_mean", clipped_low.clone() + clipped_high.clone()),
            metric("clip_ratio/low_mean", clipped_low),
            metric("clip_ratio/high_mean", clipped_high),
            metric("importance_ratio_deviation", ratio.sub_scalar(1.0).abs()),
        ];
        let Some(c) = self.clip_ratio_c else {
            return TokenLosses { losses, metrics };
        };
        // Losses of positive advantages are never above 0, so that the bound, never below 0, touches none of them.
        let bound = advantages.abs().mul_scalar(c).expand(losses.dims());
        let beyond = batch.indicator(losses.clone().detach().greater(bound.clone()));
        metrics.push(metric("clip_ratio/dual_mean", beyond));
        TokenLosses { losses: losses.min_pair(bound), metrics }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::testing::{Outcome, Rows, alone, outcome};

    /// Loss and gradient of one token whose ratio is `ratio`.
    fn token(clip: Clip, ratio: f64, advantage: f64) -> Outcome {
        let rows = Rows::token(ratio.ln() - 1.0, -1.0, advantage);
        outcome(&alone(clip), &rows, rows.totals(), DType::F64)
    }

    #[track_caller]
    fn assert_token(outcome: &Outcome, loss: f64, gradient: f64) {
        assert!((outcome.loss - loss).abs() < 1e-12, "{outcome:?}");
        assert!((outcome.gradient[0] - gradient).abs() < 1e-12, "{outcome:?}");
    }

    #[test]
    fn the_four_corners_by_hand() {
        let clip = Clip { epsilon: 0.2, epsilon_high: 0.3, ..Clip::default() };
        assert_token(&token(clip, 1.4, 2.0), -2.6, 0.0);
        assert_token(&token(clip, 0.5, 2.0), -1.0, -1.0);
        assert_token(&token(clip, 1.4, -2.0), 2.8, 2.8);
        assert_token(&token(clip, 0.5, -2.0), 1.6, 0.0);
        let metrics = token(clip, 1.4, 2.0).metrics;
        assert_eq!((metrics["clip_ratio/high_mean"], metrics["clip_ratio/low_mean"]), (1.0, 0.0));
        let metrics = token(clip, 0.5, -2.0).metrics;
        assert_eq!((metrics["clip_ratio/low_mean"], metrics["clip_ratio/region_mean"]), (1.0, 1.0));
    }

    #[test]
    fn delta_bounds_the_loss_of_negative_advantages_alone() {
        let clip = Clip { delta: Some(1.5), ..Clip::default() };
        assert_token(&token(clip, 4.0, -2.0), 3.0, 0.0);
        assert_token(&token(clip, 1.4, -2.0), 2.8, 2.8);
        assert_token(&token(clip, 4.0, 2.0), -2.4, 0.0);
        assert_token(&token(Clip::default(), 4.0, -2.0), 8.0, 8.0);
    }

    #[test]
    fn dual_clip_bounds_the_loss_of_negative_advantages_alone() {
        let clip = Clip { clip_ratio_c: Some(3.0), ..Clip::default() };
        assert_token(&token(clip, 4.0, -2.0), 6.0, 0.0);
        assert_eq!(token(clip, 4.0, -2.0).metrics["clip_ratio/dual_mean"], 1.0);
        assert_token(&token(clip, 2.0, -2.0), 4.0, 4.0);
        assert_eq!(token(clip, 2.0, -2.0).metrics["clip_ratio/dual_mean"], 0.0);
        for ratio in [0.1, 1.0, 4.0] {
            let plain = token(Clip::default(), ratio, 2.0);
            assert_token(&token(clip, ratio, 2.0), plain.loss, plain.gradient[0]);
        }
    }

    #[test]
    fn a_sequence_has_the_geometric_mean_of_its_ratios() {
        let mut rows = Rows::token(0.0, 0.0, 1.0);
        rows.log_probs = vec![vec![-1.0, -1.0, 9.0]];
        rows.old = Some(vec![vec![-1.1, -1.3, -9.0]]);
        rows.entropy = vec![vec![1.0; 3]];
        rows.mask = crate::loss_mask::LossMask::from_rows(&[vec![true, true, false]]);
        let clip = Clip { epsilon_high: 1.0, level: Level::Sequence, ..Clip::default() };
        let outcome = outcome(&alone(clip), &rows, rows.totals(), DType::F64);
        // Two tokens, each with the loss -exp((0.1 + 0.3) / 2).
        let ratio = 0.2_f64.exp();
        assert!((outcome.loss + 2.0 * ratio).abs() < 1e-12, "{outcome:?}");
        assert!((outcome.gradient[0] + ratio).abs() < 1e-12, "{outcome:?}");
        assert_eq!(outcome.gradient[2], 0.0);
    }
}
