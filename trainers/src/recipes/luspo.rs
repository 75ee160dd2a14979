//! Length-unbiased sequence policy optimisation: GSPO without the division by each completion's length.

use super::GrpoConfig;
use crate::aggregate::Aggregate;

impl GrpoConfig {
    /// One ratio per sequence, which counts as often as the sequence has tokens.
    pub fn luspo() -> Self {
        Self { aggregate: Aggregate::SequenceSum, ..Self::gspo() }
    }
}
