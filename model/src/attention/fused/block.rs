//! A block of a unit's queries: forward, and backward with its scores made again.

use std::ops::Range;

use super::{
    Gradients, GroupAttention,
    products::{To, View, product},
    weights::{Normalizer, exponentiate, through_softmax, weigh},
};

/// A prompt and a key-value head, with the arrays that belong to them.
pub(super) struct Unit<'a> {
    sizes: &'a GroupAttention,
    index: usize,
    /// Scaled, `[completions, groups, len, head_dim]`.
    query: &'a [f32],
    /// `[completions, own_len, head_dim]`.
    own_key: &'a [f32],
    own_value: &'a [f32],
    /// `[prompt_len, head_dim]`.
    prompt_key: &'a [f32],
    prompt_value: &'a [f32],
}

impl<'a> Unit<'a> {
    /// The unit `index` of `query` (those of all units) and the inputs of the operation.
    pub(super) fn new<const N: usize>(
        sizes: &'a GroupAttention,
        index: usize,
        query: &'a [f32],
        inputs: [&'a [f32]; N],
    ) -> Self {
        let dim = sizes.heads.dim;
        let share = |rows: &'a [f32], len: usize| &rows[index * len * dim..(index + 1) * len * dim];
        let own = |place: usize| share(inputs[place], sizes.rows.completions * sizes.own_len);
        let prompt = |place: usize| share(inputs.get(place).copied().unwrap_or_default(), sizes.prompt_len);
        Self {
            sizes,
            index,
            query: share(query, sizes.unit_len()),
            own_key: own(1),
            own_value: own(2),
            prompt_key: prompt(3),
            prompt_value: prompt(4),
        }
    }

    /// Where the own keys of a completion lie.
    fn own(&self, completion: usize) -> Range<usize> {
        let len = self.sizes.own_len * self.sizes.heads.dim;
        completion * len..(completion + 1) * len
    }
}

/// Neighbouring queries of a block that have the same own keys.
struct Segment {
    /// Rows of the block.
    rows: Range<usize>,
    completion: usize,
    /// Own keys that its last query sees.
    num_keys: usize,
}

/// See the module.
pub(super) struct Block<'a> {
    unit: &'a Unit<'a>,
    /// Queries of the unit.
    rows: Range<usize>,
    segments: Vec<Segment>,
}

impl<'a> Block<'a> {
    pub(super) fn new(unit: &'a Unit<'a>, index: usize) -> Self {
        let sizes = unit.sizes;
        let start = index * sizes.block_len();
        let rows = start..(start + sizes.block_len()).min(sizes.unit_len());
        // Without an order all queries of a completion see the same keys; with one they must be in it.
        let causal = sizes.own_mask.as_ref().is_some_and(|mask| mask.causal);
        let piece = if causal { sizes.rows.len } else { sizes.groups() * sizes.rows.len };
        let mut segments = Vec::new();
        let mut from = rows.start;
        while from < rows.end {
            let to = ((from / piece + 1) * piece).min(rows.end);
            segments.push(Segment {
                rows: from - start..to - start,
                completion: from / (sizes.groups() * sizes.rows.len),
                num_keys: if causal { unit.sizes.seen(to - 1) } else { sizes.own_len },
            });
            from = to;
        }
        Self { unit, rows, segments }
    }

    /// Writes what the block's queries find, and of what their scores' exponentials are made.
    pub(super) fn forward(&self, found: &mut [f32], normalizers: &mut [Normalizer]) {
        let mut weights = self.scores();
        let (stride, dim) = (self.unit.sizes.num_keys(), self.unit.sizes.heads.dim);
        self.each_row(|row, num_keys| {
            normalizers[row] = exponentiate(&mut weights[row * stride..row * stride + num_keys]);
        });
        self.along(&weights, self.unit.prompt_value, self.unit.own_value, found);
        for (row, normalizer) in found.chunks_exact_mut(dim).zip(normalizers) {
            row.iter_mut().for_each(|x| *x /= normalizer.sum);
        }
    }

    /// Adds to `sum` what is asked of the unit's inputs if `grad` is asked of the output; that and `normalizers` are of all
    /// units.
    pub(super) fn add_gradients(&self, normalizers: &[Normalizer], grad: &[f32], sum: &mut Gradients) {
        let Self { unit, rows, segments } = self;
        let sizes = unit.sizes;
        let (stride, dim, prompt_len) = (sizes.num_keys(), sizes.heads.dim, sizes.prompt_len);
        let start = unit.index * sizes.unit_len() + rows.start;
        let normalizers = &normalizers[start..start + rows.len()];
        let grad = &grad[start * dim..(start + rows.len()) * dim];
        let query = &unit.query[rows.start * dim..rows.end * dim];

        let mut weights = self.scores();
        let mut asked = vec![0.0; weights.len()];
        self.against(grad, unit.prompt_value, unit.own_value, &mut asked);
        self.each_row(|row, num_keys| {
            let place = row * stride..row * stride + num_keys;
            weigh(&mut weights[place.clone()], normalizers[row]);
            through_softmax(&mut asked[place.clone()], &weights[place]);
        });

        let from = sum.query.len();
        sum.query.resize(from + rows.len() * dim, 0.0);
        self.along(&asked, unit.prompt_key, unit.own_key, &mut sum.query[from..]);
        let [own_key, own_value, prompt_key, prompt_value] = &mut sum.keys_values;
        for (scores, of_rows, of_own, of_prompt) in
            [(&asked, query, own_key, prompt_key), (&weights, grad, own_value, prompt_value)]
        {
            if prompt_len > 0 {
                let shape = (prompt_len, rows.len(), dim);
                let scores = View::rows(scores, stride).transposed();
                product(shape, scores, View::rows(of_rows, dim), To::Add, of_prompt, dim);
            }
            for Segment { rows, completion, num_keys } in segments {
                let shape = (*num_keys, rows.len(), dim);
                let scores = View::rows(&scores[rows.start * stride + prompt_len..], stride).transposed();
                let of_rows = View::rows(&of_rows[rows.start * dim..], dim);
                product(shape, scores, of_rows, To::Add, &mut of_own[unit.own(*completion)], dim);
            }
        }
    }

