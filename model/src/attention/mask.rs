//! Which keys a query may look at.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::{Heads, Rows};

/// What queries may not see is given this score: far below any real one, yet finite in half precision.
const HIDDEN: f32 = -3.0e4;

/// Which keys the queries of every sequence may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Whether a query sees no key after its own place.
    pub(super) causal: bool,
    /// `valid[i][j]` tells whether key `j` of sequence `i` is real; `None` where all are.
    pub(super) valid: Option<Arc<[Vec<bool>]>>,
}

impl Mask {
    /// Causal order over `valid.len()` sequences; `valid[i][j]` tells whether token `j` of sequence `i` is real. Every
    /// token sees itself, real or not.
    pub fn causal(valid: &[Vec<bool>]) -> Self {
        Self { causal: true, valid: padding(valid) }
    }

    /// Causal order over sequences of up to `len` tokens, whose padding is on the right, where it hides it from every real
    /// one.
    pub(crate) fn order(len: usize) -> Self {
        Self::causal(&[vec![true; len]])
    }

    /// Hides the padding of prompts from their completions; `None` if there is none.
    pub fn prompt_padding(valid: &[Vec<bool>]) -> Option<Self> {
        padding(valid).map(|valid| Self { causal: false, valid: Some(valid) })
    }

    /// Whether key `key` of sequence `sequence` may be looked at from place `query`.
    fn shows(&self, sequence: usize, query: usize, key: usize) -> bool {
        let valid = self.valid.as_ref().is_none_or(|valid| valid[sequence][key]);
        if self.causal { key <= query && (valid || key == query) } else { valid }
    }

    /// Numbers added to scores.
    fn bias(&self, sequence: usize, queries: usize, keys: usize) -> impl Iterator<Item = f32> {
        let bias = move |query, key| if self.shows(sequence, query, key) { 0.0 } else { HIDDEN };
        (0..queries).flat_map(move |query| (0..keys).map(move |key| bias(query, key)))
    }
}

fn padding(valid: &[Vec<bool>]) -> Option<Arc<[Vec<bool>]>> {
    valid.iter().flatten().any(|valid| !valid).then(|| valid.into())
}

/// A mask for one pass over tokens: what layers that add it to their scores make of it is made once.
#[derive(Clone, Debug)]
pub(crate) struct PassMask<B: Backend> {
    pub(super) mask: Mask,
    /// Sequences that share a row of `valid`.
    share: usize,
    bias: OnceLock<Bias<B>>,
}

/// Laid out as the scores of a sequence and its group of query heads.
#[derive(Clone, Debug)]
enum Bias<B: Backend> {
    /// `[1, groups * queries * keys]`, the same for all.
    Shared(Tensor<B, 2>),
    /// `[prompts * kv_heads * completions, groups * queries, keys]`.
    Full(Tensor<B, 3>),
}

impl<B: Backend> PassMask<B> {
    /// A mask of sequences' own keys.
    pub(crate) fn own(mask: Mask) -> Self {
        Self { mask, share: 1, bias: OnceLock::new() }
    }

    /// A mask of keys that the completions of a prompt share.
    pub(crate) fn of_prompts(mask: Mask, rows: Rows) -> Self {
        Self { mask, share: rows.completions, bias: OnceLock::new() }
    }

    /// The same for another backend.
    pub(crate) fn on<C: Backend>(&self) -> PassMask<C> {
        PassMask { mask: self.mask.clone(), share: self.share, bias: OnceLock::new() }
    }

    /// Hides what must not be seen: `[prompts * kv_heads * completions, groups * len, keys]`.
    pub(super) fn apply(&self, scores: Tensor<B, 3>, rows: Rows, heads: Heads) -> Tensor<B, 3> {
        let [batch, queries, keys] = scores.dims();
        match self.bias.get_or_init(|| self.new_bias(rows, heads, keys, &scores)) {
            // One contiguous row shared by all: the broadcast that is fast everywhere.
            Bias::Shared(bias) => {
                (scores.reshape([batch, queries * keys]) + bias.clone()).reshape([batch, queries, keys])
            }
            Bias::Full(bias) => scores + bias.clone(),
        }
    }

    fn new_bias(&self, rows: Rows, heads: Heads, keys: usize, scores: &Tensor<B, 3>) -> Bias<B> {
        let groups = heads.query / heads.kv;
        let options = (&scores.device(), scores.dtype());
        if self.mask.valid.is_none() {
            let values: Vec<f32> = self.mask.bias(0, rows.len, keys).collect();
            let bias = Tensor::<B, 2>::from_data(TensorData::new(values, [rows.len, keys]), options);
            return Bias::Shared(bias.repeat_dim(0, groups).reshape([1, groups * rows.len * keys]));
        }
        let of = |sequence| self.mask.bias(sequence / self.share, rows.len, keys);
        let values: Vec<f32> = (0..rows.sequences()).flat_map(of).collect();
        let shape = [rows.prompts, 1, rows.completions, 1, rows.len * keys];
        let bias = Tensor::<B, 5>::from_data(TensorData::new(values, shape), options);
        let bias = bias.repeat_dim(1, heads.kv).repeat_dim(3, groups);
        Bias::Full(bias.reshape([rows.sequences() * heads.kv, groups * rows.len, keys]))
    }
}
