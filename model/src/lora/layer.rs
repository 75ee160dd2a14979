//! The pair of matrices that one layer gets.

use std::sync::Arc;

use burn::{
    module::{Module, Param, ParamId},
    tensor::{Tensor, backend::Backend},
};

use super::{LoraConfig, dropout::drop_some};
use crate::precision::as_type;

/// `s·(drop(x)A)B`, to be added to a layer's output.
#[derive(Module, Debug)]
pub struct Lora<B: Backend> {
    /// `[input, rank]`.
    pub(crate) a: Param<Tensor<B, 2>>,
    /// `[rank, output]`.
    pub(crate) b: Param<Tensor<B, 2>>,
    #[module(skip)]
    pub(crate) config: Arc<LoraConfig>,
    #[module(skip)]
    pub(crate) state: LoraState,
}

/// What a view of an adapter may change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoraState {
    pub(crate) enabled: bool,
    /// Seed of this layer's dropout; none is dropped without one.
    pub(crate) dropout_seed: Option<u64>,
}

impl<B: Backend> Lora<B> {
    /// A pair of zeros, allocated at first use: filling replaces them before that.
    pub(crate) fn new(input: usize, output: usize, config: &Arc<LoraConfig>, device: &B::Device) -> Self {
        Self {
            a: zeros([input, config.r], device),
            b: zeros([config.r, output], device),
            config: Arc::clone(config),
            state: LoraState { enabled: true, dropout_seed: None },
        }
    }

    /// `s·drop(x)A`, `[rows, rank]`; scaled here, where it is smallest.
    pub(crate) fn reduce(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = match self.state.dropout_seed {
            Some(seed) if self.config.lora_dropout > 0.0 => drop_some(x, self.config.lora_dropout, seed),
            _ => x,
        };
        let a = as_type(self.a.val(), x.dtype());
        x.matmul(a).mul_scalar(self.config.scale())
    }

    /// `s·AB`, `[input, output]`, without gradient.
    pub(crate) fn product(&self) -> Tensor<B, 2> {
        self.a.val().matmul(self.b.val()).mul_scalar(self.config.scale()).detach()
    }
}

fn zeros<B: Backend>(shape: [usize; 2], device: &B::Device) -> Param<Tensor<B, 2>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, _| Tensor::zeros(shape, device),
        device.clone(),
        true,
        shape.into(),
    )
}
