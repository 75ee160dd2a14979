//! A rival of the median logistic: the calibrated range becomes 0 to 1.

use super::{Curve, Distribution};

/// `(x - min) / (max - min)` by the calibration, not clipped, so that better than ever seen still pays. One outlier sets
/// the scale, which is what quartiles avoid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinMax {
    /// Least range that a distribution is taken to have, above 0.
    pub min_range: f64,
}

impl Curve for MinMax {
    fn at(&self, measured: f64, known: &Distribution) -> f64 {
        (measured - known.min) / (known.max - known.min).max(self.min_range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::normalise::contract::on_values;

    #[test]
    fn the_line_by_hand() {
        let curve = MinMax { min_range: 0.5 };
        let found = on_values(&curve, &[2.0, 3.0, 6.0], [2.0, 3.0, 6.0, 8.0, 1.0]);
        assert_eq!(found, [0.0, 0.25, 1.0, 1.5, -0.25]);
        // Without width it is half a unit wide.
        assert_eq!(on_values(&curve, &[2.0, 2.0], [2.25]), [0.5]);
    }
}
