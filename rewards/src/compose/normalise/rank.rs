//! A rival of the median logistic: the share of calibrated values below.

use super::{Curve, Distribution};

/// The percentile rank among the calibrated values, in `[0, 1]`, in a straight line between stored percents; values that
/// many answers share get the middle of their ranks. Flat beyond the calibrated range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rank;

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

impl Curve for Rank {
    fn at(&self, measured: f64, known: &Distribution) -> f64 {
        rank(measured, &known.quantiles)
    }

    fn check(&self, known: &Distribution) -> Result<(), String> {
        if known.quantiles.is_empty() {
            return Err("ranks need the calibration's quantiles, which a table by hand lacks".to_owned());
        }
        Ok(())
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
