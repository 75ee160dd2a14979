//! A leash to a frozen reference.

use burn::tensor::backend::Backend;

use super::{Objective, TokenBatch, TokenLosses};

/// Schulman's k3 estimate of the divergence from the reference: `exp(d) - d - 1` with `d = log ref - log policy`.
///
/// Source: Shao et al. 2024 (`DeepSeekMath`), eq. 4.
#[derive(Clone, Copy, Debug)]
pub struct KlToReference;

impl<B: Backend> Objective<B> for KlToReference {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let reference = batch
            .ref_log_probs
            .clone()
            .expect("the loop gives reference log-probabilities where a term needs them");
        let distance = reference - batch.log_probs.clone();
        let kl = distance.clone().exp() - distance - 1.0;
        TokenLosses { metrics: vec![("kl", kl.clone().detach())], losses: kl }
    }

    fn needs_reference(&self) -> bool {
        true
    }
}
