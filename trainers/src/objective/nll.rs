//! Maximum likelihood.

use burn::tensor::backend::Backend;

use super::{Objective, TokenBatch, TokenLosses};

/// Negative log-likelihood times the advantage: cross-entropy on demonstrations, where the advantage is 1.
#[derive(Clone, Copy, Debug)]
pub struct Nll;

impl<B: Backend> Objective<B> for Nll {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        TokenLosses {
            losses: batch.log_probs.clone().mul(batch.advantages.clone()).neg(),
            metrics: Vec::new(),
        }
    }
}