    /// Scores of the prompt's keys, then of own ones, `[queries, num_keys]`; negative infinity for those hidden.
    fn scores(&self) -> Vec<f32> {
        let Self { unit, rows, segments } = self;
        let sizes = unit.sizes;
        let (stride, dim, prompt_len) = (sizes.num_keys(), sizes.heads.dim, sizes.prompt_len);
        let mut scores = vec![0.0; rows.len() * stride];
        self.against(
            &unit.query[rows.start * dim..rows.end * dim],
            unit.prompt_key,
            unit.own_key,
            &mut scores,
        );
        let prompt = unit.index / sizes.heads.kv;
        if let Some(valid) = sizes.prompt_mask.as_ref().and_then(|mask| mask.valid.as_ref()) {
            for row in scores.chunks_exact_mut(stride) {
                hide(row, &valid[prompt]);
            }
        }
        let Some(mask) = &sizes.own_mask else { return scores };
        for segment in segments {
            let sequence = prompt * sizes.rows.completions + segment.completion;
            for row in segment.rows.clone() {
                let own = row * stride + prompt_len;
                let own = &mut scores[own..own + segment.num_keys];
                let seen = if mask.causal { sizes.seen(rows.start + row) } else { segment.num_keys };
                own[seen..].fill(f32::NEG_INFINITY);
                if let Some(valid) = &mask.valid {
                    let itself = mask.causal.then(|| own[seen - 1]);
                    hide(&mut own[..seen], &valid[sequence]);
                    if let Some(itself) = itself {
                        own[seen - 1] = itself;
                    }
                }
            }
        }
        scores
    }

    /// Products of the block's `rows`, `[queries, head_dim]`, with rows of the prompt's and own: `[queries, num_keys]`.
    fn against(&self, rows: &[f32], prompt: &[f32], own: &[f32], into: &mut [f32]) {
        let sizes = self.unit.sizes;
        let (stride, dim, prompt_len) = (sizes.num_keys(), sizes.heads.dim, sizes.prompt_len);
        if prompt_len > 0 {
            let shape = (self.rows.len(), dim, prompt_len);
            let keys = View::rows(prompt, dim).transposed();
            product(shape, View::rows(rows, dim), keys, To::Replace, into, stride);
        }
        for Segment { rows: segment, completion, num_keys } in &self.segments {
            let shape = (segment.len(), dim, *num_keys);
            let rows = View::rows(&rows[segment.start * dim..], dim);
            let keys = View::rows(&own[self.unit.own(*completion)], dim).transposed();
            let into = &mut into[segment.start * stride + prompt_len..];
            product(shape, rows, keys, To::Replace, into, stride);
        }
    }

    /// Sums of rows of the prompt's and own, weighed by `weights`, `[queries, num_keys]`: `[queries, head_dim]`.
    fn along(&self, weights: &[f32], prompt: &[f32], own: &[f32], into: &mut [f32]) {
        let sizes = self.unit.sizes;
        let (stride, dim, prompt_len) = (sizes.num_keys(), sizes.heads.dim, sizes.prompt_len);
        if prompt_len > 0 {
            let shape = (self.rows.len(), prompt_len, dim);
            product(shape, View::rows(weights, stride), View::rows(prompt, dim), To::Replace, into, dim);
        }
        let to = if prompt_len > 0 { To::Add } else { To::Replace };
        for Segment { rows, completion, num_keys } in &self.segments {
            let shape = (rows.len(), *num_keys, dim);
            let weights = View::rows(&weights[rows.start * stride + prompt_len..], stride);
            let values = View::rows(&own[self.unit.own(*completion)], dim);
            product(shape, weights, values, to, &mut into[rows.start * dim..rows.end * dim], dim);
        }
    }

    /// Calls `work` with every row and the number of scores it has.
    fn each_row(&self, mut work: impl FnMut(usize, usize)) {
        for Segment { rows, num_keys, .. } in &self.segments {
            rows.clone().for_each(|row| work(row, self.unit.sizes.prompt_len + num_keys));
        }
    }
}

impl GroupAttention {
    /// Own keys that the query `row` of a unit sees in causal order. Those before the first query are all seen.
    fn seen(&self, row: usize) -> usize {
        self.own_len - self.rows.len + row % self.rows.len + 1
    }
}

fn hide(scores: &mut [f32], valid: &[bool]) {
    for (score, valid) in scores.iter_mut().zip(valid) {
        if !valid {
            *score = f32::NEG_INFINITY;
        }
    }
}
