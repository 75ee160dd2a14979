//! A rival of the median logistic: the share of calibrated values below.

use std::sync::Arc;

use serde_json::Value;

use super::{Normaliser, Pair, Reference};
use crate::RewardError;

/// The percentile rank among the calibrated values, in `[0, 1]`, in a straight line between stored percents; values that
/// many answers share get the middle of their ranks. Flat beyond the calibrated range.
pub struct Rank {
    /// The distributions.
    pub reference: Arc<Reference>,
}

/// The rank of `x` among ascending quantiles.
fn rank(x: f64, quantiles: &[f64]) -> f64 {
    let last = (quantiles.len() - 1) as f64;
    let below = quantiles.partition_point(|&quantile| quantile < x);
    let up_to = quantiles.partition_point(|&quantile| quantile <= x);
    if below < up_to {
        return (below + up_to - 1) as f64 / 2.0 / last;
    }
    if below == 0 {
        return 0.0;
    }
    let Some(&high) = quantiles.get(below) else {
        return 1.0;
    };
    let low = quantiles[below - 1];
    ((below - 1) as f64 + (x - low) / (high - low)) / last
}

impl Normaliser for Rank {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        self.reference.with(pair, measured, |known| {
            if known.quantiles.is_empty() {
                let message =
                    format!("{pair}: ranks need the calibration's quantiles, which a table by hand lacks");
                return Err(RewardError::State(message));
            }
            Ok(measured.iter().map(|&x| rank(f64::from(x), &known.quantiles) as f32).collect())
        })?
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
    fn ranks_by_hand() {
        let quantiles = [0.0, 0.0, 0.0, 1.0, 3.0];
        for (x, expected) in
            [(-1.0, 0.0), (0.0, 0.25), (0.5, 0.625), (1.0, 0.75), (2.0, 0.875), (3.0, 1.0), (9.0, 1.0)]
        {
            assert_eq!(rank(x, &quantiles), expected, "{x}");
        }
    }
}
