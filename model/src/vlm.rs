//! What the trainers and the generator need of a vision-language model.

use burn::{
    module::ParamId,
    tensor::{Tensor, backend::Backend},
};

use crate::{
    ModelError,
    attention::{KeyValue, Mask, Rows},
    decoder::{DecoderPass, Layer},
    output_head::OutputHead,
    precision::Precision,
    processor::Encoded,
    trainable::{ModelPart, Trainable},
};

/// Rotary positions of a run of tokens on the three axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// Temporal position of each token.
    pub t: Vec<i64>,
    /// Height position.
    pub h: Vec<i64>,
    /// Width position.
    pub w: Vec<i64>,
}

impl Positions {
    /// The same consecutive positions on all axes, as for text.
    pub fn text(start: i64, len: usize) -> Self {
        let run: Vec<i64> = (start..start + len as i64).collect();
        Self { t: run.clone(), h: run.clone(), w: run }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.t.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.t.is_empty()
    }

    /// Where text after these tokens goes on: one after the largest position on any axis.
    pub fn next(&self) -> i64 {
        self.t.iter().chain(&self.h).chain(&self.w).max().map_or(0, |max| max + 1)
    }

    /// Appends `other`.
    pub fn extend(&mut self, other: &Self) {
        self.t.extend(&other.t);
        self.h.extend(&other.h);
        self.w.extend(&other.w);
    }

    /// Fills up to `len` tokens with position 1, the reference's choice for padding.
    pub(crate) fn pad(&mut self, len: usize) {
        for axis in [&mut self.t, &mut self.h, &mut self.w] {
            axis.resize(len, 1);
        }
    }

    /// The tokens from `start` up to `end`.
    pub fn slice(&self, start: usize, end: usize) -> Self {
        Self {
            t: self.t[start..end].to_vec(),
            h: self.h[start..end].to_vec(),
            w: self.w[start..end].to_vec(),
        }
    }
}

/// Keys and values of a run of tokens, one entry a layer.
pub type LayerKeyValues<B> = Vec<KeyValue<B>>;

/// What the tokens of a decoder pass may see besides themselves.
#[derive(Debug)]
pub struct DecoderContext<'a, B: Backend> {
    /// Order and padding among the pass's own tokens; `None` when every own key is visible (single-token steps).
    pub own_mask: Option<&'a Mask>,
    /// Keys and values of the prompts, each shared by its completions.
    pub prompt: Option<&'a LayerKeyValues<B>>,
    /// Padding of the prompts.
    pub prompt_mask: Option<&'a Mask>,
    /// Past keys and values of the same sequences; those of this pass are appended. An empty list starts one.
    pub own: Option<&'a mut LayerKeyValues<B>>,
}

/// A vision-language model: a vision encoder whose features replace placeholder tokens of a causal decoder.
pub trait Vlm<B: Backend>: Send + Sync {
    /// A layer of the decoder.
    type Layer: Layer<B>;

    /// Features of all images, then all videos, of all `inputs` in order: `[vision_tokens, hidden]`; `None` without media.
    fn encode_vision(&self, inputs: &[&Encoded], device: &B::Device) -> Option<Tensor<B, 2>>;

    /// Rotary positions of one unpadded input.
    fn positions(&self, input: &Encoded) -> Result<Positions, ModelError>;

    /// Embeds the ids of `sequences`, one behind the other, and puts `features`, as [`encode_vision`](Self::encode_vision)
    /// gave them for the same inputs, in place of the placeholders: `[num_tokens, hidden]`.
    fn embed(
        &self,
        sequences: &[Vec<u32>],
        features: Option<Tensor<B, 2>>,
        device: &B::Device,
    ) -> Tensor<B, 2>;

    /// The decoder's layers, first to last.
    fn layers(&self) -> &[Self::Layer];

    /// What the layers share in a pass over the tokens of `rows` at `positions`; a pass that is to be packed has the
    /// positions of its real tokens alone.
    fn pass(
        &self,
        rows: Rows,
        positions: &Positions,
        own_mask: Option<&Mask>,
        prompt_mask: Option<&Mask>,
    ) -> DecoderPass<B>;

    /// What makes logits of the last layer's output.
    fn head(&self) -> OutputHead<B>;

    /// Keys and values of prompts whose embedded tokens are `hidden`, `[num_tokens, hidden]`, without what only the last
    /// layer's output would need.
    fn prefill(&self, mut hidden: Tensor<B, 2>, pass: &DecoderPass<B>) -> LayerKeyValues<B> {
        let Some((last, before)) = self.layers().split_last() else { return Vec::new() };
        let mut key_values = Vec::with_capacity(before.len() + 1);
        for layer in before {
            let (next, key_value) = layer.forward(hidden, pass, None, None);
            hidden = next;
            key_values.push(key_value);
        }
        key_values.push(last.key_value(hidden, pass));
        key_values
    }

    /// Runs all layers over `hidden`, `[tokens, hidden]`; the result is ready for [`logits`](Self::logits).
    fn decode(
        &self,
        mut hidden: Tensor<B, 2>,
        rows: Rows,
        positions: &Positions,
        context: DecoderContext<'_, B>,
    ) -> Tensor<B, 2> {
        let DecoderContext { own_mask, prompt, prompt_mask, mut own } = context;
        let pass = self.pass(rows, positions, own_mask, prompt_mask);
        let mut grown = Vec::with_capacity(self.layers().len());
        let mut past = own.as_deref_mut().map(std::mem::take).unwrap_or_default().into_iter();
        for (index, layer) in self.layers().iter().enumerate() {
            let prompt = prompt.map(|prompt| &prompt[index]);
            let (next, key_value) = layer.forward(hidden, &pass, prompt, past.next());
            hidden = next;
            if own.is_some() {
                grown.push(key_value);
            }
        }
        if let Some(own) = own {
            *own = grown;
        }
        hidden
    }

    /// Scores over the vocabulary: `[rows, hidden]` to `[rows, vocab_size]`.
    fn logits(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        self.head().forward(hidden)
    }

    /// Width of the logits.
    fn vocab_size(&self) -> usize {
        self.head().vocab_size()
    }

    /// Whether anything learns of what [`encode_vision`](Self::encode_vision) runs.
    fn vision_learns(&self) -> bool;

    /// The model with the parts of its checkpoint learning or frozen; an adapter goes on learning.
    fn with_trainable(self, parts: Trainable) -> Self
    where
        Self: Sized;

    /// The model computing with `precision`; its parameters stay what they are.
    fn with_precision(self, precision: Precision) -> Self
    where
        Self: Sized;

    /// The parameters of a part, its adapters' among them.
    fn parameters_of(&self, part: ModelPart) -> Vec<ParamId>;

    /// Ids that stand for media and must never be generated.
    fn placeholder_ids(&self) -> Vec<u32>;
}
