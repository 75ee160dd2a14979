//! What stands above the layers of a decoder: the last norm and the scores over the vocabulary.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend, module::linear},
};

use crate::{
    precision::{Precision, as_type, raised},
    rms_norm::RmsNorm,
};

/// Norm and linear map; it shares its parameters, ids included, with the model that it is of.
#[derive(Module, Debug)]
pub struct OutputHead<B: Backend> {
    norm: RmsNorm<B>,
    weight: Param<Tensor<B, 2>>,
    is_table: bool,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> OutputHead<B> {
    /// A head of weights `[hidden, vocab_size]`.
    pub fn new(norm: RmsNorm<B>, weight: Param<Tensor<B, 2>>) -> Self {
        Self { norm, weight, is_table: false, precision: Precision::default() }
    }

    /// A head whose weights are the embedding table, `[vocab_size, hidden]`.
    pub fn tied(norm: RmsNorm<B>, table: Param<Tensor<B, 2>>) -> Self {
        Self { norm, weight: table, is_table: true, precision: Precision::default() }
    }

    /// The same head computing with `precision`.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Scores over the vocabulary: `[rows, hidden]` to `[rows, vocab_size]`.
    pub fn forward(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = self.precision.lower(self.norm.forward(hidden));
        let weight = as_type(self.weight.val(), hidden.dtype());
        raised(if self.is_table { hidden.matmul(weight.transpose()) } else { linear(hidden, weight, None) })
    }

    /// Width of the scores.
    pub fn vocab_size(&self) -> usize {
        let [rows, cols] = self.weight.lazy_shape().dims();
        if self.is_table { rows } else { cols }
    }
}
