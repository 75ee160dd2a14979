//! The SwiGLU feed-forward block, shared by the vision tower (with biases) and the language model (without).

use burn::{
    module::{Initializer, Module},
    nn::{Linear, LinearConfig},
    tensor::{Tensor, activation::silu, backend::Backend},
};
use rayon::prelude::*;

use crate::{
    host_op::{HostOp, PIECE, apply},
    lanes::{inverse_sigmoid, vectorized},
    projection::{Projection, named},
};

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
        self.down_proj.forward(gated(self.gate_proj.forward(x.clone()), self.up_proj.forward(x)))
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

/// `silu(gate) · up`, `[rows, intermediate]` each.
fn gated<B: Backend>(gate: Tensor<B, 2>, up: Tensor<B, 2>) -> Tensor<B, 2> {
    let op = Gated { shape: gate.dims() };
    match apply(&op, [gate.clone().into_primitive(), up.clone().into_primitive()]) {
        Some(found) => Tensor::from_primitive(found),
        None => silu(gate) * up,
    }
}

/// See [`gated`].
#[derive(Clone, Debug)]
struct Gated {
    shape: [usize; 2],
}

impl HostOp<2> for Gated {
    type Kept = ();

    fn output_shape(&self) -> Vec<usize> {
        self.shape.to_vec()
    }

    fn forward(&self, [gate, up]: [&[f32]; 2]) -> (Vec<f32>, ()) {
        let mut found = vec![0.0; gate.len()];
        let pieces = found.par_chunks_mut(PIECE).zip(gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)));
        pieces.for_each(|(found, (gate, up))| {
            vectorized(
                #[inline(always)]
                || {
                    for (found, (gate, up)) in found.iter_mut().zip(gate.iter().zip(up)) {
                        *found = gate / inverse_sigmoid(*gate) * up;
                    }
                },
            );
        });
        (found, ())
    }

    fn gradients(&self, [gate, up]: [&[f32]; 2], _: &[f32], (): &(), grad: &[f32]) -> [Vec<f32>; 2] {
        let (mut of_gate, mut of_up) = (vec![0.0; gate.len()], vec![0.0; up.len()]);
        let inputs = gate.par_chunks(PIECE).zip(up.par_chunks(PIECE)).zip(grad.par_chunks(PIECE));
        let pieces = of_gate.par_chunks_mut(PIECE).zip(of_up.par_chunks_mut(PIECE)).zip(inputs);
        pieces.for_each(|((of_gate, of_up), ((gate, up), grad))| {
            vectorized(
                #[inline(always)]
                || {
                    let inputs = gate.iter().zip(up).zip(grad);
                    for ((of_gate, of_up), ((gate, up), grad)) in of_gate.iter_mut().zip(of_up).zip(inputs) {
                        let opened = 1.0 / inverse_sigmoid(*gate);
                        *of_up = grad * gate * opened;
                        *of_gate = grad * up * opened * (1.0 + gate * (1.0 - opened));
                    }
                },
            );
        });
        [of_gate, of_up]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_op::check;

    #[test]
    fn one_operation_equals_the_composed_ones() {
        check("gated product", [[70, 300]; 2], |[gate, up]| gated(gate, up), |[gate, up]| silu(gate) * up);
    }
}
