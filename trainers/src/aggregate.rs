//! From per-token losses to one number: the only place that masks and divides.
//!
//! Every rule is a weight per token, computed from the counts of the whole step, so that how a step is cut into
//! micro-batches changes nothing. TRL's `loss_type` names both a rule and the loss of a token; which rule belongs to
//! which method is said in [`recipes`](crate::recipes).

use crate::loss_mask::LossMask;

/// How the tokens of a step share the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// Mean over the tokens of a completion, then over completions (`DeepSeekMath`'s GRPO; SAPO).
    SequenceMean,
    /// Sum over the tokens of a completion, then mean over completions (LUSPO; REINFORCE).
    SequenceSum,
    /// Mean over the tokens of a micro-batch, then over micro-batches (`bnpo`); the one rule that depends on the cut.
    MicroBatchTokenMean,
    /// Sum of all tokens over the number of completions times a constant length (Dr. GRPO).
    ConstantLength {
        /// The longest possible completion.
        max_completion_length: usize,
    },
    /// Mean over all tokens of the step (DAPO, CISPO, VESPO); also SFT's.
    TokenMean,
}

/// Sums over all sequences of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTotals {
    /// Completions; those that a mask leaves out count, as in TRL, so that leaving one out makes no other louder.
    pub num_sequences: usize,
    /// Tokens that are learned from (TRL's `num_items_in_batch`).
    pub num_tokens: usize,
    /// Pieces the step is cut into.
    pub num_micro_batches: usize,
}

impl Aggregate {
    /// Weights of the tokens of one micro-batch, in the order of `mask`; what the mask leaves out weighs 0.
    pub fn token_weights(self, mask: &LossMask, totals: StepTotals) -> Vec<f64> {
        let in_piece = mask.num_tokens();
        let weight = |in_sequence: usize| match self {
            Self::SequenceMean => 1.0 / (in_sequence * totals.num_sequences) as f64,
            Self::SequenceSum => 1.0 / totals.num_sequences as f64,
            Self::MicroBatchTokenMean => 1.0 / (in_piece * totals.num_micro_batches) as f64,
            Self::ConstantLength { max_completion_length } => {
                1.0 / (max_completion_length * totals.num_sequences) as f64
            }
            Self::TokenMean => 1.0 / totals.num_tokens as f64,
        };
        mask.rows()
            .flat_map(|row| {
                let in_sequence = row.iter().filter(|learns| **learns).count();
                row.iter().map(move |learns| if *learns { weight(in_sequence) } else { 0.0 })
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
        let mask = LossMask::from_lens(&[2, 1]);
        let weights = |aggregate: Aggregate| aggregate.token_weights(&mask, TOTALS);
        assert_eq!(weights(Aggregate::SequenceMean), [0.125, 0.125, 0.25, 0.0]);
        assert_eq!(weights(Aggregate::SequenceSum), [0.25, 0.25, 0.25, 0.0]);
        assert_eq!(weights(Aggregate::TokenMean), [0.1, 0.1, 0.1, 0.0]);
        assert_eq!(weights(Aggregate::ConstantLength { max_completion_length: 5 }), [0.05, 0.05, 0.05, 0.0]);
        let third = 1.0 / 6.0;
        assert_eq!(weights(Aggregate::MicroBatchTokenMean), [third, third, third, 0.0]);
    }

    #[test]
    fn a_silent_sequence_makes_no_other_louder() {
        let all = LossMask::from_lens(&[2, 1]);
        let some = all.clone().silence(|sequence| sequence == 1);
        for aggregate in [Aggregate::SequenceMean, Aggregate::SequenceSum] {
            let (all, some) = (aggregate.token_weights(&all, TOTALS), aggregate.token_weights(&some, TOTALS));
            assert_eq!(all[..2], some[..2]);
            assert_eq!(some[2..], [0.0, 0.0]);
        }
        let none = all.silence(|_| true);
        assert_eq!(Aggregate::MicroBatchTokenMean.token_weights(&none, TOTALS), [0.0; 4]);
    }

    #[test]
    fn cutting_a_step_changes_nothing() {
        let lens = [3, 1, 4, 2];
        for aggregate in [
            Aggregate::SequenceMean,
            Aggregate::SequenceSum,
            Aggregate::TokenMean,
            Aggregate::ConstantLength { max_completion_length: 8 },
        ] {
            let sum = |lens: &[usize]| -> f64 {
                aggregate.token_weights(&LossMask::from_lens(lens), TOTALS).iter().sum()
            };
            let cut: f64 = lens.chunks(2).map(sum).sum();
            assert!((sum(&lens) - cut).abs() < 1e-12, "{aggregate:?}");
        }
    }
}
