//! Decoupled clip and dynamic sampling policy optimisation (Yu et al. 2025).

use super::{GrpoConfig, Surrogate};
use crate::{aggregate::Aggregate, objective::Clip};

impl GrpoConfig {
    /// Room above the ratio to explore, every token of the step alike, no leash. Overlong answers are the reward's
    /// business, groups without spread a [filter](crate::filter)'s.
    pub fn dapo() -> Self {
        Self {
            surrogate: Surrogate::Clip(Clip { epsilon_high: 0.28, ..Clip::default() }),
            aggregate: Aggregate::TokenMean,
            ..Self::default()
        }
    }
}
