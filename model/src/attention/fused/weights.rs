//! From rows of scores to weights and back.

use crate::lanes::{dot, exp, greatest, sum, vectorized};

/// What the exponentials of a row of scores are made of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Normalizer {
    /// The greatest score, which all are lowered by.
    greatest: f32,
    /// The sum of the exponentials.
    pub(super) sum: f32,
}

/// Replaces scores by exponentials. A score of negative infinity becomes 0.
pub(super) fn exponentiate(row: &mut [f32]) -> Normalizer {
    vectorized(
        #[inline(always)]
        || {
            let greatest = greatest(row);
            row.iter_mut().for_each(|x| *x = exp(*x - greatest));
            Normalizer { greatest, sum: sum(row) as f32 }
        },
    )
}

/// Replaces scores by weights. (A logarithm of the sum, subtracted from scores, would be one number a row instead of two,
/// and cost three bits of the weights.)
pub(super) fn weigh(row: &mut [f32], Normalizer { greatest, sum }: Normalizer) {
    vectorized(
        #[inline(always)]
        || row.iter_mut().for_each(|x| *x = exp(*x - greatest) / sum),
    );
}

/// Turns what is asked of a row's weights into what is asked of its scores.
pub(super) fn through_softmax(asked: &mut [f32], weights: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            let shared = dot(asked, weights) as f32;
            asked.iter_mut().zip(weights).for_each(|(x, weight)| *x = weight * (*x - shared));
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_three_scores_by_hand() {
        let scores = [2.0_f32.ln(), 0.0, f32::NEG_INFINITY];
        let mut row = scores;
        let normalizer = exponentiate(&mut row);
        assert_eq!((normalizer.greatest, normalizer.sum, row), (2.0_f32.ln(), 1.5, [1.0, 0.5, 0.0]));
        let mut weights = scores;
        weigh(&mut weights, normalizer);
        assert!((weights[0] - 2.0 / 3.0).abs() < 1e-7 && (weights[1] - 1.0 / 3.0).abs() < 1e-7);
        assert_eq!(weights[2], 0.0);
        // Values 1 and 4 of one number each, and a gradient of 3: 3 and 12 are asked of the weights.
        let mut asked = [3.0, 12.0, 0.0];
        through_softmax(&mut asked, &weights);
        assert!((asked[0] + 2.0).abs() < 1e-6 && (asked[1] - 2.0).abs() < 1e-6 && asked[2] == 0.0);
    }
}
