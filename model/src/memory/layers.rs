//! The parts of a decoder and of a vision tower, on tensors without numbers: they follow the modules of the same names.

use super::{
    ops::Own,
    tape::{Shadow, Tape},
};
use crate::{
    attention::{Heads, Rows, Working},
    rms_norm::ROWS_AT_ONCE,
};

/// What of a part gets gradients in a graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learning {
    pub(super) base: bool,
    pub(super) adapters: bool,
}

/// A linear layer with its adapter.
#[derive(Clone, Debug, Default)]
pub(super) struct Projection {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) bias: bool,
    /// Rank of the adapter on it, and whether that drops some of its input.
    pub(super) lora: Option<(usize, bool)>,
}

/// What a graph sees of the parameters of [`Projection`].
struct Weights {
    weight: Shadow,
    bias: Option<Shadow>,
    lora: Option<[Shadow; 2]>,
}

impl Projection {
    /// Lengths of the base's parameters.
    pub(super) fn base(&self) -> Vec<usize> {
        let bias = self.bias.then_some(self.output);
        std::iter::once(self.input * self.output).chain(bias).collect()
    }

    /// Lengths of the adapter's parameters.
    pub(super) fn adapter(&self) -> Vec<usize> {
        self.lora.iter().flat_map(|(rank, _)| [self.input * rank, rank * self.output]).collect()
    }

    fn weights(&self, tape: &Tape, learning: Learning) -> Weights {
        let adapter = |len| parameter(tape, len, learning.adapters);
        Weights {
            weight: parameter(tape, self.input * self.output, learning.base),
            bias: self.bias.then(|| parameter(tape, self.output, learning.base)),
            lora: self.lora.map(|(rank, _)| [adapter(self.input * rank), adapter(rank * self.output)]),
        }
    }

    fn forward(&self, tape: &Tape, weights: &Weights, x: Shadow) -> Shadow {
        let rows = x.len / self.input;
        let Some([a, b]) = &weights.lora else {
            return tape.linear(x, &weights.weight, weights.bias.as_ref(), self.output);
        };
        let base = tape.linear(x.clone(), &weights.weight, weights.bias.as_ref(), self.output);
        let reduced = self.reduce(tape, a, x);
        tape.add(base, tape.matmul(reduced, b.clone(), rows * self.output))
    }

    /// The layer by itself.
    pub(super) fn run(&self, tape: &Tape, learning: Learning, x: Shadow) -> Shadow {
        self.forward(tape, &self.weights(tape, learning), x)
    }

    fn reduce(&self, tape: &Tape, a: &Shadow, x: Shadow) -> Shadow {
        let (rank, drops) = self.lora.unwrap_or_default();
        let rows = x.len / self.input;
        let x = if drops {
            // The mask is mixed from two tables of integers as large as the input.
            tape.arena.pass(3 * x.len * 4);
            let kept = tape.tensor(x.len);
            tape.mul(x, kept)
        } else {
            x
        };
        tape.scale(tape.matmul(x, a.clone(), rows * rank))
    }

    /// See `Projection::forward_parts`.
    fn forward_parts<const N: usize>(&self, tape: &Tape, weights: &Weights, x: &Shadow) -> [Shadow; N] {
        let (rows, width) = (x.len / self.input, self.output / N);
        let adapted = weights.lora.as_ref().map(|[a, b]| (self.reduce(tape, a, x.clone()), b));
        std::array::from_fn(|_| {
            let cut = |matrix: &Shadow| tape.narrow(matrix.clone(), matrix.len / N, false);
            let bias = weights.bias.as_ref().map(|bias| tape.narrow(bias.clone(), width, true));
            let base = tape.linear(x.clone(), &cut(&weights.weight), bias.as_ref(), width);
            match &adapted {
                Some((reduced, b)) => tape.add(base, tape.matmul(reduced.clone(), cut(b), rows * width)),
                None => base,
            }
        })
    }
}

pub(super) fn parameter(tape: &Tape, len: usize, learns: bool) -> Shadow {
    let parameter = tape.resting(len);
    if learns { tape.leaf(parameter) } else { parameter }
}

/// What is the same in all layers of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    pub(super) own_operations: bool,
    pub(super) heads: Heads,
    pub(super) rows: Rows,
    /// Threads that blocks of attention run on.
    pub(super) threads: usize,
}

/// Keys and values: two tensors.
pub(super) type KeyValue = [Shadow; 2];

impl Pass {
    pub(super) fn norm(self, tape: &Tape, x: Shadow, weight: Shadow) -> Shadow {
        let (len, width) = (x.len, weight.len);
        let rows = len / width;
        if self.own_operations {
            let sums = rows.div_ceil(ROWS_AT_ONCE) * width;
            return tape.own([x, weight], Own { output: len, kept: rows, working: [0, sums] });
        }
        let squares = tape.mul(x.clone(), x.clone());
        let scale = tape.map(tape.scale(tape.sum(squares, rows)), 1);
        tape.mul(tape.div(x, scale), weight)
    }

