//! Supervised fine-tuning.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;

use crate::{
    advantage::Constant,
    aggregate::Aggregate,
    objective::Nll,
    recipe::{Policy, Recipe, Term},
    source::Demonstrations,
};

/// Cross-entropy on the tokens of the demonstrated answers, averaged over all tokens of a step.
pub fn sft<B: AutodiffBackend, M: Policy<B>>() -> Recipe<B, M> {
    Recipe {
        source: Box::new(Demonstrations),
        dynamic_sampling: None,
        advantage: Arc::new(Constant),
        reward_beta: 0.0,
        terms: vec![Term { weight: 1.0, objective: Box::new(Nll), aggregate: Aggregate::TokenMean }],
        mask_truncated_completions: false,
        num_iterations: 1,
        temperature: 1.0,
    }
}
