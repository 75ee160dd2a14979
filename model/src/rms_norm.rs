//! Root-mean-square normalisation with the checkpoint's parameter name `weight`.

use burn::{
    module::{Initializer, Module, Param},
    tensor::{Tensor, backend::Backend},
};
use rayon::prelude::*;

use crate::{
    host_op::{HostOp, apply},
    lanes::{dot, vectorized},
};

/// `x / sqrt(mean(x²) + ε) · weight` over the last axis (Zhang & Sennrich 2019).
#[derive(Module, Debug)]
pub struct RmsNorm<B: Backend> {
    /// Gain, `[width]`.
    pub weight: Param<Tensor<B, 1>>,
    epsilon: f64,
}

impl<B: Backend> RmsNorm<B> {
    /// A norm of gain one, allocated at first use.
    pub fn new(width: usize, epsilon: f64, device: &B::Device) -> Self {
        Self { weight: Initializer::Ones.init([width], device), epsilon }
    }

    /// Normalises each row of `x`, `[rows, width]`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let op = Normalized { shape: x.dims(), epsilon: self.epsilon };
        let weight = self.weight.val();
        match apply(&op, [x.clone().into_primitive(), weight.clone().into_primitive()]) {
            Some(found) => Tensor::from_primitive(found),
            None => composed(x, weight, self.epsilon),
        }
    }
}

fn composed<B: Backend>(x: Tensor<B, 2>, weight: Tensor<B, 1>, epsilon: f64) -> Tensor<B, 2> {
    let scale = (x.clone() * x.clone()).mean_dim(1).add_scalar(epsilon).sqrt();
    x / scale * weight.unsqueeze()
}

/// The norm of rows with a weight.
#[derive(Clone, Debug)]
struct Normalized {
    shape: [usize; 2],
    epsilon: f64,
}

/// Rows whose share of the weight's gradient is summed by itself: by their number, so that sums round alike on any number
/// of threads.
pub(crate) const ROWS_AT_ONCE: usize = 64;

impl HostOp<2> for Normalized {
    /// What each row is multiplied by.
    type Kept = Vec<f32>;

    fn output_shape(&self) -> Vec<usize> {
        self.shape.to_vec()
    }

    fn forward(&self, [x, weight]: [&[f32]; 2]) -> (Vec<f32>, Vec<f32>) {
        let [rows, width] = self.shape;
        let (mut found, mut factors) = (vec![0.0; x.len()], vec![0.0; rows]);
        let pieces = found.par_chunks_exact_mut(width).zip(&mut factors).zip(x.par_chunks_exact(width));
        pieces.with_min_len(ROWS_AT_ONCE).for_each(|((found, factor), x)| {
            vectorized(
                #[inline(always)]
                || {
                    let mean = dot(x, x) / width as f64;
                    *factor = (1.0 / (mean + self.epsilon).sqrt()) as f32;
                    for (found, (x, weight)) in found.iter_mut().zip(x.iter().zip(weight)) {
                        *found = x * *factor * weight;
                    }
                },
            );
        });
        (found, factors)
    }

    fn gradients(
        &self,
        [x, weight]: [&[f32]; 2],
        _: &[f32],
        factors: &Vec<f32>,
        grad: &[f32],
    ) -> [Vec<f32>; 2] {
        let [_, width] = self.shape;
        let mut of_x = vec![0.0; x.len()];
        let piece = ROWS_AT_ONCE * width;
        let inputs = x.par_chunks(piece).zip(grad.par_chunks(piece)).zip(factors.par_chunks(ROWS_AT_ONCE));
        let sums: Vec<Vec<f32>> = of_x
            .par_chunks_mut(piece)
            .zip(inputs)
            .map(|(of_x, ((x, grad), factors))| {
                let mut of_weight = vec![0.0; width];
                let mut weighted = vec![0.0; width];
                vectorized(
                    #[inline(always)]
                    || {
                        let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
                        for ((of_x, (x, grad)), factor) in of_x.chunks_exact_mut(width).zip(rows).zip(factors)
                        {
                            let sums = of_weight.iter_mut().zip(&mut weighted);
                            for ((of_weight, weighted), ((x, grad), weight)) in
                                sums.zip(x.iter().zip(grad).zip(weight))
                            {
                                *of_weight += grad * x * factor;
                                *weighted = grad * weight;
                            }
                            let shared = dot(&weighted, x) as f32 * factor * factor / width as f32;
                            for (of_x, (x, weighted)) in of_x.iter_mut().zip(x.iter().zip(&weighted)) {
                                *of_x = factor * (weighted - x * shared);
                            }
                        }
                    },
                );
                of_weight
            })
            .collect();
        let mut of_weight = vec![0.0; width];
        for sum in sums {
            of_weight.iter_mut().zip(sum).for_each(|(all, more)| *all += more);
        }
        [of_x, of_weight]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_op::check;

    #[test]
    fn one_operation_equals_the_composed_ones() {
        let by_op = |[x, weight]: [Tensor<_, 2>; 2]| {
            let op = Normalized { shape: x.dims(), epsilon: 1e-6 };
            let inputs = [x.into_primitive(), weight.into_primitive()];
            Tensor::from_primitive(apply(&op, inputs).expect("arrays of f32"))
        };
        check("norm", [[150, 40], [1, 40]], by_op, |[x, weight]| composed(x, weight.squeeze(), 1e-6));
    }
}
