//! The SwiGLU feed-forward block, shared by the vision tower (with biases) and the language model (without).

use burn::{
    module::{Initializer, Module},
    nn::{Linear, LinearConfig},
    tensor::{Tensor, activation::silu, backend::Backend},
};

/// `down(silu(gate(x)) · up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp<B: Backend> {
    gate_proj: Linear<B>,
    up_proj: Linear<B>,
    down_proj: Linear<B>,
}

impl<B: Backend> GatedMlp<B> {
    /// A block of width `hidden`, allocated at first use.
    pub fn new(hidden: usize, intermediate: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            gate_proj: new_linear(hidden, intermediate, bias, device),
            up_proj: new_linear(hidden, intermediate, bias, device),
            down_proj: new_linear(intermediate, hidden, bias, device),
        }
    }

    /// Maps `[rows, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let gate = silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}

/// A linear layer whose weights are allocated at first use: loading replaces them before that.
pub(crate) fn new_linear<B: Backend>(
    input: usize,
    output: usize,
    bias: bool,
    device: &B::Device,
) -> Linear<B> {
    LinearConfig::new(input, output).with_bias(bias).with_initializer(Initializer::Zeros).init(device)
}
