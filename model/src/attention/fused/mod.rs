//! Attention in one operation: scores are made for a block of queries at a time and never leave the cache, keys after a
//! query's place are left out of products, and the backward pass makes the scores again (Dao et al. 2022).
//!
//! A unit of work is a prompt and a key-value head: all its completions' queries share the prompt's keys.

mod block;
mod products;
mod weights;
mod working;

use std::sync::Arc;

use burn::tensor::{Tensor, backend::Backend};
use rayon::prelude::*;

pub(crate) use self::working::Working;
use self::{
    block::{Block, Unit},
    weights::Normalizer,
};
use super::{Attention, Heads, KeyValue, Mask, Packing, PassMask, Rows};
use crate::host_op::{HostOp, apply};

/// See [`Attention::attend`]; `None` where the tensors are no arrays in the processor's memory.
pub(super) fn attend<B: Backend>(
    attention: &Attention<B>,
    query: &Tensor<B, 2>,
    own: &KeyValue<B>,
    prompt: Option<&KeyValue<B>>,
) -> Option<Tensor<B, 2>> {
    let mask = |mask: &Option<PassMask<B>>| mask.as_ref().map(|mask| mask.mask.clone());
    let op = GroupAttention {
        rows: attention.rows,
        heads: attention.heads,
        own_len: own.len(),
        prompt_len: prompt.map_or(0, KeyValue::len),
        own_mask: mask(&attention.own_mask),
        prompt_mask: mask(&attention.prompt_mask),
        packing: attention.packing.as_ref().map(|packing| packing.packing.clone()),
    };
    let query = query.clone().into_primitive();
    let both = |of: &KeyValue<B>| [&of.key, &of.value].map(|x| x.clone().into_primitive());
    let [key, value] = both(own);
    let found = match prompt.map(both) {
        Some([prompt_key, prompt_value]) => apply(&op, [query, key, value, prompt_key, prompt_value]),
        None => apply(&op, [query, key, value]),
    };
    found.map(Tensor::from_primitive)
}

/// The sizes and masks of [`attend`]. Inputs: query, own keys, own values and, if there are any, the prompts' keys and
/// values.
#[derive(Clone, Debug)]
struct GroupAttention {
    rows: Rows,
    heads: Heads,
    own_len: usize,
    prompt_len: usize,
    own_mask: Option<Mask>,
    prompt_mask: Option<Mask>,
    packing: Option<Arc<Packing>>,
}

impl<const N: usize> HostOp<N> for GroupAttention {
    /// Of every query, in the order of units.
    type Kept = Vec<Normalizer>;

    fn output_shape(&self) -> Vec<usize> {
        vec![self.num_tokens(), self.heads.query * self.heads.dim]
    }

    fn forward(&self, inputs: [&[f32]; N]) -> (Vec<f32>, Vec<Normalizer>) {
        let query = self.by_unit(inputs[0], self.heads.scale() as f32);
        let (unit_len, block_len) = (self.unit_len(), self.block_len());
        let width = self.heads.dim;
        let mut found = vec![0.0; query.len()];
        let mut normalizers = vec![Normalizer::default(); query.len() / width];
        found
            .par_chunks_mut(unit_len * width)
            .zip(normalizers.par_chunks_mut(unit_len))
            .enumerate()
            .for_each(|(index, (found, normalizers))| {
                let unit = Unit::new(self, index, &query, inputs);
                found
                    .par_chunks_mut(block_len * width)
                    .zip(normalizers.par_chunks_mut(block_len))
                    .enumerate()
                    .for_each(|(block, (found, normalizers))| {
                        Block::new(&unit, block).forward(found, normalizers);
                    });
            });
        (self.by_token(&found, 1.0), normalizers)
    }

    fn gradients(
        &self,
        inputs: [&[f32]; N],
        _: &[f32],
        normalizers: &Vec<Normalizer>,
        grad: &[f32],
    ) -> [Vec<f32>; N] {
        let query = self.by_unit(inputs[0], self.heads.scale() as f32);
        let grad = self.by_unit(grad, 1.0);
        let (num_blocks, num_parts) = (self.unit_len().div_ceil(self.block_len()), self.num_parts());
        let parts: Vec<Gradients> = (0..self.num_units() * num_parts)
            .into_par_iter()
            .map(|place| {
                let (unit, part) = (place / num_parts, place % num_parts);
                let unit = Unit::new(self, unit, &query, inputs);
                let blocks = part * num_blocks / num_parts..(part + 1) * num_blocks / num_parts;
                let mut sum = Gradients::new(self, blocks.len());
                for block in blocks {
                    Block::new(&unit, block).add_gradients(normalizers, &grad, &mut sum);
                }
                sum
            })
            .collect();
        let mut rows = Vec::with_capacity(query.len());
        parts.iter().for_each(|part| rows.extend_from_slice(&part.query));
        let query = self.by_token(&rows, self.heads.scale() as f32);
        let mut rest = Gradients::lens(self).map(|len| Vec::with_capacity(len * self.num_units()));
        for parts in parts.chunks(num_parts) {
            for (place, all) in rest.iter_mut().enumerate() {
                let start = all.len();
                all.extend_from_slice(&parts[0].keys_values[place]);
                for part in &parts[1..] {
                    let sums = all[start..].iter_mut().zip(&part.keys_values[place]);
                    sums.for_each(|(sum, more)| *sum += more);
                }
            }
        }
        let mut found = std::iter::once(query).chain(rest);
        std::array::from_fn(|_| found.next().unwrap_or_default())
    }
}

