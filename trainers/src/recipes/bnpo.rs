//! TRL's `bnpo`: GRPO with the mean over the tokens of each micro-batch.

use super::GrpoConfig;
use crate::aggregate::Aggregate;

impl GrpoConfig {
    /// Every token of a micro-batch alike; how a step is cut matters.
    pub fn bnpo() -> Self {
        Self { aggregate: Aggregate::MicroBatchTokenMean, ..Self::default() }
    }
}
