//! A rival of the median logistic: distance from the calibrated mean in standard deviations.

use super::{Curve, Distribution};

/// `(x - mean) / std` by the calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZScore {
    /// Least deviation that a distribution is taken to have, above 0.
    pub min_std: f64,
}

impl Curve for ZScore {
    fn at(&self, measured: f64, known: &Distribution) -> f64 {
        (measured - known.mean) / known.std.max(self.min_std)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::normalise::contract::on_values;

    #[test]
    fn the_line_by_hand() {
        let curve = ZScore { min_std: 0.5 };
        // Mean 3; deviations -2, 0 and 2 make a variance of 8 / 2.
        let found = on_values(&curve, &[1.0, 3.0, 5.0], [3.0, 5.0, 2.0]);
        assert_eq!(found, [0.0, 1.0, -0.5]);
        // Without width it is half a unit wide.
        assert_eq!(on_values(&curve, &[2.0, 2.0], [2.25]), [0.5]);
    }
}
