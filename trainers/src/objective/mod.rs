//! What each token's log-probability is asked to do: per-token losses, not yet masked or averaged.

mod batch;
mod cispo;
mod clip;
mod entropy;
mod kl;
mod nll;
mod ratio;
mod sapo;
mod vespo;
pub mod weight;
mod weighted;

use burn::tensor::{Tensor, backend::Backend};

pub use batch::TokenBatch;
pub use cispo::Cispo;
pub use clip::Clip;
pub use entropy::EntropyBonus;
pub use kl::{KlEstimator, KlToReference};
pub use nll::Nll;
pub use ratio::Level;
pub use sapo::Sapo;
pub use vespo::{Gamma, Vespo};
pub use weighted::Weighted;

/// Losses of one objective.
#[derive(Clone, Debug)]
pub struct TokenLosses<B: Backend> {
    /// Loss of every token, `[sequences, tokens]`, or `[sequences, 1]` where the tokens of a sequence share one;
    /// padding may hold anything finite.
    pub losses: Tensor<B, 2>,
    /// What to report.
    pub metrics: Vec<Metric<B>>,
}

/// A quantity to report as a mean; without gradient.
#[derive(Clone, Debug)]
pub struct Metric<B: Backend> {
    /// Its name.
    pub name: &'static str,
    /// What it is a mean over: the tokens that are learned from, or the sequences.
    pub per: Level,
    /// `[sequences, tokens]` or `[sequences, 1]`.
    pub values: Tensor<B, 2>,
}

/// One term of a loss.
pub trait Objective<B: Backend>: Send + Sync {
    /// The loss of each token.
    fn losses(&self, batch: &TokenBatch<B>) -> TokenLosses<B>;

    /// Whether [`TokenBatch::ref_log_probs`] must be there.
    fn needs_reference(&self) -> bool {
        false
    }

    /// Whether the entropies of a [`TokenBatch`] must be there and carry their gradient.
    fn needs_entropy_gradient(&self) -> bool {
        false
    }
}
