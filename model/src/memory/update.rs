//! The gradients of a micro-batch, stage by stage as `group_gradients` makes them, on tensors without numbers.

use std::collections::HashMap;

use super::{
    MediaShape, PassShape,
    arena::{Arena, Block},
    layers::{DecoderLayer, KeyValue, LayerWeights, Learning, Pass, parameter},
    ops::Own,
    shape::ModelShape,
    tape::{Asked, NUMBER, Shadow, Tape},
};
use crate::{attention::Rows, group_gradients::Kept, token_scores};

/// Numbers that the softmax of a row of logits leaves for the way back.
const NUMBERS_OF_A_SOFTMAX: usize = 6;

/// What layers take and give: prompts and completions.
type Streams = [Shadow; 2];

/// Gradients gathered; those that several stages give are added.
#[derive(Default)]
struct Sum {
    shared: HashMap<&'static str, Shadow>,
    others: Vec<Shadow>,
}

const TABLE: &str = "embedding table";
const HEAD: &str = "output head";
const NORM: &str = "last norm";

impl Sum {
    fn add(&mut self, tape: &Tape, mut found: Asked, shared: &[(&'static str, &Shadow)]) {
        for (name, leaf) in shared {
            let Some(new) = found.take(leaf) else { continue };
            let sum = match self.shared.remove(name) {
                Some(before) => tape.add(before, new),
                None => new,
            };
            self.shared.insert(name, sum);
        }
        self.others.extend(found.rest());
    }
}

/// One micro-batch through a model.
pub(super) struct Update<'a> {
    pub(super) model: &'a ModelShape,
    pub(super) shape: &'a PassShape,
    pub(super) arena: &'a Arena,
}

/// What a graph sees of the head.
struct Head {
    norm: Shadow,
    weight: Shadow,
}

impl Update<'_> {
    pub(super) fn run(&self, kept: Kept) {
        let _tables = self.tables(kept);
        match kept {
            Kept::Activations => self.keep_activations(),
            Kept::LayerInputs => self.keep_layer_inputs(),
        }
    }

    /// What layers share in their passes.
    fn tables(&self, kept: Kept) -> Block {
        let (prompts, completions) = (self.prompts(), self.completions());
        let of_prompts = if self.shape.prompts > 1 && !completions.own_operations {
            completions.rows.tokens() * completions.heads.query * prompts.rows.len
        } else {
            0
        };
        let tables = prompts.tables() + completions.tables() + of_prompts;
        // Layers that run a second time, with a graph, have tensors of their own.
        let times = if kept == Kept::LayerInputs { 2 } else { 1 };
        self.arena.take((prompts.angles() + completions.angles() + times * tables) * NUMBER)
    }

    pub(super) fn pass(&self, rows: Rows) -> Pass {
        let PassShape { habits, threads, .. } = *self.shape;
        Pass { own_operations: habits.own_operations, heads: self.model.heads, rows, threads }
    }

    pub(super) fn prompts(&self) -> Pass {
        self.pass(Rows::independent(self.shape.prompts, self.shape.prompt_tokens.saturating_sub(1)))
    }

    fn completions(&self) -> Pass {
        let PassShape { prompts, completions, completion_tokens, .. } = *self.shape;
        self.pass(Rows { prompts, completions, len: completion_tokens })
    }

    fn keep_activations(&self) {
        let tape = Tape::new(self.arena);
        let learning = self.model.language_learning();
        let table = self.table(&tape, learning.base);
        let layers: Vec<_> = self.model.layers.iter().map(|layer| layer.weights(&tape, learning)).collect();
        let head = self.head(&tape, &table, learning.base);
        let hidden = self.decode(&tape, &table, &layers, true);
        let mut sum = Sum::default();
        let loss = if self.chunks().len() == 1 {
            self.loss(&tape, &head, hidden)
        } else {
            let asked = self.through_head(&hidden.clone().detached(), &mut sum);
            asked_of(&tape, hidden, asked)
        };
        let found = tape.gradients(loss);
        sum.add(&tape, found, &[(TABLE, &table), (HEAD, &head.weight), (NORM, &head.norm)]);
    }