/// What is asked of a unit's inputs by some of its blocks.
struct Gradients {
    /// Of the blocks' scaled queries, one block behind the other.
    query: Vec<f32>,
    /// Of own keys, own values, prompt's keys and prompt's values.
    keys_values: [Vec<f32>; 4],
}

impl Gradients {
    /// Of `num_blocks` blocks of a unit.
    fn new(sizes: &GroupAttention, num_blocks: usize) -> Self {
        let rows = (num_blocks * sizes.block_len()).min(sizes.unit_len());
        Self {
            query: Vec::with_capacity(rows * sizes.heads.dim),
            keys_values: Self::lens(sizes).map(|len| vec![0.0; len]),
        }
    }

    /// Lengths of a unit's `keys_values`.
    fn lens(sizes: &GroupAttention) -> [usize; 4] {
        let own = sizes.rows.completions * sizes.own_len * sizes.heads.dim;
        let prompt = sizes.prompt_len * sizes.heads.dim;
        [own, own, prompt, prompt]
    }
}

impl GroupAttention {
    /// Numbers of scores of a block: they should stay in the second-level cache.
    const BLOCK_SCORES: usize = 1 << 16;

    fn groups(&self) -> usize {
        self.heads.query / self.heads.kv
    }

    fn num_units(&self) -> usize {
        self.rows.prompts * self.heads.kv
    }

    /// Queries of a unit: `[completions, groups, len]`.
    fn unit_len(&self) -> usize {
        self.rows.completions * self.groups() * self.rows.len
    }

    /// Keys that a query may see at most.
    fn num_keys(&self) -> usize {
        self.prompt_len + self.own_len
    }

    /// Queries of a block.
    fn block_len(&self) -> usize {
        (Self::BLOCK_SCORES / self.num_keys().max(1) / 16 * 16).clamp(16, 128)
    }

    /// In how many parts the backward pass of a unit is made. It depends on sizes alone, so that sums round alike on any
    /// number of threads.
    fn num_parts(&self) -> usize {
        const FEW_UNITS: usize = 4;
        let num_blocks = self.unit_len().div_ceil(self.block_len());
        FEW_UNITS.div_ceil(self.num_units().max(1)).min(num_blocks).max(1)
    }

    /// Queries, padding left out.
    fn num_tokens(&self) -> usize {
        self.packing.as_ref().map_or(self.rows.tokens(), |packing| packing.num_tokens())
    }

    /// `[num_tokens, query_heads * head_dim]`, times `factor`, as `[units, completions, groups, len, head_dim]` with zeros for
    /// padding.
    fn by_unit(&self, rows: &[f32], factor: f32) -> Vec<f32> {
        let Self { rows: Rows { completions, len, .. }, heads, .. } = *self;
        let (groups, dim) = (self.groups(), heads.dim);
        let mut units = vec![0.0; self.rows.tokens() * heads.query * dim];
        units.par_chunks_mut((groups * len * dim).max(1)).enumerate().for_each(|(place, found)| {
            let (unit, completion) = (place / completions, place % completions);
            let (prompt, kv) = (unit / heads.kv, unit % heads.kv);
            let sequence = prompt * completions + completion;
            for (place, to) in found.chunks_exact_mut(dim).enumerate() {
                let (group, position) = (place / len, place % len);
                let token = match &self.packing {
                    None => sequence * len + position,
                    Some(packing) => match packing.token(sequence, position) {
                        Some(token) => token,
                        None => continue,
                    },
                };
                let from = token * heads.query * dim + (kv * groups + group) * dim;
                to.iter_mut().zip(&rows[from..from + dim]).for_each(|(to, from)| *to = from * factor);
            }
        });
        units
    }

    /// The other way round.
    fn by_token(&self, units: &[f32], factor: f32) -> Vec<f32> {
        let Self { rows: Rows { completions, len, .. }, heads, .. } = *self;
        let (groups, dim) = (self.groups(), heads.dim);
        let mut rows = vec![0.0; self.num_tokens() * heads.query * dim];
        let places: Vec<usize> = match &self.packing {
            None => (0..self.rows.tokens()).collect(),
            Some(packing) => packing.places().collect(),
        };
        let chunks = rows.par_chunks_mut((heads.query * dim).max(1));
        chunks.zip(places).for_each(|(row, place)| {
            let (sequence, position) = (place / len, place % len);
            let (prompt, completion) = (sequence / completions, sequence % completions);
            for (head, to) in row.chunks_exact_mut(dim).enumerate() {
                let unit = prompt * heads.kv + head / groups;
                let place = ((unit * completions + completion) * groups + head % groups) * len + position;
                let from = &units[place * dim..(place + 1) * dim];
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from * factor);
            }
        });
        rows
    }
}