    fn gated(self, tape: &Tape, gate: Shadow, up: Shadow) -> Shadow {
        if self.own_operations {
            let len = gate.len;
            return tape.own([gate, up], Own::plain(len));
        }
        let opened = tape.map(gate.clone(), 2);
        tape.mul(tape.mul(gate, opened), up)
    }

    pub(super) fn rotate(self, tape: &Tape, x: Shadow) -> Shadow {
        let len = x.len;
        if self.own_operations {
            return tape.own([x], Own::plain(len));
        }
        let half = || tape.narrow(x.clone(), len / 2, false);
        let swapped = tape.cat(vec![half(), half()], false);
        // The tables are as large as the tensor and made once for all layers: see `tables`.
        tape.add(tape.mul(x, tape.resting(len)), tape.mul(swapped, tape.resting(len)))
    }

    /// Numbers of a pass's cosines and sines.
    pub(super) fn angles(self) -> usize {
        self.rows.tokens() * self.heads.dim
    }

    /// Numbers of the tensors that composed operations make of them, for heads of each kind, and of the mask over own keys.
    pub(super) fn tables(self) -> usize {
        if self.own_operations {
            return 0;
        }
        let Heads { query, kv, .. } = self.heads;
        2 * self.angles() * (query + kv) + query / kv * self.rows.len.pow(2)
    }

    pub(super) fn split(self, tape: &Tape, x: Shadow, heads: usize) -> Shadow {
        if heads > 1 && self.rows.len > 1 { tape.copy(x) } else { x }
    }

    /// What `query` finds among `own` keys and, before them, those of a `prompt`.
    pub(super) fn attend(
        self,
        tape: &Tape,
        query: Shadow,
        own: &KeyValue,
        prompt: Option<&KeyValue>,
    ) -> Shadow {
        let output = query.len;
        let Heads { query: query_heads, kv, dim } = self.heads;
        let own_len = own[0].len / (self.rows.sequences() * kv * dim);
        let prompt_len = prompt.map_or(0, |[key, _]| key.len / (self.rows.prompts * kv * dim));
        let [key, value] = own.clone();
        if self.own_operations {
            let Working { kept, forward, backward } =
                Working::of(self.rows, self.heads, own_len, prompt_len, self.threads);
            let op = Own { output, kept, working: [forward, backward] };
            return match prompt.cloned() {
                Some([prompt_key, prompt_value]) => {
                    tape.own([query, key, value, prompt_key, prompt_value], op)
                }
                None => tape.own([query, key, value], op),
            };
        }
        let queries = self.rows.tokens() * query_heads;
        let query = self.split(tape, tape.scale(query), query_heads);
        let scores = |query, key, len| tape.matmul(query, tape.transpose(key), queries * len);
        let own_scores = tape.add(scores(query.clone(), key, own_len), tape.resting(queries * own_len));
        let Some([prompt_key, prompt_value]) = prompt.cloned() else {
            let found = tape.matmul(softmax(tape, own_scores, queries), value, output);
            return self.split(tape, found, query_heads);
        };
        let all = tape.cat(vec![scores(query, prompt_key, prompt_len), own_scores], false);
        let weights = softmax(tape, all, queries);
        let part = |len| {
            let part = tape.narrow(weights.clone(), queries * len, false);
            // Seen as the rows of one product.
            tape.copy(part)
        };
        let from_prompt = tape.matmul(part(prompt_len), prompt_value, output);
        let from_own = tape.matmul(tape.narrow(weights.clone(), queries * own_len, false), value, output);
        drop(weights);
        self.split(tape, tape.add(from_prompt, from_own), query_heads)
    }
}

/// Over rows of scores, as burn composes it where there is a graph, and as one operation where there is none.
fn softmax(tape: &Tape, scores: Shadow, rows: usize) -> Shadow {
    if !scores.is_tracked() {
        return tape.tensor(scores.len);
    }
    let shifted = tape.add(scores, tape.tensor(rows));
    let exponentials = tape.map(shifted, 1);
    let sums = tape.sum(exponentials.clone(), rows);
    tape.div(exponentials, sums)
}

/// The feed-forward block.
#[derive(Clone, Debug)]
pub(super) struct Mlp {
    pub(super) gate: Projection,
    pub(super) up: Projection,
    pub(super) down: Projection,
}

/// What a graph sees of the parameters of a block.
struct MlpWeights {
    gate: Weights,
    up: Weights,
    down: Weights,
}

impl Mlp {
    fn weights(&self, tape: &Tape, learning: Learning) -> MlpWeights {
        MlpWeights {
            gate: self.gate.weights(tape, learning),
            up: self.up.weights(tape, learning),
            down: self.down.weights(tape, learning),
        }
    }

    fn forward(&self, tape: &Tape, weights: &MlpWeights, pass: Pass, x: Shadow) -> Shadow {
        let gate = self.gate.forward(tape, &weights.gate, x.clone());
        let up = self.up.forward(tape, &weights.up, x);
        self.down.forward(tape, &weights.down, pass.gated(tape, gate, up))
    }
}