    fn keep_layer_inputs(&self) {
        let learning = self.model.language_learning();
        let Some((last, before)) = self.model.layers.split_last() else { return self.keep_activations() };
        let plain = Tape::new(self.arena);
        let weights = |layer: &DecoderLayer| layer.weights(&plain, Learning::default());
        let features = self.encode_vision(&plain, false);
        let table = self.table(&plain, false);
        let mut streams = self.embed(&plain, &table, features.clone());
        let mut inputs = Vec::with_capacity(before.len());
        for layer in before {
            inputs.push(streams.clone());
            streams = self.layer(&plain, layer, &weights(layer), streams);
        }
        let hidden = self.last_layer(&plain, last, &weights(last), streams.clone());

        let mut sum = Sum::default();
        let asked = self.through_head(&hidden, &mut sum);
        let mut asked = self.through_layer(last, streams, &mut sum, |tape, weights, streams| {
            asked_of(tape, self.last_layer(tape, last, weights, streams), asked)
        });
        for (layer, streams) in before.iter().zip(inputs).rev() {
            asked = self.through_layer(layer, streams, &mut sum, |tape, weights, streams| {
                streams_asked(tape, self.layer(tape, layer, weights, streams), asked)
            });
        }
        let tape = Tape::new(self.arena);
        let table = self.table(&tape, learning.base);
        let features = if self.model.vision_learns() { self.encode_vision(&tape, true) } else { features };
        let loss = streams_asked(&tape, self.embed(&tape, &table, features), asked);
        let found = tape.gradients(loss);
        sum.add(&tape, found, &[(TABLE, &table)]);
    }

    fn through_layer(
        &self,
        layer: &DecoderLayer,
        streams: Streams,
        sum: &mut Sum,
        asked: impl FnOnce(&Tape, &LayerWeights, Streams) -> Shadow,
    ) -> Streams {
        let tape = Tape::new(self.arena);
        let weights = layer.weights(&tape, self.model.language_learning());
        let leaves = streams.map(|stream| tape.leaf(stream));
        let loss = asked(&tape, &weights, leaves.clone());
        let mut found = tape.gradients(loss);
        let asked = leaves.each_ref().map(|leaf| match found.take(leaf) {
            Some(found) => found,
            None => tape.product(leaf.len),
        });
        sum.add(&tape, found, &[]);
        asked
    }

    /// See `Staged::through_head`.
    fn through_head(&self, hidden: &Shadow, sum: &mut Sum) -> Shadow {
        let chunks = self.chunks();
        let whole = chunks.len() == 1;
        let learns = self.model.learns.language_model;
        let plain = Tape::new(self.arena);
        let rows = |num_rows: usize| {
            if whole {
                hidden.clone()
            } else {
                plain.narrow(hidden.clone(), num_rows * self.model.hidden, true)
            }
        };
        if !whole {
            let table = self.table(&plain, false);
            let head = self.head(&plain, &table, false);
            for &num_rows in &chunks {
                self.scores(&plain, &head, rows(num_rows));
            }
            self.reference();
        }
        let mut asked = Vec::with_capacity(chunks.len());
        for &num_rows in &chunks {
            let tape = Tape::new(self.arena);
            let table = self.table(&tape, learns);
            let head = self.head(&tape, &table, learns);
            let leaf = tape.leaf(rows(num_rows));
            let loss = if whole {
                self.loss(&tape, &head, leaf.clone())
            } else {
                self.scores(&tape, &head, leaf.clone())
            };
            let mut found = tape.gradients(loss);
            asked.extend(found.take(&leaf));
            sum.add(&tape, found, &[(TABLE, &table), (HEAD, &head.weight), (NORM, &head.norm)]);
        }
        plain.cat(asked, true)
    }

