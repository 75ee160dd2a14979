//! Root-mean-square normalisation with the checkpoint's parameter name `weight`.

use burn::{
    module::{Initializer, Module, Param},
    tensor::{Tensor, backend::Backend},
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
        let scale = (x.clone() * x.clone()).mean_dim(1).add_scalar(self.epsilon).sqrt();
        x / scale * self.weight.val().unsqueeze()
    }
}
