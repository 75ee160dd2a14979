//! REINFORCE leave-one-out (Ahmadian et al. 2024).

use std::sync::Arc;

use super::GrpoConfig;
use crate::{advantage::Rloo, aggregate::Aggregate};

impl GrpoConfig {
    /// The rest of the group as baseline, the log-probability of the whole completion. Tokens are clipped one by one;
    /// with one update a batch, nothing is.
    pub fn rloo() -> Self {
        Self { advantage: Arc::new(Rloo), aggregate: Aggregate::SequenceSum, ..Self::default() }
    }
}
