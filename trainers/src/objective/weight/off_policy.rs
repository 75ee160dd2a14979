//! Bad answers that the policy has already left behind teach nothing.

use burn::tensor::{Tensor, backend::Backend};

use super::TokenWeight;
use crate::objective::{Level, Metric, TokenBatch};

/// Leaves out sequences with a negative advantage whose mean log-probability has fallen by more than a threshold since
/// they were drawn.
///
/// Source: DeepSeek-V3.2, eq. 9; TRL's `off_policy_mask_threshold`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OffPolicyMask {
    /// Nats per token.
    pub threshold: f64,
}

impl<B: Backend> TokenWeight<B> for OffPolicyMask {
    fn weights(&self, batch: &TokenBatch<B>) -> (Tensor<B, 2>, Vec<Metric<B>>) {
        let drawn = batch.sampling_log_probs.as_ref().unwrap_or(&batch.old_log_probs);
        let fallen = batch.sequence_mean(drawn.clone() - batch.log_probs.clone().detach());
        let dropped = batch.indicator(fallen.greater_elem(self.threshold)) * batch.is_negative();
        let metric =
            Metric { name: "off_policy_mask/dropped", per: Level::Sequence, values: dropped.clone() };
        (dropped.neg().add_scalar(1.0), vec![metric])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::testing::{Rows, numbers};

    #[test]
    fn only_bad_sequences_that_were_left_behind_are_dropped() {
        for (advantage, old, sampling, kept) in [
            (-1.0, -0.5, None, 0.0),
            (-1.0, -0.9, None, 1.0),
            (1.0, -0.5, None, 1.0),
            (0.0, -0.5, None, 1.0),
            (-1.0, -0.9, Some(-0.5), 0.0),
            (-1.0, -0.5, Some(-0.9), 1.0),
        ] {
            let mut rows = Rows::token(-1.0, old, advantage);
            rows.sampling = sampling.map(|sampling| vec![vec![sampling]]);
            let (weights, _) = OffPolicyMask { threshold: 0.2 }.weights(&rows.batch(DType::F64));
            assert_eq!(numbers(weights.inner()), [kept], "{advantage} {old} {sampling:?}");
        }
    }
}
