//! Grouped-query attention of sequences over themselves and over a prompt that several of them share.
//!
//! Keys lie `[prompts, kv_heads, completions, len]`, so that one prompt's serve all its completions in a single matrix
//! product and none is repeated for its group of query heads.

mod composed;
mod fused;
#[cfg(test)]
mod laws;
mod mask;
mod packing;

use burn::tensor::{Tensor, backend::Backend};

pub(crate) use self::fused::Working;
pub use self::mask::Mask;
pub(crate) use self::{
    mask::PassMask,
    packing::{Packing, PassPacking, packs},
};

/// How the rows of a forward pass are made up: `prompts * completions` sequences of `len` tokens each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Number of prompts (or independent sequences).
    pub prompts: usize,
    /// Sequences per prompt; 1 when nothing is shared.
    pub completions: usize,
    /// Tokens per sequence, padding included.
    pub len: usize,
}

impl Rows {
    /// `sequences` independent rows of `len` tokens.
    pub fn independent(sequences: usize, len: usize) -> Self {
        Self { prompts: sequences, completions: 1, len }
    }

    /// Number of sequences.
    pub fn sequences(self) -> usize {
        self.prompts * self.completions
    }

    /// Number of tokens.
    pub fn tokens(self) -> usize {
        self.sequences() * self.len
    }
}

/// Head counts of a grouped-query layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) query: usize,
    pub(crate) kv: usize,
    pub(crate) dim: usize,
}

impl Heads {
    /// What scores are multiplied by.
    fn scale(self) -> f64 {
        (self.dim as f64).powf(-0.5)
    }
}

/// Keys and values of one layer: `[prompts * kv_heads * completions, len, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeyValue<B: Backend> {
    pub(crate) key: Tensor<B, 3>,
    pub(crate) value: Tensor<B, 3>,
}

impl<B: Backend> KeyValue<B> {
    /// Lays out `key` and `value`, `[tokens, kv_heads * head_dim]` each.
    pub(crate) fn new(key: Tensor<B, 2>, value: Tensor<B, 2>, rows: Rows, heads: Heads) -> Self {
        let by_head = |x| composed::split_heads(x, rows, heads);
        Self { key: by_head(key), value: by_head(value) }
    }

    pub(crate) fn append(self, new: Self) -> Self {
        Self {
            key: Tensor::cat(vec![self.key, new.key], 1),
            value: Tensor::cat(vec![self.value, new.value], 1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.key.dims()[1]
    }
}

/// Who attends to what in one pass over tokens, the same in every layer.
#[derive(Clone, Debug)]
pub(crate) struct Attention<B: Backend> {
    pub(crate) rows: Rows,
    pub(crate) heads: Heads,
    /// Of a sequence's own keys; `None` shows all.
    pub(crate) own_mask: Option<PassMask<B>>,
    /// Of its prompt's.
    pub(crate) prompt_mask: Option<PassMask<B>>,
    /// Which tokens there are of the rows; `None` where all are.
    pub(crate) packing: Option<PassPacking<B>>,
}

impl<B: Backend> Attention<B> {
    /// Every token sees its whole sequence.
    pub(crate) fn full(rows: Rows, heads: Heads) -> Self {
        Self { rows, heads, own_mask: None, prompt_mask: None, packing: None }
    }

    /// The same for another backend.
    pub(crate) fn on<C: Backend>(&self) -> Attention<C> {
        let Self { rows, heads, own_mask, prompt_mask, packing } = self;
        Attention {
            rows: *rows,
            heads: *heads,
            own_mask: own_mask.as_ref().map(PassMask::on),
            prompt_mask: prompt_mask.as_ref().map(PassMask::on),
            packing: packing.as_ref().map(PassPacking::on),
        }
    }

    /// Keys and values of `key` and `value`, `[num_tokens, kv_heads * head_dim]` each.
    pub(crate) fn key_value(&self, key: Tensor<B, 2>, value: Tensor<B, 2>) -> KeyValue<B> {
        KeyValue::new(self.as_rows(key), self.as_rows(value), self.rows, self.heads)
    }

    /// `[num_tokens, width]` as rows, `[tokens, width]`.
    fn as_rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.packing {
            Some(packing) => packing.as_rows(x),
            None => x,
        }
    }

    /// The other way round.
    fn of_rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.packing {
            Some(packing) => packing.of_rows(x),
            None => x,
        }
    }

    /// What `query`, `[num_tokens, query_heads * head_dim]`, finds among its sequence's `own` keys and, before them, its
    /// prompt's. The same shape.
    pub(crate) fn attend(
        &self,
        query: Tensor<B, 2>,
        own: &KeyValue<B>,
        prompt: Option<&KeyValue<B>>,
    ) -> Tensor<B, 2> {
        if let Some(found) = fused::attend(self, &query, own, prompt) {
            return found;
        }
        composed::attend(self, query, own, prompt)
    }
}
