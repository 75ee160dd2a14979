//! A causal decoder as a row of layers, which may be run one at a time.

use burn::{
    module::Module,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};

use crate::{
    attention::{Attention, KeyValue, Packing, PassPacking},
    precision::Precision,
    rotary::RotaryTable,
};

/// What every layer shares in one pass over tokens: how they are laid out, rotary tables and masks.
#[derive(Clone, Debug)]
pub struct DecoderPass<B: Backend> {
    pub(crate) attention: Attention<B>,
    pub(crate) rotary_q: RotaryTable<B>,
    pub(crate) rotary_k: RotaryTable<B>,
    pub(crate) precision: Precision,
}

impl<B: Backend> DecoderPass<B> {
    /// The pass over the first `lens` tokens of each sequence alone, at whose positions it was made: `hidden` has no rows
    /// for others.
    pub(crate) fn packed(mut self, lens: &[usize]) -> Self {
        self.attention.packing = Packing::new(self.attention.rows, lens).map(PassPacking::new);
        self
    }
}

impl<B: AutodiffBackend> DecoderPass<B> {
    /// The same tensors, for layers that make a graph.
    pub(crate) fn from_inner(pass: &DecoderPass<B::InnerBackend>) -> Self {
        Self {
            attention: pass.attention.on(),
            rotary_q: pass.rotary_q.on(),
            rotary_k: pass.rotary_k.on(),
            precision: pass.precision,
        }
    }
}

/// One layer of a decoder.
pub trait Layer<B: Backend>: Module<B> {
    /// Keys and values that `hidden`, `[num_tokens, hidden]`, leaves for tokens after it.
    fn key_value(&self, hidden: Tensor<B, 2>, pass: &DecoderPass<B>) -> KeyValue<B>;

    /// `hidden`, `[num_tokens, hidden]`, after this layer, and the keys and values it leaves, behind those of `past`.
    ///
    /// Besides `past` the tokens see `prompt`, keys and values in this layer that completions share.
    fn forward(
        &self,
        hidden: Tensor<B, 2>,
        pass: &DecoderPass<B>,
        prompt: Option<&KeyValue<B>>,
        past: Option<KeyValue<B>>,
    ) -> (Tensor<B, 2>, KeyValue<B>);
}
