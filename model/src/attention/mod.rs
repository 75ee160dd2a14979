//! Grouped-query attention of completions over themselves and over a prompt that several of them share.
//!
//! Rows are laid out `[prompts, kv_heads, completions, queries]`, so that one prompt's keys serve all its completions
//! in a single matrix product and no key is repeated for its group of query heads.

use burn::tensor::{
    Tensor, TensorData,
    activation::softmax,
    backend::{AutodiffBackend, Backend},
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

/// Keys and values of one layer: `[prompts * kv_heads * completions, len, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeyValue<B: Backend> {
    pub(crate) key: Tensor<B, 3>,
    pub(crate) value: Tensor<B, 3>,
}

impl<B: Backend> KeyValue<B> {
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

/// A number added to attention scores: 0 where a query may look, very negative where it may not.
#[derive(Clone, Debug)]
pub enum Mask<B: Backend> {
    /// The same `[queries, keys]` pattern for every sequence.
    Shared(Tensor<B, 2>),
    /// `[sequences, queries, keys]`: patterns differ because of padding.
    PerSequence(Tensor<B, 3>),
}

/// What queries may not see is given this score: far below any real one, yet finite in half precision.
const HIDDEN: f32 = -3.0e4;

impl<B: Backend> Mask<B> {
    /// Causal order over `valid.len()` sequences; `valid[i][j]` tells whether token `j` of sequence `i` is real.
    pub fn causal(valid: &[Vec<bool>], device: &B::Device) -> Self {
        let len = valid.first().map_or(0, Vec::len);
        let row = |valid: &[bool], query: usize| -> Vec<f32> {
            (0..len)
                .map(|key| if key <= query && (valid[key] || key == query) { 0.0 } else { HIDDEN })
                .collect()
        };
        if valid.iter().flatten().all(|valid| *valid) {
            let all = vec![true; len];
            let values: Vec<f32> = (0..len).flat_map(|query| row(&all, query)).collect();
            return Self::Shared(Tensor::from_data(TensorData::new(values, [len, len]), device));
        }
        let values: Vec<f32> =
            valid.iter().flat_map(|valid| (0..len).flat_map(|query| row(valid, query))).collect();
        Self::PerSequence(Tensor::from_data(TensorData::new(values, [valid.len(), len, len]), device))
    }

    /// Hides the padding of prompts from `rows.len` queries of each of their completions; `None` if there is none.
    pub fn prompt_padding(valid: &[Vec<bool>], rows: Rows, device: &B::Device) -> Option<Self> {
        if valid.iter().flatten().all(|valid| *valid) {
            return None;
        }
        let len = valid.first().map_or(0, Vec::len);
        let values: Vec<f32> =
            valid.iter().flatten().map(|valid| if *valid { 0.0 } else { HIDDEN }).collect();
        let mask = Tensor::<B, 3>::from_data(TensorData::new(values, [rows.prompts, 1, len]), device)
            .repeat_dim(1, rows.completions * rows.len)
            .reshape([rows.sequences(), rows.len, len]);
        Some(Self::PerSequence(mask))
    }

    /// The mask laid out as the scores of [`attend`] are. Made once per pass and used by every layer.
    pub(crate) fn expand(&self, rows: Rows, heads: Heads) -> ExpandedMask<B> {
        let groups = heads.query / heads.kv;
        match self {
            Self::Shared(mask) => {
                let [queries, keys] = mask.dims();
                ExpandedMask::Shared(mask.clone().repeat_dim(0, groups).reshape([1, groups * queries * keys]))
            }
            Self::PerSequence(mask) => {
                let [_, queries, keys] = mask.dims();
                let mask = mask.clone().reshape([rows.prompts, 1, rows.completions, 1, queries * keys]);
                let mask = mask.repeat_dim(1, heads.kv).repeat_dim(3, groups);
                ExpandedMask::Full(mask.reshape([rows.sequences() * heads.kv, groups * queries, keys]))
            }
        }
    }
}

/// See [`Mask::expand`].
#[derive(Clone, Debug)]
pub(crate) enum ExpandedMask<B: Backend> {
    Shared(Tensor<B, 2>),
    Full(Tensor<B, 3>),
}

impl<B: Backend> ExpandedMask<B> {
    fn apply(&self, scores: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            // One contiguous row shared by all: the broadcast that is fast everywhere.
            Self::Shared(mask) => {
                let [batch, queries, keys] = scores.dims();
                (scores.reshape([batch, queries * keys]) + mask.clone()).reshape([batch, queries, keys])
            }
            Self::Full(mask) => scores + mask.clone(),
        }
    }
}

