//! CISPO: the weight is clipped, the gradient is not.

use burn::tensor::backend::Backend;

use super::{Level, Metric, Objective, TokenBatch, TokenLosses};

/// `-min(ratio, max_ratio) · A · log policy` per token, the ratio without gradient: no token ever stops learning.
///
/// Source: MiniMax-M1 (Chen et al. 2025), without the lower bound, as TRL has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cispo {
    /// Most that the ratio counts; TRL calls it `epsilon_high`, though it is no distance from 1.
    pub max_ratio: f64,
    /// Whose ratio it is.
    pub level: Level,
}

impl<B: Backend> Objective<B> for Cispo {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let ratio = self.level.ratio(batch).detach();
        let clipped = batch.indicator(ratio.clone().greater_elem(self.max_ratio)) * batch.is_positive();
        let weight = ratio.clamp_max(self.max_ratio) * batch.advantages.clone();
        TokenLosses {
            losses: (weight * batch.log_probs.clone()).neg(),
            metrics: vec![Metric { name: "cispo_clip_ratio", per: self.level, values: clipped }],
        }
    }
}
