//! From per-token losses to one number: the only place that masks and divides.
//!
//! Every rule is a weight per token, computed from the lengths of the whole step, so that how a step is cut into
//! micro-batches changes nothing. Names are TRL's `loss_type`.

/// How the tokens of a step share the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Mean over the tokens of a completion, then over completions (`DeepSeekMath`'s GRPO).
    SequenceMean,
    /// Mean over the tokens of a micro-batch, then over micro-batches (`bnpo`); the one rule that depends on the cut.
    MicroBatchTokenMean,
    /// Sum of all tokens over the number of completions times a constant length (Dr. GRPO).
    ConstantLength {
        /// The longest possible completion.
        max_completion_length: usize,
    },
    /// Mean over all tokens of the step (DAPO); also SFT's.
    TokenMean,
}

/// Sums over all sequences of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTotals {
    /// Completions.
    pub num_sequences: usize,
    /// Their tokens.
    pub num_tokens: usize,
    /// Pieces the step is cut into.
    pub num_micro_batches: usize,
}

impl Aggregate {
    /// Weights `[sequences, max_len]` of the tokens of one micro-batch with these lengths; padding weighs 0.
    pub fn token_weights(self, lens: &[usize], totals: StepTotals) -> Vec<f32> {
        let max_len = lens.iter().copied().max().unwrap_or(0);
        let own_tokens: usize = lens.iter().sum();
        let weight = |len: usize| match self {
            Self::SequenceMean => 1.0 / (len * totals.num_sequences) as f64,
            Self::MicroBatchTokenMean => 1.0 / (own_tokens * totals.num_micro_batches) as f64,
            Self::ConstantLength { max_completion_length } => {
                1.0 / (max_completion_length * totals.num_sequences) as f64
            }
            Self::TokenMean => 1.0 / totals.num_tokens as f64,
        };
        lens.iter()
            .flat_map(|&len| {
                (0..max_len).map(move |place| if place < len { weight(len) as f32 } else { 0.0 })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: StepTotals = StepTotals { num_sequences: 4, num_tokens: 10, num_micro_batches: 2 };

    #[test]
    fn weights_by_hand() {
        let weights = |aggregate: Aggregate| aggregate.token_weights(&[2, 1], TOTALS);
        assert_eq!(weights(Aggregate::SequenceMean), [0.125, 0.125, 0.25, 0.0]);
        assert_eq!(weights(Aggregate::TokenMean), [0.1, 0.1, 0.1, 0.0]);
        assert_eq!(weights(Aggregate::ConstantLength { max_completion_length: 5 }), [0.05, 0.05, 0.05, 0.0]);
        let third = 1.0 / 6.0;
        assert_eq!(weights(Aggregate::MicroBatchTokenMean), [third, third, third, 0.0]);
    }

    #[test]
    fn cutting_a_step_changes_nothing() {
        let lens = [3, 1, 4, 2];
        for aggregate in [
            Aggregate::SequenceMean,
            Aggregate::TokenMean,
            Aggregate::ConstantLength { max_completion_length: 8 },
        ] {
            let whole: f32 = aggregate.token_weights(&lens, TOTALS).iter().sum();
            let cut: f32 = lens.chunks(2).flat_map(|part| aggregate.token_weights(part, TOTALS)).sum();
            assert!((whole - cut).abs() < 1e-6, "{aggregate:?}");
        }
    }
}