    /// Numbers of rows that go through the head together.
    fn chunks(&self) -> Vec<usize> {
        let at_once = token_scores::rows_at_once(self.model.vocab_size, NUMBER, self.shape.options);
        let num_tokens = self.num_tokens();
        (0..num_tokens).step_by(at_once).map(|start| at_once.min(num_tokens - start)).collect()
    }

    fn num_tokens(&self) -> usize {
        self.completions().rows.tokens()
    }

    pub(super) fn table(&self, tape: &Tape, learns: bool) -> Shadow {
        parameter(tape, self.model.vocab_size * self.model.hidden, learns)
    }

    fn head(&self, tape: &Tape, table: &Shadow, learns: bool) -> Head {
        let weight = if self.model.tied { table.clone() } else { self.table(tape, learns) };
        Head { norm: parameter(tape, self.model.hidden, learns), weight }
    }

    fn loss(&self, tape: &Tape, head: &Head, hidden: Shadow) -> Shadow {
        let scores = self.scores(tape, head, hidden);
        self.reference();
        scores
    }

    fn logits(&self, tape: &Tape, head: &Head, hidden: Shadow) -> Shadow {
        let rows = hidden.len / self.model.hidden;
        let hidden = self.completions().norm(tape, hidden, head.norm.clone());
        if self.model.tied {
            let turned = tape.transpose(head.weight.clone());
            tape.matmul(hidden, turned, rows * self.model.vocab_size)
        } else {
            tape.linear(hidden, &head.weight, None, self.model.vocab_size)
        }
    }

    /// Log-probabilities and entropies, as one sum.
    fn scores(&self, tape: &Tape, head: &Head, hidden: Shadow) -> Shadow {
        let logits = self.logits(tape, head, hidden);
        let rows = logits.len / self.model.vocab_size;
        let options = self.shape.options;
        if self.shape.habits.own_operations {
            let output = rows * (1 + usize::from(options.entropy));
            let op = Own { kept: rows * NUMBERS_OF_A_SOFTMAX, ..Own::plain(output) };
            return tape.sum(tape.own([logits], op), 1);
        }
        let scaled = tape.scale(logits);
        let shifted = tape.add(scaled, tape.tensor(rows));
        let sums = tape.map(tape.sum(tape.map(shifted.clone(), 1), rows), 1);
        let all = tape.add(shifted, sums);
        let chosen = tape.sum(tape.select(all.clone(), rows), 1);
        if !options.entropy {
            return chosen;
        }
        let all = if options.entropy_gradient { all } else { all.detached() };
        let entropies = tape.mul(tape.map(all.clone(), 1), all);
        tape.add(chosen, tape.sum(entropies, 1))
    }

    /// The reference's pass, where the loss asks for it.
    fn reference(&self) {
        if !self.shape.has_reference {
            return;
        }
        let tape = Tape::new(self.arena);
        let _tables = self.tables(Kept::Activations);
        let table = self.table(&tape, false);
        let layers = self.model.layers.iter().map(|layer| layer.weights(&tape, Learning::default()));
        let hidden = self.decode(&tape, &table, &layers.collect::<Vec<_>>(), false);
        let head = self.head(&tape, &table, false);
        for num_rows in self.chunks() {
            self.scores(&tape, &head, tape.narrow(hidden.clone(), num_rows * self.model.hidden, true));
        }
    }

    /// What all layers make of the completions.
    fn decode(&self, tape: &Tape, table: &Shadow, weights: &[LayerWeights], learns: bool) -> Shadow {
        let features = self.encode_vision(tape, learns);
        let mut streams = self.embed(tape, table, features);
        let layers: Vec<_> = self.model.layers.iter().zip(weights).collect();
        let Some(((last, last_weights), before)) = layers.split_last() else { return streams[1].clone() };
        for (layer, weights) in before {
            streams = self.layer(tape, layer, weights, streams);
        }
        self.last_layer(tape, last, last_weights, streams)
    }

    fn embed(&self, tape: &Tape, table: &Shadow, features: Option<Shadow>) -> Streams {
        let prompts = self.embed_prompts(tape, table, features);
        [prompts, embed(tape, table, None, self.num_tokens() * self.model.hidden)]
    }

