//! SAPO: a soft gate in place of the clip.

use burn::tensor::backend::Backend;

use super::{Level, Metric, Objective, TokenBatch, TokenLosses};

/// `-(4 / τ) · sigmoid(τ · (ratio - 1)) · A` per token: its slope in the ratio is 1 at 1 and fades on both sides.
///
/// Source: Gao et al. 2025 (Soft Adaptive Policy Optimization).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sapo {
    /// τ of advantages above 0.
    pub temperature_pos: f64,
    /// τ of all others; larger fades sooner.
    pub temperature_neg: f64,
    /// Whose ratio it is.
    pub level: Level,
}

impl Default for Sapo {
    /// The paper's temperatures.
    fn default() -> Self {
        Self { temperature_pos: 1.0, temperature_neg: 1.05, level: Level::Token }
    }
}

impl<B: Backend> Objective<B> for Sapo {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let ratio = self.level.ratio(batch);
        let temperature = batch
            .is_positive()
            .mul_scalar(self.temperature_pos - self.temperature_neg)
            .add_scalar(self.temperature_neg);
        // Written out, so that it stays in the tensors' own precision; a ratio is at least 0, so the exponent is small.
        let gate = (ratio.clone().sub_scalar(1.0) * temperature.clone()).neg().exp().add_scalar(1.0).recip();
        let deviation = ratio.detach().sub_scalar(1.0).abs();
        TokenLosses {
            losses: (gate * (batch.advantages.clone().mul_scalar(4.0) / temperature)).neg(),
            metrics: vec![Metric { name: "importance_ratio_deviation", per: self.level, values: deviation }],
        }
    }
}
