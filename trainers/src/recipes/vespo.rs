//! TRL's `vespo`: a smooth weight of the whole sequence's importance ratio.

use super::{GrpoConfig, Surrogate};
use crate::{aggregate::Aggregate, objective::Vespo};

impl GrpoConfig {
    /// A smooth weight per sequence in place of a clip, every token of the step alike.
    pub fn vespo() -> Self {
        Self {
            surrogate: Surrogate::Vespo(Vespo::default()),
            aggregate: Aggregate::TokenMean,
            ..Self::default()
        }
    }
}
