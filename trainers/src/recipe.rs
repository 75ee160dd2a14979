//! A training method as a composition of small choices; no method has a loop of its own.

use std::sync::Arc;

use burn::tensor::backend::{AutodiffBackend, Backend};
use medgrpo_model::{checkpoint::Pretrained, group_gradients::LearningVlm};

use crate::{
    advantage::Advantage, aggregate::Aggregate, dynamic_sampling::DynamicSampling, objective::Objective,
    rollout::RolloutCompletion, source::GroupSource,
};

/// A model that can be trained, and sampled from without autodiff.
pub trait Policy<B: AutodiffBackend>: LearningVlm<B> + Pretrained<B> {}

impl<B: AutodiffBackend, M: LearningVlm<B> + Pretrained<B>> Policy<B> for M {}

/// One term of the loss.
pub struct Term<B: Backend> {
    /// Its factor.
    pub weight: f64,
    /// What it asks of each token.
    pub objective: Box<dyn Objective<B>>,
    /// How tokens share it.
    pub aggregate: Aggregate,
}

/// Everything that makes one training method different from another.
pub struct Recipe<B: AutodiffBackend, M: Policy<B>> {
    /// Where token sequences come from.
    pub source: Box<dyn GroupSource<B::InnerBackend, M::InnerModule>>,
    /// Whether groups that teach nothing are drawn again.
    pub dynamic_sampling: Option<DynamicSampling>,
    /// What each is worth.
    pub advantage: Arc<dyn Advantage>,
    /// Weight of the distance from the reference that is taken off each reward before advantages; 0 takes nothing off.
    pub reward_beta: f64,
    /// What is asked of its tokens.
    pub terms: Vec<Term<B>>,
    /// Whether completions that ended for lack of budget are left out of the loss.
    pub mask_truncated_completions: bool,
    /// Optimizer steps on the same sequences.
    pub num_iterations: usize,
    /// Logits are divided by this before log-probabilities are taken, as they were when sampling.
    pub temperature: f64,
}

impl<B: AutodiffBackend, M: Policy<B>> Recipe<B, M> {
    /// Whether a frozen copy of the starting model is needed.
    pub fn needs_reference(&self) -> bool {
        self.reward_beta != 0.0 || self.terms_need_reference()
    }

    /// Whether every update needs it.
    pub(crate) fn terms_need_reference(&self) -> bool {
        self.terms.iter().any(|term| term.objective.needs_reference())
    }

    /// Whether nothing is learned from a completion.
    pub fn leaves_out(&self, completion: &RolloutCompletion) -> bool {
        self.mask_truncated_completions && completion.truncated
    }

    /// Whether entropies must carry their gradient.
    pub fn needs_entropy_gradient(&self) -> bool {
        self.terms.iter().any(|term| term.objective.needs_entropy_gradient())
    }
}
