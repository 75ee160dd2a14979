//! How much a token's loss counts, for reasons that are not the objective's: decorators of [`Weighted`](super::Weighted).

mod off_policy;
mod sampling;
mod top_entropy;

use burn::tensor::{Tensor, backend::Backend};

pub use off_policy::OffPolicyMask;
pub use sampling::{Beyond, TruncatedImportance};
pub use top_entropy::TopEntropy;

use super::{Metric, TokenBatch};

/// A factor of the losses of a micro-batch.
pub trait TokenWeight<B: Backend>: Send + Sync {
    /// Weights without gradient, `[sequences, tokens]` or `[sequences, 1]`, and what to report of them.
    fn weights(&self, batch: &TokenBatch<B>) -> (Tensor<B, 2>, Vec<Metric<B>>);
}
