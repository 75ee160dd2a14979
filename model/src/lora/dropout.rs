//! Dropout from a seed of its own: the same mask in every pass over the same rows, on every backend.
//!
//! Backends' generators are global and differ. Here each row and each column gets two random numbers from the host, and
//! the device mixes them in the integers modulo a prime, where nothing rounds and nothing overflows 24 bits.

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::precision::as_type;

/// A prime whose square is exact even in f32, and modulo which cubing is one to one (3 does not divide 4090).
const PRIME: i32 = 4091;

/// Zeroes elements of `x` with `probability` (to the nearest 1/4091, at least one) and scales the others up by as much.
pub(super) fn drop_some<B: Backend>(x: Tensor<B, 2>, probability: f64, seed: u64) -> Tensor<B, 2> {
    let limit = (probability * f64::from(PRIME)).round().clamp(1.0, f64::from(PRIME - 1)) as i32;
    let [rows, cols] = x.dims();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let device = x.device();
    let mut sums = || {
        let mut line = |len: usize| -> Vec<i32> { (0..len).map(|_| rng.random_range(0..PRIME)).collect() };
        let row = Tensor::<B, 2, Int>::from_data(TensorData::new(line(rows), [rows, 1]), &device);
        row + Tensor::from_data(TensorData::new(line(cols), [1, cols]), &device)
    };
    let mixed = cube(cube(sums()) + sums());
    let kept = mixed.greater_equal_elem(limit).float();
    let dtype = x.dtype();
    x * as_type(kept.mul_scalar(1.0 / (1.0 - f64::from(limit) / f64::from(PRIME))), dtype)
}

fn cube<B: Backend>(x: Tensor<B, 2, Int>) -> Tensor<B, 2, Int> {
    let x = x.remainder_scalar(PRIME);
    ((x.clone() * x.clone()).remainder_scalar(PRIME) * x).remainder_scalar(PRIME)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};
    use burn_flex::Flex;

    use super::{PRIME, drop_some};

    fn mask(rows: usize, cols: usize, probability: f64, seed: u64) -> Vec<f32> {
        let ones = Tensor::<Flex, 2>::ones([rows, cols], &Default::default());
        drop_some(ones, probability, seed).into_data().into_vec().unwrap()
    }

    #[test]
    fn the_share_dropped_is_as_asked_and_the_mean_stays() {
        let (rows, cols, probability) = (200, 300, 0.1);
        let mask = mask(rows, cols, probability, 7);
        let dropped = mask.iter().filter(|value| **value == 0.0).count() as f64 / (rows * cols) as f64;
        // Four standard deviations of 60000 independent draws.
        assert!((dropped - probability).abs() < 4.0 * (0.09_f64 / 6e4).sqrt(), "{dropped}");
        let kept = 1.0 / (1.0 - 409.0 / f64::from(PRIME));
        assert!(mask.iter().all(|value| *value == 0.0 || (f64::from(*value) - kept).abs() < 1e-6));
    }

    #[test]
    fn rows_columns_and_squares_of_four_are_as_of_independent_draws() {
        let (rows, cols) = (256, 256);
        let mask = mask(rows, cols, 0.5, 11);
        let bit = |row: usize, col: usize| if mask[row * cols + col] == 0.0 { -1.0 } else { 1.0_f64 };
        let mut sums = [0.0; 3];
        for row in (0..rows).step_by(2) {
            for col in (0..cols).step_by(2) {
                let four = [bit(row, col), bit(row, col + 1), bit(row + 1, col), bit(row + 1, col + 1)];
                for (sum, product) in
                    sums.iter_mut().zip([four[0] * four[1], four[0] * four[2], four.iter().product()])
                {
                    *sum += product;
                }
            }
        }
        // Sums of 16384 signs; four standard deviations.
        assert!(sums.iter().all(|sum| sum.abs() < 4.0 * 128.0), "{sums:?}");
        for line in 0..rows {
            let row: f64 = (0..cols).map(|col| bit(line, col)).sum();
            let col: f64 = (0..rows).map(|row| bit(row, line)).sum();
            assert!(row.abs().max(col.abs()) < 5.5 * 16.0, "line {line}: {row} and {col}");
        }
    }

    #[test]
    fn a_seed_gives_one_mask_and_another_seed_another() {
        assert_eq!(mask(9, 31, 0.3, 5), mask(9, 31, 0.3, 5));
        assert_ne!(mask(9, 31, 0.3, 5), mask(9, 31, 0.3, 6));
        // Widened to 1/4091 rather than ignored.
        assert!(mask(300, 300, 1e-9, 5).contains(&0.0));
        let x = Tensor::<Flex, 2>::from_data(TensorData::from([[2.0_f32, -3.0]]), &Default::default());
        let kept: Vec<f32> = drop_some(x, 1e-9, 1).into_data().into_vec().unwrap();
        assert!((kept[0] - 2.0).abs() < 1e-3 && (kept[1] + 3.0).abs() < 1e-3);
    }
}
