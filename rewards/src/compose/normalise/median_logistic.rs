//! MedGRPO's normalisation: a logistic curve through the median, as steep as the quartiles are near.

use std::sync::Arc;

use serde_json::Value;

use super::{Normaliser, Pair, Reference};
use crate::RewardError;

/// `r = 1 / (1 + exp(-k (x - p50) / IQR))` (Su et al. 2026): 0.5 at the median of the SFT model, whatever the dataset.
///
/// The paper gives k = 3 and says nothing of a distribution without width. Ours: the IQR counts as at least `min_iqr`, and
/// the exponent stays within ±30, where f32 still tells the ends from 0 and 1 no longer.
pub struct MedianLogistic {
    /// The distributions.
    pub reference: Arc<Reference>,
    /// Steepness.
    pub k: f64,
    /// Least width that a distribution is taken to have, above 0.
    pub min_iqr: f64,
}

/// The curve at `x`.
pub fn median_logistic(x: f64, p50: f64, iqr: f64, k: f64) -> f64 {
    let exponent = (k * (x - p50) / iqr).clamp(-30.0, 30.0);
    1.0 / (1.0 + (-exponent).exp())
}

impl Normaliser for MedianLogistic {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        self.reference.with(pair, measured, |known| {
            let iqr = known.iqr().max(self.min_iqr);
            measured.iter().map(|&x| median_logistic(f64::from(x), known.p50, iqr, self.k) as f32).collect()
        })
    }

    fn end_step(&self) {
        self.reference.end_step();
    }

    fn state(&self) -> Value {
        self.reference.state()
    }

    fn restore(&self, state: &Value) -> Result<(), RewardError> {
        self.reference.restore(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_by_hand() {
        // 1 / (1 + e^3), 1 / (1 + e^1.5), and the mirror images.
        for (z, expected) in
            [(-1.0, 0.047_426), (-0.5, 0.182_426), (0.0, 0.5), (0.5, 0.817_574), (1.0, 0.952_574)]
        {
            assert!((median_logistic(0.4 + z * 0.2, 0.4, 0.2, 3.0) - expected).abs() < 1e-6, "{z}");
        }
        // The slope at the median is k / (4 IQR).
        let slope =
            (median_logistic(0.4001, 0.4, 0.2, 3.0) - median_logistic(0.3999, 0.4, 0.2, 3.0)) / 0.0002;
        assert!((slope - 3.0 / 0.8).abs() < 1e-4);
        assert!(
            median_logistic(1e300, 0.0, 1e-9, 3.0) <= 1.0 && median_logistic(-1e300, 0.0, 1e-9, 3.0) > 0.0
        );
    }
}
