//! GRPO done right (Liu et al. 2025): without its biases towards long wrong answers and easy questions.

use std::sync::Arc;

use super::GrpoConfig;
use crate::{
    advantage::{GroupMean, Scale},
    aggregate::Aggregate,
};

impl GrpoConfig {
    /// A constant in place of each completion's length, no division by the deviation.
    pub fn dr_grpo(max_completion_length: usize) -> Self {
        Self {
            advantage: Arc::new(GroupMean::trl(Scale::None)),
            aggregate: Aggregate::ConstantLength { max_completion_length },
            ..Self::default()
        }
    }
}
