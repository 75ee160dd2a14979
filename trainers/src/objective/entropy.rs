//! A bonus for staying undecided.

use burn::tensor::backend::Backend;

use super::{Objective, TokenBatch, TokenLosses, weight::TopEntropy};

/// Minus the entropy of the policy at each token.
///
/// Source: Mnih et al. 2016 (A3C); TRL's `entropy_coef`, whose mean over tokens is independent of how the
/// policy's loss is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EntropyBonus {
    /// Only these tokens, whose mean then takes the place of the mean over all.
    pub top: Option<TopEntropy>,
}

impl<B: Backend> Objective<B> for EntropyBonus {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let losses = batch.entropy().neg();
        let losses = match self.top {
            None => losses,
            Some(top) => {
                let kept = top.kept(batch);
                let scale = batch.loss_mask.num_tokens() as f64 / kept.num_tokens().max(1) as f64;
                losses * kept.tensor(batch.dtype(), &batch.log_probs.device()).mul_scalar(scale)
            }
        };
        TokenLosses { losses, metrics: Vec::new() }
    }

    fn needs_entropy_gradient(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, activation::log_softmax};

    use super::*;
    use crate::{
        loss::{Loss, loss},
        loss_mask::LossMask,
        testing::{Rows, alone, numbers, outcome, tensor},
    };

    #[test]
    fn the_gradient_reaches_the_logits() {
        let logits = [0.3, -1.2, 2.0, 0.1];
        let rows = Rows::token(-1.0, -1.0, 1.0);
        let leaf = tensor(&logits, [1, 4], DType::F32).require_grad();
        let log_probs = log_softmax(leaf.clone(), 1);
        let entropy = (log_probs.clone().exp() * log_probs).sum_dim(1).neg();
        let batch = TokenBatch { entropy: Some(entropy), ..rows.batch(DType::F32) };
        let Loss { loss, .. } = loss(&alone(EntropyBonus::default()), &batch, rows.totals());
        let gradient = numbers(leaf.grad(&loss.backward()).unwrap());
        // d(-H)/dz = p · (log p + H).
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        let probs = logits.map(|logit| logit.exp() / sum);
        let entropy: f64 = probs.iter().map(|p| -p * p.ln()).sum();
        for (ours, p) in gradient.iter().zip(probs) {
            assert!((ours - p * (p.ln() + entropy)).abs() < 1e-6, "{gradient:?}");
        }
        assert!(gradient.iter().any(|it| it.abs() > 0.01), "{gradient:?}");
    }

    #[test]
    fn of_the_top_tokens_it_is_their_own_mean() {
        let rows = Rows {
            log_probs: vec![vec![-1.0; 4]],
            old: None,
            entropy: vec![vec![0.1, 0.9, 0.5, 0.7]],
            mask: LossMask::from_lens(&[4]),
            ..Rows::token(0.0, 0.0, 1.0)
        };
        let top = Some(TopEntropy { top_entropy_quantile: 0.5 });
        let outcome = outcome(&alone(EntropyBonus { top }), &rows, rows.totals(), DType::F64);
        // The sum of four losses whose mean is that of 0.9 and 0.7.
        assert!((outcome.loss + 4.0 * 0.8).abs() < 1e-12, "{outcome:?}");
        assert_eq!(outcome.entropy_gradient, [0.0, -2.0, 0.0, -2.0]);
    }
}
