//! Sampling with a cache of keys and values, as `generate` does, on tensors without numbers.

use super::{
    PassShape,
    arena::Arena,
    layers::{KeyValue, Learning},
    shape::ModelShape,
    tape::{NUMBER, Tape},
    update::Update,
};
use crate::attention::Rows;

/// The prompts' pass and the last token.
pub(super) fn run(model: &ModelShape, shape: &PassShape, arena: &Arena) {
    let model = model.sampling();
    let update = Update { model: &model, shape, arena };
    let tape = Tape::new(arena);
    let weights: Vec<_> =
        model.layers.iter().map(|layer| layer.weights(&tape, Learning::default())).collect();
    let prompts = update.prompts();
    let tables = arena.take((prompts.angles() + prompts.tables()) * NUMBER);
    // They are kept until the last token.
    let features = update.encode_vision(&tape, false);
    let table = update.table(&tape, false);
    let mut hidden = update.embed_prompts(&tape, &table, features);
    let mut cached: Vec<KeyValue> = Vec::with_capacity(model.layers.len());
    for (index, (layer, weights)) in model.layers.iter().zip(&weights).enumerate() {
        if index + 1 == model.layers.len() {
            cached.push(layer.key_value(&tape, weights, prompts, hidden));
            break;
        }
        let (next, key_value) = layer.forward(&tape, weights, prompts, hidden, None, None);
        hidden = next;
        cached.push(key_value);
    }
    drop(tables);

    let &PassShape { prompts, completions, completion_tokens, .. } = shape;
    let pass = update.pass(Rows { prompts, completions, len: 1 });
    let sequences = pass.rows.sequences();
    let past = sequences * (completion_tokens - 1) * pass.heads.kv * pass.heads.dim;
    let own: Vec<KeyValue> = cached.iter().map(|_| [tape.tensor(past), tape.tensor(past)]).collect();
    let mut grown = Vec::with_capacity(own.len());
    let mut hidden = tape.tensor(sequences * model.hidden);
    for (((layer, weights), cached), own) in model.layers.iter().zip(&weights).zip(&cached).zip(own) {
        let (next, key_value) = layer.forward(&tape, weights, pass, hidden, Some(cached), Some(own));
        hidden = next;
        grown.push(key_value);
    }
    // Logits, where they are computed and where tokens are drawn from them.
    let _logits = tape.tensor(sequences * model.vocab_size);
    arena.pass(sequences * model.vocab_size * NUMBER);
}
