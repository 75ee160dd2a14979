//! A rival of the median logistic: distance from the calibrated mean in standard deviations.

use std::sync::Arc;

use serde_json::Value;

use super::{Normaliser, Pair, Reference};
use crate::RewardError;

/// `(x - mean) / std` by the calibration.
pub struct ZScore {
    /// The distributions.
    pub reference: Arc<Reference>,
    /// Least deviation that a distribution is taken to have, above 0.
    pub min_std: f64,
}

impl Normaliser for ZScore {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        self.reference.with(pair, measured, |known| {
            let std = known.std.max(self.min_std);
            measured.iter().map(|&x| ((f64::from(x) - known.mean) / std) as f32).collect()
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
