//! A mean over few runs and how far it can be trusted: Student's interval.

use serde::Serialize;
use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Share of such intervals that hold the true mean.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Narrower intervals are no spread but the rounding of differences: scores are numbers around 1.
const SMALLEST_WIDTH: f64 = 1e-9;

/// Where a mean lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) high: f64,
}

/// The mean of some runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Estimate {
    /// Runs behind it.
    pub(super) n: usize,
    pub(super) mean: f64,
    /// With Bessel's correction; `None` of one run, as the interval.
    pub(super) standard_deviation: Option<f64>,
    /// mean ± t · deviation / √n, with the quantile of n − 1 degrees of freedom.
    pub(super) interval: Option<Interval>,
}

impl Estimate {
    /// `None` of no values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        // Around the first value, so that equal values have no deviation at all.
        let first = values[0];
        let mean = first + values.iter().map(|value| value - first).sum::<f64>() / n as f64;
        if n == 1 {
            return Some(Self { n, mean, standard_deviation: None, interval: None });
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (squares / (n - 1) as f64).sqrt();
        let half_width = t_quantile(0.5 + CONFIDENCE / 2.0, n - 1) * deviation / (n as f64).sqrt();
        let interval = Some(Interval { low: mean - half_width, high: mean + half_width });
        Some(Self { n, mean, standard_deviation: Some(deviation), interval })
    }

    /// Half of the interval's width.
    pub(super) fn half_width(&self) -> Option<f64> {
        self.interval.map(|interval| (interval.high - interval.low) / 2.0)
    }

    /// Whether the runs differ at all.
    pub(super) fn has_spread(&self) -> bool {
        self.interval.is_some_and(|Interval { low, high }| high - low > SMALLEST_WIDTH)
    }

    /// Whether 0 lies outside of the interval. Runs that all give the same number have no spread to judge by: they
    /// exclude nothing.
    pub(super) fn excludes_zero(&self) -> bool {
        self.has_spread() && self.interval.is_some_and(|Interval { low, high }| low > 0.0 || high < 0.0)
    }
}

/// Where a share `p` of Student's t with so many degrees of freedom lies below.
fn t_quantile(p: f64, degrees_of_freedom: usize) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom as f64)
        .expect("a scale of 1 and at least one degree of freedom");
    distribution.inverse_cdf(p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_tables() {
        // With one degree t is Cauchy's: tan(π (p − 1/2)); with two (2p − 1) / √(2p(1 − p)); others from tables.
        let one = (std::f64::consts::PI * 0.475).tan();
        let two = 0.95 / (2.0_f64 * 0.975 * 0.025).sqrt();
        for (degrees, expected) in [
            (1, one),
            (2, two),
            (3, 3.182_446_305),
            (4, 2.776_445_105),
            (9, 2.262_157_163),
            (30, 2.042_272_456),
            (1000, 1.962_339_081),
        ] {
            let found = t_quantile(0.975, degrees);
            assert!((found - expected).abs() < 1e-6 * expected, "{degrees}: {found}, not {expected}");
        }
    }

    #[test]
    fn an_interval_by_hand() {
        // Mean 3, squares 4 + 0 + 4 over 2: deviation 2; half a width 4.302653 · 2 / √3 = 4.968275.
        let estimate = Estimate::of(&[1.0, 3.0, 5.0]).unwrap();
        assert_eq!((estimate.n, estimate.mean, estimate.standard_deviation), (3, 3.0, Some(2.0)));
        assert!((estimate.half_width().unwrap() - 4.968_275).abs() < 1e-5, "{estimate:?}");
        assert!(!estimate.excludes_zero());
        // Two values: deviation 0.1 / √2, half a width 12.7062 · 0.05.
        let estimate = Estimate::of(&[1.0, 1.1]).unwrap();
        assert!((estimate.half_width().unwrap() - 0.635_310).abs() < 1e-5, "{estimate:?}");
        assert!(estimate.excludes_zero());
        assert!(Estimate::of(&[-1.0, -1.1]).unwrap().excludes_zero());
    }

    #[test]
    fn few_runs_claim_little() {
        assert_eq!(Estimate::of(&[]), None);
        let one = Estimate::of(&[0.4]).unwrap();
        assert_eq!((one.n, one.mean, one.interval), (1, 0.4, None));
        assert!(!one.excludes_zero());
        let equal = Estimate::of(&[0.1; 3]).unwrap();
        assert_eq!((equal.mean, equal.standard_deviation, equal.half_width()), (0.1, Some(0.0), Some(0.0)));
        assert!(!equal.excludes_zero(), "no spread says nothing about the next run");
        let rounded = Estimate::of(&[0.8 - 0.5, 0.7 - 0.4]).unwrap();
        assert!(rounded.half_width() > Some(0.0) && !rounded.excludes_zero(), "{rounded:?}");
    }
}
