//! Arithmetic on rows of f32 with the widest vector instructions that the processor has.
//!
//! Sums run over fixed lanes, in f64 where rows may be long, and a product is rounded before it is added unless `mul_add`
//! says otherwise, so that results are the same to the bit whichever instructions are used.

use pulp::Arch;

const LANES: usize = 16;

/// Runs `work`, which should be loops over slices, compiled for the processor at hand.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(work)
}

/// The greatest of `row`; negative infinity if it is empty.
#[inline(always)]
pub(crate) fn greatest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = if *x > *lane { *x } else { *lane });
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |greatest, x| greatest.max(*x))
}

/// The sum of `row`.
#[inline(always)]
pub(crate) fn sum(row: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = chunks.remainder().iter().map(|x| f64::from(*x));
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += f64::from(*x));
    }
    lanes.into_iter().chain(rest).sum()
}

/// The sum of the products of two rows.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    // No digit of a product of two f32 is lost in f64.
    let times = |a: f32, b: f32| f64::from(a) * f64::from(b);
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(a, b)| times(*a, *b));
    for (a, b) in a.zip(b) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += times(*a, *b));
    }
    lanes.into_iter().chain(rest).sum()
}

/// What a softmax of a row is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exponentials {
    greatest: f32,
    factor: f32,
    /// Of the exponentials of all distances, and of those times the distance.
    sum: f64,
    weighted: f64,
}

impl Exponentials {
    /// Those of `row` times `factor`, which is above 0.
    pub(crate) fn of(row: &[f32], factor: f32) -> Self {
        // Sums of more f32 numbers lose digits.
        const AT_ONCE: usize = 1 << 12;
        vectorized(
            #[inline(always)]
            || {
                let greatest = greatest(row);
                let mut found = Self { greatest, factor, sum: 0.0, weighted: 0.0 };
                for row in row.chunks(AT_ONCE) {
                    let (mut sums, mut weighted) = ([0.0; LANES], [0.0; LANES]);
                    let mut add = |x: &f32, lane: usize| {
                        let distance = found.distance(*x);
                        let exponential = exp(distance);
                        sums[lane] += exponential;
                        weighted[lane] += exponential * distance;
                    };
                    let (chunks, rest) = row.as_chunks::<LANES>();
                    chunks.iter().for_each(|chunk| (0..LANES).for_each(|lane| add(&chunk[lane], lane)));
                    rest.iter().enumerate().for_each(|(lane, x)| add(x, lane));
                    found.sum += f64::from(sums.iter().sum::<f32>());
                    found.weighted += f64::from(weighted.iter().sum::<f32>());
                }
                found
            },
        )
    }

    /// How far `x`, a number of the row, is from the greatest.
    #[inline(always)]
    pub(crate) fn distance(&self, x: f32) -> f32 {
        (x - self.greatest) * self.factor
    }

    /// Logarithm of the probability of `x`, a number of the row.
    #[inline(always)]
    pub(crate) fn log_prob(&self, x: f32) -> f32 {
        self.distance(x) - self.log_sum()
    }

    pub(crate) fn sum(&self) -> f32 {
        self.sum as f32
    }

    pub(crate) fn log_sum(&self) -> f32 {
        self.sum.ln() as f32
    }

    /// Of the probabilities that the exponentials are proportional to.
    pub(crate) fn entropy(&self) -> f32 {
        (self.sum.ln() - self.weighted / self.sum) as f32
    }
}

/// `1 + e^-x`, the inverse of the sigmoid.
#[inline(always)]
pub(crate) fn inverse_sigmoid(x: f32) -> f32 {
    1.0 + exp(if x < -88.0 { 88.0 } else { -x })
}

/// `e^x` for `x` up to 88, within a unit in the last place; 0 below -87.
///
/// `x` is split into a multiple of ln 2, which becomes the exponent's bits, and a rest of at most half of it, whose
/// Taylor series is exact to f32 after the seventh power.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // What ln 2 is more than its f32.
    const LN_2_REST: f32 = -1.904_654_3e-9;
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let r = whole.mul_add(-LN_2_REST, whole.mul_add(-std::f32::consts::LN_2, x));
    let series = r.mul_add(1.0 / 5040.0, 1.0 / 720.0);
    let series = r.mul_add(series, 1.0 / 120.0);
    let series = r.mul_add(series, 1.0 / 24.0);
    let series = r.mul_add(series, 1.0 / 6.0);
    let series = r.mul_add(series, 0.5);
    let series = r.mul_add(series, 1.0);
    let series = r.mul_add(series, 1.0);
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let found = series * f32::from_bits(exponent);
    if x < -87.0 { 0.0 } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pulp has a feature for each set of them; without it the numbers are right, and take several times as long.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_vector_instructions_of_the_processor_are_used() {
        use std::arch::is_x86_feature_detected as has;
        let there = has!("avx2") && has!("fma") && has!("bmi1") && has!("bmi2") && has!("lzcnt");
        assert_eq!(matches!(Arch::new(), Arch::V3(_) | Arch::V4(_)), there);
    }

    #[test]
    fn exponentials_are_those_of_f64() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let (found, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / exact - 1.0).abs() < f64::from(f32::EPSILON), "exp({x}) = {found}, {exact}");
        }
        for x in [-87.5, -1000.0, f32::MIN, f32::NEG_INFINITY] {
            assert_eq!(exp(x), 0.0, "{x}");
        }
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sigmoids_by_hand() {
        assert_eq!([0.0, 1e30, 100.0].map(inverse_sigmoid), [2.0, 1.0, 1.0]);
        assert!(inverse_sigmoid(-1e30).is_finite() && inverse_sigmoid(-1e30) > 1e37);
        assert!((1.0 / inverse_sigmoid(2.0) - 0.880_797_1).abs() < 1e-7);
    }

    #[test]
    fn sums_of_rows_of_any_length() {
        for len in 0..40 {
            let row: Vec<f32> = (0..len).map(|place| (place as f32 * 0.7).sin() * 5.0).collect();
            assert_eq!(greatest(&row), row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let exact = || row.iter().map(|x| f64::from(*x));
            let (total, squares): (f64, f64) = (exact().sum(), exact().map(|x| x * x).sum());
            assert!((sum(&row) - total).abs() <= 1e-12);
            assert!((dot(&row, &row) - squares).abs() <= 1e-12 * squares);
        }
    }
}
