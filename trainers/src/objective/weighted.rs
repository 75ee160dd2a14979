//! An objective some of whose tokens count less.

use burn::tensor::backend::Backend;

use super::{Objective, TokenBatch, TokenLosses, weight::TokenWeight};

/// The losses of an objective times weights without gradient.
pub struct Weighted<B: Backend> {
    /// What is weighed.
    pub objective: Box<dyn Objective<B>>,
    /// The factors.
    pub weights: Vec<Box<dyn TokenWeight<B>>>,
}

impl<B: Backend> Objective<B> for Weighted<B> {
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B> {
        let mut out = self.objective.losses(batch);
        for weight in &self.weights {
            let (weights, metrics) = weight.weights(batch);
            out.losses = out.losses * weights;
            out.metrics.extend(metrics);
        }
        out
    }

    fn needs_reference(&self) -> bool {
        self.objective.needs_reference()
    }

    fn needs_entropy_gradient(&self) -> bool {
        self.objective.needs_entropy_gradient()
    }
}