/// One layer of a decoder.
#[derive(Clone, Debug)]
pub(super) struct DecoderLayer {
    pub(super) query: Projection,
    pub(super) key: Projection,
    pub(super) value: Projection,
    pub(super) output: Projection,
    pub(super) mlp: Mlp,
}

/// What a graph sees of the parameters of a [`DecoderLayer`].
pub(super) struct LayerWeights {
    norms: [Shadow; 2],
    attention: [Weights; 4],
    mlp: MlpWeights,
}

impl DecoderLayer {
    pub(super) fn projections_mut(&mut self) -> [&mut Projection; 7] {
        let Mlp { gate, up, down } = &mut self.mlp;
        [&mut self.query, &mut self.key, &mut self.value, &mut self.output, gate, up, down]
    }

    pub(super) fn projections(&self) -> [&Projection; 7] {
        let Mlp { gate, up, down } = &self.mlp;
        [&self.query, &self.key, &self.value, &self.output, gate, up, down]
    }

    pub(super) fn weights(&self, tape: &Tape, learning: Learning) -> LayerWeights {
        let of = |projection: &Projection| projection.weights(tape, learning);
        LayerWeights {
            norms: [0; 2].map(|_| parameter(tape, self.query.input, learning.base)),
            attention: [of(&self.query), of(&self.key), of(&self.value), of(&self.output)],
            mlp: self.mlp.weights(tape, learning),
        }
    }

    fn key_value_of(&self, tape: &Tape, weights: &LayerWeights, pass: Pass, x: Shadow) -> KeyValue {
        let [_, key, value, _] = &weights.attention;
        let key = pass.rotate(tape, self.key.forward(tape, key, x.clone()));
        let value = self.value.forward(tape, value, x);
        [key, value].map(|x| pass.split(tape, x, pass.heads.kv))
    }

    /// Keys and values alone.
    pub(super) fn key_value(
        &self,
        tape: &Tape,
        weights: &LayerWeights,
        pass: Pass,
        hidden: Shadow,
    ) -> KeyValue {
        let x = pass.norm(tape, hidden, weights.norms[0].clone());
        self.key_value_of(tape, weights, pass, x)
    }

    /// See `Layer::forward`.
    pub(super) fn forward(
        &self,
        tape: &Tape,
        weights: &LayerWeights,
        pass: Pass,
        hidden: Shadow,
        prompt: Option<&KeyValue>,
        past: Option<KeyValue>,
    ) -> (Shadow, KeyValue) {
        let x = pass.norm(tape, hidden.clone(), weights.norms[0].clone());
        let query = pass.rotate(tape, self.query.forward(tape, &weights.attention[0], x.clone()));
        let new = self.key_value_of(tape, weights, pass, x);
        let own = match past {
            Some([key, value]) => {
                let [new_key, new_value] = new;
                [tape.cat(vec![key, new_key], false), tape.cat(vec![value, new_value], false)]
            }
            None => new,
        };
        let attended = pass.attend(tape, query, &own, prompt);
        let attended = self.output.forward(tape, &weights.attention[3], attended);
        let hidden = tape.add(hidden, attended);
        let x = pass.norm(tape, hidden.clone(), weights.norms[1].clone());
        let mlp = self.mlp.forward(tape, &weights.mlp, pass, x);
        (tape.add(hidden, mlp), own)
    }
}

/// One block of a vision tower.
#[derive(Clone, Debug)]
pub(super) struct VisionBlock {
    pub(super) qkv: Projection,
    pub(super) proj: Projection,
    pub(super) mlp: Mlp,
}

impl VisionBlock {
    pub(super) fn projections(&self) -> [&Projection; 5] {
        let Mlp { gate, up, down } = &self.mlp;
        [&self.qkv, &self.proj, gate, up, down]
    }

    /// `reordered` says that rows attend in another order than the one they are in.
    pub(super) fn forward(
        &self,
        tape: &Tape,
        learning: Learning,
        pass: Pass,
        hidden: Shadow,
        reordered: bool,
    ) -> Shadow {
        let (qkv, proj) = (self.qkv.weights(tape, learning), self.proj.weights(tape, learning));
        let mlp = self.mlp.weights(tape, learning);
        let norm = || parameter(tape, self.qkv.input, learning.base);
        let x = pass.norm(tape, hidden.clone(), norm());
        let [query, key, value] = self.qkv.forward_parts(tape, &qkv, &x);
        let parts = [pass.rotate(tape, query), pass.rotate(tape, key), value];
        let move_rows = |x: Shadow| {
            let len = x.len;
            if reordered { tape.select(x, len) } else { x }
        };
        let [query, key, value] = parts.map(move_rows);
        let own = [key, value].map(|x| pass.split(tape, x, pass.heads.kv));
        let attended = move_rows(pass.attend(tape, query, &own, None));
        let attended = self.proj.forward(tape, &proj, attended);
        let hidden = tape.add(hidden, attended);
        let x = pass.norm(tape, hidden.clone(), norm());
        let mlp = self.mlp.forward(tape, &mlp, pass, x);
        tape.add(hidden, mlp)
    }
}
