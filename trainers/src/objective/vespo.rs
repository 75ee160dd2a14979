//! VESPO: sequences weigh by a smooth function of their importance ratio.

use burn::tensor::{Tensor, backend::Backend};

use super::{Level, Metric, Objective, TokenBatch, TokenLosses, weight::TruncatedImportance};

/// Bounds of a logarithm of a ratio, which keep its exponential finite in f32.
const MAX_LOG: f64 = 20.0;
/// `ln(1e-8)`, the smallest weight of a sequence.
const MIN_LOG_WEIGHT: f64 = -18.420_680_743_952_367;

/// The weight `φ(w) = w^k · exp(λ · (1 - w))`, which is 1 at 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gamma {
    /// Exponent: how fast a sequence that has become unlikely fades.
    pub k: f64,
    /// Rate: how fast one that has become likely fades.
    pub lambda: f64,
}

/// `-φ(w) · A · log policy` per token; `w`, the product of a sequence's token ratios, has no gradient.
///
/// Source: VESPO as TRL 1.16 has it (`loss_type = "vespo"`), with its bounds on the logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vespo {
    /// φ of advantages of 0 and above.
    pub positive: Gamma,
    /// φ of advantages below 0.
    pub negative: Gamma,
    /// Makes `w` the ratio to the engine that drew the completions, where that is not the policy.
    pub sampling: Option<TruncatedImportance>,
}

impl Default for Vespo {
    /// TRL's.
    fn default() -> Self {
        let gamma = |k, lambda| Gamma { k, lambda };
        Self { positive: gamma(2.0, 3.0), negative: gamma(3.0, 2.0), sampling: None }
    }
}

impl Vespo {
    /// φ of each sequence, `[sequences, 1]`, and what to report of the ratio to the engine.
    fn phi<B: Backend>(&self, batch: &TokenBatch<B>) -> (Tensor<B, 2>, Vec<Metric<B>>) {
        let mut log_weight = batch.log_ratio().detach().clamp(-MAX_LOG, MAX_LOG).sum_dim(1);
        let mut metrics = Vec::new();
        if let Some((ratio, reported)) = self.sampling.and_then(|sampling| sampling.ratio(batch)) {
            // A masked ratio is 0; its smallest logarithm then puts the weight out.
            log_weight = log_weight + ratio.log().clamp(MIN_LOG_WEIGHT, MAX_LOG).sum_dim(1);
            metrics = reported;
        }
        let log_weight = log_weight.clamp(MIN_LOG_WEIGHT, MAX_LOG);
        let k = batch.by_sign(self.negative.k, self.positive.k);
        let lambda = batch.by_sign(self.negative.lambda, self.positive.lambda);
        ((k * log_weight.clone() + lambda * log_weight.exp().neg().add_scalar(1.0)).exp(), metrics)
    }
}

impl<B: Backend> Objective<B> for Vespo {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let (phi, mut metrics) = self.phi(batch);
        let weight = phi.clone() * batch.advantages.clone();
        metrics.push(Metric { name: "vespo/phi_seq_mean", per: Level::Sequence, values: phi });
        TokenLosses { losses: (weight * batch.log_probs.clone()).neg(), metrics }
    }
}
