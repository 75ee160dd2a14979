//! What is computed in which number format, whatever the parameters are stored in.

use burn::tensor::{DType, Tensor, backend::Backend};

/// The format of matrix products and of what lies between two of them.
///
/// The stream between layers, norms, rotations, the softmax of attention, everything from the logits on, parameters, their
/// gradients and the optimizer keep the parameters' own, whichever is chosen. That is what `torch.autocast` does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// That of the parameters: f32 unless a checkpoint was loaded otherwise.
    #[default]
    Parameters,
    /// bfloat16.
    Bf16,
}

impl Precision {
    /// Whether `device` computes with it.
    pub fn is_supported<B: Backend>(self, device: &B::Device) -> bool {
        match self {
            Self::Parameters => true,
            Self::Bf16 => B::supports_dtype(device, DType::BF16),
        }
    }

    /// `x` as what a matrix product takes.
    pub(crate) fn lower<B: Backend, const D: usize>(self, x: Tensor<B, D>) -> Tensor<B, D> {
        match self {
            Self::Parameters => x,
            Self::Bf16 => x.cast(DType::BF16),
        }
    }
}

/// `x` in f32 if it was lowered.
pub(crate) fn raised<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, D> {
    if x.dtype() == DType::BF16 { x.cast(DType::F32) } else { x }
}

/// What `work` makes of `x` once raised, in the format that `x` had.
pub(crate) fn while_raised<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    work: impl FnOnce(Tensor<B, D>) -> Tensor<B, D>,
) -> Tensor<B, D> {
    let dtype = x.dtype();
    as_type(work(raised(x)), dtype)
}

/// `x` in the format `dtype`.
pub(crate) fn as_type<B: Backend, const D: usize>(x: Tensor<B, D>, dtype: DType) -> Tensor<B, D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
