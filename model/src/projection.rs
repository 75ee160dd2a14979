//! A linear layer on which a low-rank adapter may sit.
//!
//! Without one it is burn's own `Linear`, with the same parameter names.

use burn::{
    module::{Initializer, Module, Param},
    tensor::{Tensor, backend::Backend, module::linear},
};

use crate::{lora::Lora, precision::as_type};

/// `xW + b`, plus what the adapter adds.
#[derive(Module, Debug)]
pub struct Projection<B: Backend> {
    /// `[input, output]`.
    pub(crate) weight: Param<Tensor<B, 2>>,
    /// `[output]`.
    pub(crate) bias: Option<Param<Tensor<B, 1>>>,
    pub(crate) lora: Option<Lora<B>>,
}

impl<B: Backend> Projection<B> {
    /// A layer whose weights are allocated at first use: loading replaces them before that.
    pub(crate) fn new(input: usize, output: usize, bias: bool, device: &B::Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([input, output], device),
            bias: bias.then(|| Initializer::Zeros.init([output], device)),
            lora: None,
        }
    }

    /// Maps `[rows, input]` to `[rows, output]`, in the format of `x`.
    pub fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let dtype = x.dtype();
        let weight = as_type(self.weight.val(), dtype);
        let bias = self.bias.as_ref().map(|bias| as_type(bias.val(), dtype));
        match self.active() {
            Some(lora) => {
                linear(x.clone(), weight, bias) + lora.reduce(x).matmul(as_type(lora.b.val(), dtype))
            }
            None => linear(x, weight, bias),
        }
    }

    /// The output in `N` equal parts, `[rows, output / N]` each.
    ///
    /// The weights are cut rather than the product: cutting the product would cost a zero-filled gradient of `N` times
    /// the size for each part.
    pub(crate) fn forward_parts<const N: usize>(&self, x: &Tensor<B, 2>) -> [Tensor<B, 2>; N] {
        let weight = as_type(self.weight.val(), x.dtype());
        let bias = self.bias.as_ref().map(|bias| as_type(bias.val(), x.dtype()));
        let width = weight.dims()[1] / N;
        let adapted = self.active().map(|lora| (lora.reduce(x.clone()), as_type(lora.b.val(), x.dtype())));
        std::array::from_fn(|part| {
            let cut = |matrix: &Tensor<B, 2>| matrix.clone().narrow(1, part * width, width);
            let bias = bias.clone().map(|bias| bias.narrow(0, part * width, width));
            let base = linear(x.clone(), cut(&weight), bias);
            match &adapted {
                Some((reduced, b)) => base + reduced.clone().matmul(cut(b)),
                None => base,
            }
        })
    }

    fn active(&self) -> Option<&Lora<B>> {
        self.lora.as_ref().filter(|lora| lora.state.enabled)
    }
}

/// The names of `projections` with `prefix` before them.
pub(crate) fn named<'m, B: Backend, const N: usize>(
    prefix: &str,
    projections: [(&'static str, &'m mut Projection<B>); N],
) -> impl Iterator<Item = (String, &'m mut Projection<B>)> + use<'m, B, N> {
    projections.map(|(name, projection)| (format!("{prefix}.{name}"), projection)).into_iter()
}
