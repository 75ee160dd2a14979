//! Rotary position embedding in the checkpoint's `rotate_half` form.
//!
//! Tables are made on the host in f32 as the reference does. Composed operations take them repeated over heads, because
//! same-shaped operands are the fast case of every backend.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData, backend::Backend};
use rayon::prelude::*;

use crate::{
    host_op::{HostOp, apply},
    lanes::vectorized,
    precision::while_raised,
};

/// Cosines and sines for every row of a `[rows, heads * head_dim]` tensor.
#[derive(Clone, Debug)]
pub(crate) struct RotaryTable<B: Backend> {
    angles: Arc<Angles>,
    heads: usize,
    /// Made where it is used.
    tensors: OnceLock<Tables<B>>,
}

/// Cosines and sines, `[rows, head_dim / 2]` each.
#[derive(Debug)]
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half_dim: usize,
}

/// The same for every head, `[rows * heads, head_dim]` each.
#[derive(Clone, Debug)]
struct Tables<B: Backend> {
    cos: Tensor<B, 2>,
    /// The first half of each head negated, so that swapping halves needs no negation.
    sin_signed: Tensor<B, 2>,
}

impl<B: Backend> RotaryTable<B> {
    /// A table from angles `[rows, head_dim / 2]` (row-major) for `heads` heads.
    pub(crate) fn new(angles: &[f32], half_dim: usize, heads: usize) -> Self {
        let cos = angles.iter().map(|angle| angle.cos()).collect();
        let sin = angles.iter().map(|angle| angle.sin()).collect();
        Self { angles: Arc::new(Angles { cos, sin, half_dim }), heads, tensors: OnceLock::new() }
    }

    /// The same for another number of heads, and another backend.
    pub(crate) fn with_heads<C: Backend>(&self, heads: usize) -> RotaryTable<C> {
        RotaryTable { angles: self.angles.clone(), heads, tensors: OnceLock::new() }
    }

    /// The same for another backend.
    pub(crate) fn on<C: Backend>(&self) -> RotaryTable<C> {
        self.with_heads(self.heads)
    }

    /// Rotates `x`, `[rows, heads * head_dim]`.
    pub(crate) fn rotate(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        while_raised(x, |x| self.rotate_raised(x))
    }

    fn rotate_raised(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let op = Rotation { shape: x.dims(), angles: self.angles.clone() };
        match apply(&op, [x.clone().into_primitive()]) {
            Some(found) => Tensor::from_primitive(found),
            None => self.rotate_composed(x),
        }
    }

    fn rotate_composed(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        let head_dim = width / self.heads;
        let tables = self.tensors.get_or_init(|| self.tables(&x));
        let x = x.reshape([rows * self.heads, head_dim]);
        let half = head_dim / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(1, half, half), x.clone().narrow(1, 0, half)], 1);
        (x * tables.cos.clone() + swapped * tables.sin_signed.clone()).reshape([rows, width])
    }

    fn tables(&self, like: &Tensor<B, 2>) -> Tables<B> {
        let Angles { cos, sin, half_dim } = &*self.angles;
        let (half_dim, options) = (*half_dim, (&like.device(), like.dtype()));
        let rows = cos.len() / half_dim;
        let table = |numbers: &[f32], first: f32| {
            let both =
                |row: &[f32]| row.iter().map(|x| x * first).chain(row.iter().copied()).collect::<Vec<f32>>();
            let values: Vec<f32> = numbers.chunks_exact(half_dim).flat_map(both).collect();
            Tensor::<B, 3>::from_data(TensorData::new(values, [rows, 1, half_dim * 2]), options)
                .repeat_dim(1, self.heads)
                .reshape([rows * self.heads, half_dim * 2])
        };
        Tables { cos: table(cos, 1.0), sin_signed: table(sin, -1.0) }
    }
}

/// See [`RotaryTable::rotate`].
#[derive(Clone, Debug)]
struct Rotation {
    shape: [usize; 2],
    angles: Arc<Angles>,
}

impl Rotation {
    /// Turns by the angles times `direction`, 1 or -1.
    fn turn(&self, x: &[f32], direction: f32) -> Vec<f32> {
        const MIN_ROWS: usize = 16;
        let (Angles { cos, sin, half_dim }, [_, width]) = (&*self.angles, self.shape);
        let mut found = vec![0.0; x.len()];
        let angles = cos.par_chunks_exact(*half_dim).zip(sin.par_chunks_exact(*half_dim));
        let rows = found.par_chunks_exact_mut(width).zip(x.par_chunks_exact(width)).zip(angles);
        rows.with_min_len(MIN_ROWS).for_each(|((found, x), (cos, sin))| {
            vectorized(
                #[inline(always)]
                || {
                    let heads = found.chunks_exact_mut(2 * half_dim).zip(x.chunks_exact(2 * half_dim));
                    for (found, x) in heads {
                        let (first, second) = x.split_at(*half_dim);
                        let (to_first, to_second) = found.split_at_mut(*half_dim);
                        let angles = cos.iter().zip(sin);
                        let from = first.iter().zip(second);
                        let to = to_first.iter_mut().zip(to_second);
                        for ((to, from), (cos, sin)) in to.zip(from).zip(angles) {
                            let sin = sin * direction;
                            *to.0 = from.0 * cos - from.1 * sin;
                            *to.1 = from.1 * cos + from.0 * sin;
                        }
                    }
                },
            );
        });
        found
    }
}

impl HostOp<1> for Rotation {
    type Kept = ();

    fn output_shape(&self) -> Vec<usize> {
        self.shape.to_vec()
    }

    fn forward(&self, [x]: [&[f32]; 1]) -> (Vec<f32>, ()) {
        (self.turn(x, 1.0), ())
    }

    fn gradients(&self, _: [&[f32]; 1], _: &[f32], (): &(), grad: &[f32]) -> [Vec<f32>; 1] {
        [self.turn(grad, -1.0)]
    }
}

/// `base^(-2i / dim)` for `i < dim / 2`, in f32 as the reference computes them.
pub(crate) fn inverse_frequencies(base: f64, dim: usize) -> Vec<f32> {
    (0..dim).step_by(2).map(|i| 1.0 / (base as f32).powf(i as f32 / dim as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_op::check;

    #[test]
    fn one_operation_equals_the_composed_ones() {
        let angles: Vec<f32> = (0..40 * 5).map(|place| place as f32 * 0.1).collect();
        let table = RotaryTable::new(&angles, 5, 3);
        check("rotation", [[40, 30]], |[x]| table.rotate(x), |[x]| table.rotate_composed(x));
    }
}
