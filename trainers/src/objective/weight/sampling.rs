//! Completions drawn by another engine than the policy: truncated importance sampling.

use burn::tensor::{Tensor, backend::Backend};

use super::TokenWeight;
use crate::objective::{Level, Metric, TokenBatch};

/// What becomes of a ratio beyond its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// It counts as the bound.
    Truncate,
    /// What has it is left out.
    Mask,
}

/// The ratio old policy / engine, bounded.
///
/// Sources: Yao et al. 2025 (truncated importance sampling); TRL's `vllm_importance_sampling_mode`, `_clip_max`, `_clip_min`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncatedImportance {
    /// The ratio of a token, or of a sequence: the product over its tokens.
    pub level: Level,
    /// What becomes of a ratio beyond the bounds.
    pub beyond: Beyond,
    /// Least ratio, if any.
    pub clip_min: Option<f64>,
    /// Largest ratio.
    pub clip_max: f64,
}

impl Default for TruncatedImportance {
    /// TRL's `sequence_mask` at 3.
    fn default() -> Self {
        Self { level: Level::Sequence, beyond: Beyond::Mask, clip_min: None, clip_max: 3.0 }
    }
}

impl TruncatedImportance {
    /// The bounded ratio, `[sequences, tokens]` or `[sequences, 1]`, and what to report of it; `None` where the policy itself
    /// drew the completions.
    pub(crate) fn ratio<B: Backend>(&self, batch: &TokenBatch<B>) -> Option<(Tensor<B, 2>, Vec<Metric<B>>)> {
        let difference = batch.sampling_difference()?;
        let unbounded = match self.level {
            Level::Token => difference.exp(),
            Level::Sequence => difference.sum_dim(1).exp(),
        };
        let ratio = self.bounded(unbounded.clone());
        let changed = batch.indicator(ratio.clone().not_equal(unbounded));
        let metric = |name, values| Metric { name, per: self.level, values };
        let metrics = vec![
            metric("sampling/importance_sampling_ratio/mean", ratio.clone()),
            metric("sampling/importance_sampling_ratio/out_of_bounds", changed),
        ];
        Some((ratio, metrics))
    }

    fn bounded<B: Backend>(&self, ratio: Tensor<B, 2>) -> Tensor<B, 2> {
        match self.beyond {
            Beyond::Truncate => {
                let ratio = ratio.clamp_max(self.clip_max);
                self.clip_min.map_or(ratio.clone(), |min| ratio.clamp_min(min))
            }
            Beyond::Mask => {
                let outside = ratio.clone().greater_elem(self.clip_max);
                let outside = match self.clip_min {
                    Some(min) => outside.bool_or(ratio.clone().lower_elem(min)),
                    None => outside,
                };
                ratio.mask_fill(outside, 0.0)
            }
        }
    }
}

impl<B: Backend> TokenWeight<B> for TruncatedImportance {
    fn weights(&self, batch: &TokenBatch<B>) -> (Tensor<B, 2>, Vec<Metric<B>>) {
        self.ratio(batch).unwrap_or_else(|| (batch.advantages.ones_like(), Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::{
        loss_mask::LossMask,
        testing::{Rows, numbers},
    };

    /// Weights of a sequence of two real tokens with the ratios 2 and 3, and one that is not learned from.
    fn weights(rule: TruncatedImportance) -> Vec<f64> {
        let rows = Rows {
            log_probs: vec![vec![-1.0; 3]],
            old: Some(vec![vec![-1.0, -1.0, 50.0]]),
            sampling: Some(vec![vec![-1.0 - 2.0_f64.ln(), -1.0 - 3.0_f64.ln(), -50.0]]),
            entropy: vec![vec![1.0; 3]],
            mask: LossMask::from_rows(&[vec![true, true, false]]),
            ..Rows::token(0.0, 0.0, 1.0)
        };
        numbers(rule.weights(&rows.batch(DType::F64)).0.inner())
    }

    #[track_caller]
    fn assert_weights(level: Level, beyond: Beyond, clip_max: f64, expected: &[f64]) {
        let found = weights(TruncatedImportance { level, beyond, clip_min: None, clip_max });
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn bounds_by_hand() {
        assert_weights(Level::Token, Beyond::Truncate, 2.5, &[2.0, 2.5, 1.0]);
        assert_weights(Level::Token, Beyond::Mask, 2.5, &[2.0, 0.0, 1.0]);
        assert_weights(Level::Sequence, Beyond::Truncate, 2.5, &[2.5]);
        assert_weights(Level::Sequence, Beyond::Mask, 2.5, &[0.0]);
        assert_weights(Level::Sequence, Beyond::Mask, 7.0, &[6.0]);
        let rule = TruncatedImportance { level: Level::Token, clip_min: Some(2.5), ..Default::default() };
        assert_eq!(weights(rule)[0], 0.0);
        let rule = TruncatedImportance { beyond: Beyond::Truncate, clip_max: 9.0, ..rule };
        assert_eq!(weights(rule)[0], 2.5);
    }

    #[test]
    fn completions_of_the_policy_itself_weigh_one() {
        let batch = Rows::token(-1.0, -2.0, 0.5).batch(DType::F64);
        let (weights, metrics) = TruncatedImportance::default().weights(&batch);
        assert_eq!(numbers(weights.inner()), [1.0]);
        assert!(metrics.is_empty());
    }
}
