//! What each token's log-probability is asked to do: per-token losses, not yet masked or averaged.

mod clip;
mod kl;
mod nll;

use burn::tensor::{Tensor, backend::Backend};

pub use clip::Clip;
pub use kl::KlToReference;
pub use nll::Nll;

/// What objectives see of a micro-batch; every tensor is `[sequences, tokens]`.
#[derive(Clone, Debug)]
pub struct TokenBatch<B: Backend> {
    /// Under the policy, with gradient.
    pub log_probs: Tensor<B, 2>,
    /// Under the policy that drew the completions.
    pub old_log_probs: Tensor<B, 2>,
    /// Under the reference; there if an objective [needs](Objective::needs_reference) it.
    pub ref_log_probs: Option<Tensor<B, 2>>,
    /// The completion's advantage on each of its tokens.
    pub advantages: Tensor<B, 2>,
}

/// Losses of one objective.
#[derive(Clone, Debug)]
pub struct TokenLosses<B: Backend> {
    /// Loss of every token, `[sequences, tokens]`; padding may hold anything finite.
    pub losses: Tensor<B, 2>,
    /// Named per-token quantities to report as means over real tokens; without gradient.
    pub metrics: Vec<(&'static str, Tensor<B, 2>)>,
}

/// One term of a loss.
pub trait Objective<B: Backend>: Send + Sync {
    /// The loss of each token.
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B>;

    /// Whether [`TokenBatch::ref_log_probs`] must be there.
    fn needs_reference(&self) -> bool {
        false
    }
}
