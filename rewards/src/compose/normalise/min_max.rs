//! A rival of the median logistic: the calibrated range becomes 0 to 1.

use std::sync::Arc;

use serde_json::Value;

use super::{Normaliser, Pair, Reference};
use crate::RewardError;

/// `(x - min) / (max - min)` by the calibration, not clipped, so that better than ever seen still pays. One outlier sets
/// the scale, which is what quartiles avoid.
pub struct MinMax {
    /// The distributions.
    pub reference: Arc<Reference>,
    /// Least range that a distribution is taken to have, above 0.
    pub min_range: f64,
}

impl Normaliser for MinMax {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        self.reference.with(pair, measured, |known| {
            let range = (known.max - known.min).max(self.min_range);
            measured.iter().map(|&x| ((f64::from(x) - known.min) / range) as f32).collect()
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
