//! Rotary position embedding in the checkpoint's `rotate_half` form.
//!
//! Tables are made on the host in f32 as the reference does and repeated over heads, because same-shaped operands are
//! the fast case of every backend while a broadcast over the head axis is not on the CPU one.

use burn::tensor::{
    Tensor, TensorData,
    backend::{AutodiffBackend, Backend},
};

/// Cosines and sines for every row of a `[rows, heads * head_dim]` tensor.
#[derive(Clone, Debug)]
pub(crate) struct RotaryTable<B: Backend> {
    cos: Tensor<B, 2>,
    /// The first half of each head negated, so that swapping halves needs no negation.
    sin_signed: Tensor<B, 2>,
    heads: usize,
}

impl<B: Backend> RotaryTable<B> {
    /// A table from angles `[rows, head_dim / 2]` (row-major), repeated for `heads` heads.
    pub(crate) fn new(angles: &[f32], half_dim: usize, heads: usize, device: &B::Device) -> Self {
        let rows = angles.len() / half_dim;
        let mut cos = Vec::with_capacity(rows * half_dim * 2);
        let mut sin = Vec::with_capacity(rows * half_dim * 2);
        for row in angles.chunks_exact(half_dim) {
            cos.extend(row.iter().map(|angle| angle.cos()));
            cos.extend_from_within(cos.len() - half_dim..);
            sin.extend(row.iter().map(|angle| -angle.sin()));
            sin.extend(row.iter().map(|angle| angle.sin()));
        }
        let table = |values: Vec<f32>| {
            Tensor::<B, 3>::from_data(TensorData::new(values, [rows, 1, half_dim * 2]), device)
                .repeat_dim(1, heads)
                .reshape([rows * heads, half_dim * 2])
        };
        Self { cos: table(cos), sin_signed: table(sin), heads }
    }

    /// Rotates `x`, `[rows, heads * head_dim]`.
    pub(crate) fn rotate(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, width] = x.dims();
        let head_dim = width / self.heads;
        let x = x.reshape([rows * self.heads, head_dim]);
        let half = head_dim / 2;
        let swapped = Tensor::cat(vec![x.clone().narrow(1, half, half), x.clone().narrow(1, 0, half)], 1);
        (x * self.cos.clone() + swapped * self.sin_signed.clone()).reshape([rows, width])
    }
}

impl<B: AutodiffBackend> RotaryTable<B> {
    pub(crate) fn from_inner(table: &RotaryTable<B::InnerBackend>) -> Self {
        Self {
            cos: Tensor::from_inner(table.cos.clone()),
            sin_signed: Tensor::from_inner(table.sin_signed.clone()),
            heads: table.heads,
        }
    }
}

/// `base^(-2i / dim)` for `i < dim / 2`, in f32 as the reference computes them.
pub(crate) fn inverse_frequencies(base: f64, dim: usize) -> Vec<f32> {
    (0..dim).step_by(2).map(|i| 1.0 / (base as f32).powf(i as f32 / dim as f32)).collect()
}
