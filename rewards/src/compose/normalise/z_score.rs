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
    use medgrpo_datasets::TaskKind;

    use super::*;
    use crate::compose::normalise::Pair;

    #[test]
    fn the_line_by_hand() {
        let pair = Pair::new(&"A".into(), TaskKind::Stg, "iou");
        let of = |values: &[f32]| Distribution::of(pair.clone(), values, 0).expect("there are values");
        // Mean 3; deviations -2, 0 and 2 make a variance of 8 / 2.
        let (curve, known) = (ZScore { min_std: 0.5 }, of(&[1.0, 3.0, 5.0]));
        for (x, expected) in [(3.0, 0.0), (5.0, 1.0), (2.0, -0.5)] {
            assert_eq!(curve.at(x, &known), expected, "{x}");
        }
        // Without width it is half a unit wide.
        assert_eq!(curve.at(2.25, &of(&[2.0, 2.0])), 0.5);
    }
}
