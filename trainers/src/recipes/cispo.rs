//! Clipped importance sampling policy optimisation (MiniMax-M1, Chen et al. 2025).

use super::{GrpoConfig, Surrogate};
use crate::{
    aggregate::Aggregate,
    objective::{Cispo, Level},
};

impl GrpoConfig {
    /// A bounded weight in place of a clip, every token of the step alike.
    pub fn cispo() -> Self {
        Self {
            surrogate: Surrogate::Cispo(Cispo { max_ratio: 5.0, level: Level::Token }),
            aggregate: Aggregate::TokenMean,
            ..Self::default()
        }
    }
}
