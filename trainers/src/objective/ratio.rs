//! How much likelier a completion has become since it was drawn.

use burn::tensor::{Tensor, backend::Backend};

use super::TokenBatch;

/// Whether each token has a number of its own, or the tokens of a sequence share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Per token.
    Token,
    /// Per sequence.
    Sequence,
}

impl Level {
    /// The importance ratio policy / old policy, with gradient: of each token `[sequences, tokens]`, or the geometric
    /// mean over each sequence `[sequences, 1]` (GSPO, Zheng et al. 2025).
    pub fn ratio<B: Backend>(self, batch: &TokenBatch<B>) -> Tensor<B, 2> {
        let log_ratio = batch.log_ratio();
        match self {
            Self::Token => log_ratio.exp(),
            Self::Sequence => batch.sequence_mean(log_ratio).exp(),
        }
    }
}