    pub(super) fn embed_prompts(&self, tape: &Tape, table: &Shadow, features: Option<Shadow>) -> Shadow {
        embed(tape, table, features, self.prompts().rows.tokens() * self.model.hidden)
    }

    fn layer(&self, tape: &Tape, layer: &DecoderLayer, weights: &LayerWeights, streams: Streams) -> Streams {
        let [prompts, completions] = streams;
        let (prompts, key_value) = layer.forward(tape, weights, self.prompts(), prompts, None, None);
        let completions = self.seeing(tape, layer, weights, completions, &key_value);
        [prompts, completions]
    }

    fn last_layer(
        &self,
        tape: &Tape,
        layer: &DecoderLayer,
        weights: &LayerWeights,
        [prompts, completions]: Streams,
    ) -> Shadow {
        let key_value = layer.key_value(tape, weights, self.prompts(), prompts);
        self.seeing(tape, layer, weights, completions, &key_value)
    }

    fn seeing(
        &self,
        tape: &Tape,
        layer: &DecoderLayer,
        weights: &LayerWeights,
        completions: Shadow,
        prompt: &KeyValue,
    ) -> Shadow {
        layer.forward(tape, weights, self.completions(), completions, Some(prompt), None).0
    }

    /// Features of the prompts' media.
    pub(super) fn encode_vision(&self, tape: &Tape, learns: bool) -> Option<Shadow> {
        let MediaShape { num_tokens, slice_patches } = self.shape.media;
        if num_tokens == 0 {
            return None;
        }
        let tower = &self.model.vision;
        let (config, learns_of) = (&tower.config, self.model.learns);
        let base = |base: bool| Learning { base: base && learns, adapters: learns };
        let (in_tower, in_merger) = (base(learns_of.vision_tower), base(learns_of.merger));
        let (width, unit) = (config.hidden_size, config.merge_unit());
        let patches = num_tokens * unit;
        // The patches as they come, and in the order of windows.
        let _values = self.arena.take(patches * config.patch_dim() * NUMBER);
        let input = tape.tensor(patches * config.patch_dim());
        let embedding = parameter(tape, config.patch_dim() * width, in_tower.base);
        let mut hidden = tape.linear(input, &embedding, None, width);
        let window = (config.window_size / config.patch_size).pow(2);
        let heads =
            crate::attention::Heads { query: config.num_heads, kv: config.num_heads, dim: config.head_dim() };
        for (index, block) in tower.blocks.iter().enumerate() {
            let full = config.fullatt_block_indexes.contains(&index);
            let len = if full { slice_patches } else { window }.clamp(1, patches);
            let pass = Pass { heads, ..self.pass(Rows::independent(patches / len, len)) };
            hidden = block.forward(tape, in_tower, pass, hidden, full);
        }
        let norm = parameter(tape, width, in_merger.base);
        let pass = Pass { heads, ..self.pass(Rows::independent(1, patches)) };
        let hidden = pass.norm(tape, hidden, norm);
        let [first, second] = &tower.merger;
        let hidden = tape.map(first.run(tape, in_merger, hidden), 2);
        let features = second.run(tape, in_merger, hidden);
        let len = features.len;
        Some(tape.select(features, len))
    }
}

fn embed(tape: &Tape, table: &Shadow, features: Option<Shadow>, len: usize) -> Shadow {
    let embedded = tape.select(table.clone(), len);
    match features {
        Some(features) => tape.select(tape.cat(vec![embedded, features], true), len),
        None => embedded,
    }
}

/// A scalar whose gradient with respect to `output` is `asked`.
fn asked_of(tape: &Tape, output: Shadow, asked: Shadow) -> Shadow {
    tape.sum(tape.mul(output, asked), 1)
}

fn streams_asked(tape: &Tape, streams: Streams, asked: Streams) -> Shadow {
    let [prompts, completions] = streams;
    let [of_prompts, of_completions] = asked;
    tape.add(asked_of(tape, prompts, of_prompts), asked_of(tape, completions, of_completions))
}
