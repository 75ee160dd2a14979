//! MedGRPO's normalisation: a logistic curve through the median, as steep as the quartiles are near.

use super::{Curve, Distribution};

/// `r = 1 / (1 + exp(-k (x - p50) / IQR))` (Su et al. 2026): 0.5 at the median of the SFT model, whatever the dataset.
///
/// The paper gives k = 3 and says nothing of a distribution without width. Ours: the IQR counts as at least `min_iqr`, and
/// the exponent stays within ±30, where f32 still tells the ends from 0 and 1 no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MedianLogistic {
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

impl Curve for MedianLogistic {
    fn at(&self, measured: f64, known: &Distribution) -> f64 {
        median_logistic(measured, known.p50, known.iqr().max(self.min_iqr), self.k)
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
