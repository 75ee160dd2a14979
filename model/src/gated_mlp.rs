//! The SwiGLU feed-forward block, shared by the vision tower (with biases) and the language model (without).

use burn::{
    module::{Initializer, Module},
    nn::{Linear, LinearConfig},
    tensor::{Tensor, activation::silu, backend::Backend},
};

use crate::projection::{Projection, named};

/// `down(silu(gate(x)) · up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp<B: Backend> {
    gate_proj: Projection<B>,
    up_proj: Projection<B>,
    down_proj: Projection<B>,
}

impl<B: Backend> GatedMlp<B> {
    /// A block of width `hidden`, allocated at first use.
    pub fn new(hidden: usize, intermediate: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            gate_proj: Projection::new(hidden, intermediate, bias, device),
            up_proj: Projection::new(hidden, intermediate, bias, device),
            down_proj: Projection::new(intermediate, hidden, bias, device),
        }
    }

    /// Maps `[rows, hidden]` to the same shape.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let gate = silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }

    /// The layers an adapter may sit on, under `prefix`.
    pub(crate) fn projections<'m>(
        &'m mut self,
        prefix: &str,
    ) -> impl Iterator<Item = (String, &'m mut Projection<B>)> + use<'m, B> {
        named(
            prefix,
            [
                ("gate_proj", &mut self.gate_proj),
                ("up_proj", &mut self.up_proj),
                ("down_proj", &mut self.down_proj),
            ],
        )
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
