//! The clipped surrogate of PPO as GRPO and DAPO use it.

use burn::tensor::backend::Backend;

use super::{Objective, TokenBatch, TokenLosses};

/// `-min(ratio · A, clip(ratio, 1 - epsilon, 1 + epsilon_high) · A)` per token.
///
/// Sources: Schulman et al. 2017, eq. 7; DAPO (Yu et al. 2025), eq. 8 for the two bounds; TRL's `GRPOTrainer` for the metrics.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// How far the ratio may fall below 1.
    pub epsilon: f64,
    /// How far it may rise above 1.
    pub epsilon_high: f64,
}

impl<B: Backend> Objective<B> for Clip {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let ratio = (batch.log_probs.clone() - batch.old_log_probs.clone()).exp();
        let (low, high) = (1.0 - self.epsilon, 1.0 + self.epsilon_high);
        let advantages = batch.advantages.clone();
        let free = ratio.clone() * advantages.clone();
        let clipped = ratio.clone().clamp(low, high) * advantages.clone();

        let (detached, sign) = (ratio.detach(), advantages.sign());
        let clipped_low = detached.clone().lower_elem(low).float() * sign.clone().lower_elem(0.0).float();
        let clipped_high = detached.clone().greater_elem(high).float() * sign.greater_elem(0.0).float();
        let metrics = vec![
            ("clip_ratio/low_mean", clipped_low),
            ("clip_ratio/high_mean", clipped_high),
            ("importance_ratio_deviation", detached.sub_scalar(1.0).abs()),
        ];
        TokenLosses { losses: free.min_pair(clipped).neg(), metrics }
    }
}
