//! A leash to a frozen reference.

use burn::tensor::backend::Backend;

use super::{Level, Metric, Objective, TokenBatch, TokenLosses};

/// How a token's divergence from the reference is estimated, with `d = log ref - log policy` (Schulman 2020).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KlEstimator {
    /// `-d`: unbiased, of either sign; as a loss its gradient says nothing of the reference.
    K1,
    /// `d² / 2`: biased, its gradient is that of the divergence on fresh samples.
    K2,
    /// `exp(d) - d - 1`: unbiased, never below 0 (`DeepSeekMath`; Shao et al. 2024, eq. 4).
    K3,
}

/// The divergence from the reference as a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KlToReference {
    /// The estimator.
    pub estimator: KlEstimator,
    /// Weighs it with the importance ratio, gradient included, which makes it right for completions of an older policy
    /// (DeepSeek-V3.2; TRL's `use_bias_correction_kl`).
    pub bias_correction: Option<Level>,
}

impl Default for KlToReference {
    fn default() -> Self {
        Self { estimator: KlEstimator::K3, bias_correction: None }
    }
}

impl<B: Backend> Objective<B> for KlToReference {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let reference = batch
            .ref_log_probs
            .clone()
            .expect("the loop gives reference log-probabilities where a term needs them");
        let distance = (reference - batch.log_probs.clone()) * batch.mask.clone();
        let estimate = match self.estimator {
            KlEstimator::K1 => distance.neg(),
            KlEstimator::K2 => distance.clone() * distance.mul_scalar(0.5),
            KlEstimator::K3 => distance.clone().exp() - distance - 1.0,
        };
        let kl = match self.bias_correction {
            Some(level) => estimate * level.ratio(batch),
            None => estimate,
        };
        let metric = Metric { name: "kl", per: Level::Token, values: kl.clone().detach() };
        TokenLosses { losses: kl, metrics: vec![metric] }
    }

    fn needs_reference(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::testing::{Rows, alone, outcome};

    #[test]
    fn estimators_by_hand() {
        let distance = 0.5_f64;
        for (estimator, loss, gradient) in [
            (KlEstimator::K1, -distance, 1.0),
            (KlEstimator::K2, distance * distance / 2.0, -distance),
            (KlEstimator::K3, distance.exp() - distance - 1.0, 1.0 - distance.exp()),
        ] {
            let rows = Rows { reference: Some(vec![vec![-0.5]]), ..Rows::token(-1.0, -1.2, 0.0) };
            let plain = KlToReference { estimator, bias_correction: None };
            let plain = outcome(&alone(plain), &rows, rows.totals(), DType::F64);
            assert!((plain.loss - loss).abs() < 1e-12, "{estimator:?}: {plain:?}");
            assert!((plain.gradient[0] - gradient).abs() < 1e-12, "{estimator:?}: {plain:?}");
            assert!((plain.metrics["kl"] - loss).abs() < 1e-12, "{estimator:?}: {plain:?}");

            let corrected = KlToReference { estimator, bias_correction: Some(Level::Token) };
            let corrected = outcome(&alone(corrected), &rows, rows.totals(), DType::F64);
            let ratio = 0.2_f64.exp();
            assert!((corrected.loss - ratio * loss).abs() < 1e-12, "{estimator:?}: {corrected:?}");
            let by_product_rule = ratio * (gradient + loss);
            assert!((corrected.gradient[0] - by_product_rule).abs() < 1e-12, "{estimator:?}: {corrected:?}");
        }
    }
}