impl<B: AutodiffBackend> ExpandedMask<B> {
    pub(crate) fn from_inner(mask: &ExpandedMask<B::InnerBackend>) -> Self {
        match mask {
            ExpandedMask::Shared(mask) => Self::Shared(Tensor::from_inner(mask.clone())),
            ExpandedMask::Full(mask) => Self::Full(Tensor::from_inner(mask.clone())),
        }
    }
}

/// Lays `[tokens, kv_heads * per_head * head_dim]` out as `[prompts * kv_heads * completions, per_head * len, head_dim]`.
pub(crate) fn split_heads<B: Backend>(
    x: Tensor<B, 2>,
    rows: Rows,
    kv_heads: usize,
    head_dim: usize,
) -> Tensor<B, 3> {
    let per_head = x.dims()[1] / (kv_heads * head_dim);
    x.reshape([rows.prompts, rows.completions, rows.len, kv_heads, per_head, head_dim])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([rows.prompts * kv_heads * rows.completions, per_head * rows.len, head_dim])
}

fn merge_heads<B: Backend>(x: Tensor<B, 3>, rows: Rows, heads: Heads) -> Tensor<B, 2> {
    let groups = heads.query / heads.kv;
    x.reshape([rows.prompts, heads.kv, rows.completions, groups, rows.len, heads.dim])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([rows.tokens(), heads.query * heads.dim])
}

fn masked<B: Backend>(scores: Tensor<B, 3>, mask: Option<&ExpandedMask<B>>) -> Tensor<B, 3> {
    match mask {
        Some(mask) => mask.apply(scores),
        None => scores,
    }
}

/// Attention of `query` (`[prompts * kv_heads * completions, groups * len, head_dim]`, already scaled) over the
/// sequence's own keys and, before them, over its prompt's.
///
/// Returns `[tokens, query_heads * head_dim]`.
pub(crate) fn attend<B: Backend>(
    query: Tensor<B, 3>,
    own: KeyValue<B>,
    own_mask: Option<&ExpandedMask<B>>,
    prompt: Option<(&KeyValue<B>, Option<&ExpandedMask<B>>)>,
    rows: Rows,
    heads: Heads,
) -> Tensor<B, 2> {
    let own_len = own.len();
    let scores = query.clone().matmul(own.key.transpose());
    let scores = masked(scores, own_mask);
    let Some((prompt, prompt_mask)) = prompt else {
        return merge_heads(softmax(scores, 2).matmul(own.value), rows, heads);
    };

    let [batch, queries, head_dim] = query.dims();
    let prompt_len = prompt.len();
    // The completions of a prompt are neighbours: seen as one long row of queries they share its keys.
    let shared = [rows.prompts * heads.kv, rows.completions * queries, head_dim];
    let prompt_scores =
        query.reshape(shared).matmul(prompt.key.clone().transpose()).reshape([batch, queries, prompt_len]);
    let prompt_scores = masked(prompt_scores, prompt_mask);
    let weights = softmax(Tensor::cat(vec![prompt_scores, scores], 2), 2);
    let from_prompt = weights
        .clone()
        .narrow(2, 0, prompt_len)
        .reshape([shared[0], shared[1], prompt_len])
        .matmul(prompt.value.clone())
        .reshape([batch, queries, head_dim]);
    let from_own = weights.narrow(2, prompt_len, own_len).matmul(own.value);
    merge_heads(from_prompt + from_own, rows, heads)
}
