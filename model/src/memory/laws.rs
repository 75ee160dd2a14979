//! How predictions grow. That they are true is measured in `model/tests/memory.rs`.

use std::path::Path;

use serde_json::json;

use super::{Habits, MediaShape, ModelShape, PassShape};
use crate::{
    group_forward::LogProbOptions, group_gradients::Kept, qwen2_5_vl::Qwen25VlConfig, trainable::Trainable,
};

const OWN: Habits = Habits { own_operations: true, aligns_by_copying: true };
const COMPOSED: Habits = Habits { own_operations: false, aligns_by_copying: false };

fn model(vocab_size: usize, trainable: Trainable) -> ModelShape {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity/flat_tied");
    let mut raw = Qwen25VlConfig::from_dir(&dir).unwrap().raw;
    for (key, value) in [
        ("hidden_size", json!(256)),
        ("intermediate_size", json!(704)),
        ("num_hidden_layers", json!(6)),
        ("vocab_size", json!(vocab_size)),
        ("rope_scaling", json!({ "type": "mrope", "mrope_section": [8, 12, 12] })),
    ] {
        raw.insert(key.to_owned(), value);
    }
    raw["vision_config"]["out_hidden_size"] = json!(256);
    ModelShape::new(&Qwen25VlConfig::from_json(&raw, &dir).unwrap(), trainable, None)
}

fn pass(habits: Habits, prompt_tokens: usize, completions: usize) -> PassShape {
    PassShape {
        habits,
        threads: 2,
        prompts: 1,
        prompt_tokens,
        completions,
        completion_tokens: 64,
        media: MediaShape::default(),
        options: LogProbOptions { entropy: true, entropy_gradient: true, ..LogProbOptions::default() },
        has_reference: false,
    }
}

const LANGUAGE: Trainable = Trainable { language_model: true, ..Trainable::NONE };
const KEPT: [Kept; 2] = [Kept::Activations, Kept::LayerInputs];

#[test]
fn memory_follows_the_prompt_and_all_completions_not_their_product() {
    let model = model(65_536, LANGUAGE);
    for kept in KEPT {
        let bytes = |prompt, completions| model.update_bytes(&pass(OWN, prompt, completions), kept) as f64;
        // From 4 to 16 completions is 768 tokens more, which cost what a prompt's do, and their share of the head.
        let more_completions = bytes(8192, 16) - bytes(8192, 4);
        let longer_prompt = bytes(8192 + 768, 4) - bytes(8192, 4);
        assert!(longer_prompt > 0.0, "{kept:?}");
        assert!(more_completions < 3.0 * longer_prompt, "{kept:?}: {more_completions} for {longer_prompt}");
        // Sixteen prompts of their own would take about sixteen times as much.
        let apart = PassShape { prompts: 16, completions: 1, ..pass(OWN, 8192, 16) };
        let apart = model.update_bytes(&apart, kept) as f64;
        assert!(bytes(8192, 16) < 0.15 * apart, "{kept:?}: {} of {apart}", bytes(8192, 16));
        // Twice the prompt is no more than twice the memory.
        assert!(bytes(16_384, 4) < 2.05 * bytes(8192, 4), "{kept:?}");
    }
}

#[test]
fn a_vocabulary_costs_its_matrices_and_one_chunk_of_logits_however_many_tokens() {
    for kept in KEPT {
        let more = |prompt, completions| {
            let bytes = |size| model(size, LANGUAGE).update_bytes(&pass(OWN, prompt, completions), kept);
            bytes(131_072).abs_diff(bytes(65_536))
        };
        let matrix = 65_536 * 256 * 4;
        for (prompt, completions) in [(512, 8), (512, 16), (8192, 16)] {
            let more = more(prompt, completions);
            // The table's gradient, the sum that it is added to, zeros and their copy.
            assert!(more <= 5 * matrix + (64 << 20), "{kept:?}, {prompt}, {completions}: {more}");
        }
        let frozen = |size| model(size, Trainable { merger: true, ..Trainable::NONE });
        let bytes = |size| frozen(size).update_bytes(&pass(OWN, 512, 16), kept);
        assert!(bytes(131_072).abs_diff(bytes(65_536)) < 1 << 20, "{kept:?}: a frozen head keeps its chunk");
    }
}

#[test]
fn composed_attention_keeps_scores_of_all_pairs() {
    let model = model(4096, LANGUAGE);
    let bytes = |habits, prompt| model.update_bytes(&pass(habits, prompt, 1), Kept::Activations) as f64;
    assert!(bytes(OWN, 4096) < 2.1 * bytes(OWN, 2048));
    assert!(bytes(COMPOSED, 4096) > 3.0 * bytes(COMPOSED, 2048));
    // Of five layers of four heads at least the exponentials and the scores themselves.
    assert!(bytes(COMPOSED, 4096) > (5 * 4 * 2 * 4096_usize.pow(2) * 4) as f64);
}

#[test]
fn layer_inputs_take_less_and_a_reference_only_where_it_runs() {
    let model = model(4096, LANGUAGE);
    let shape = pass(OWN, 2048, 8);
    let [all, inputs] = KEPT.map(|kept| model.update_bytes(&shape, kept));
    assert!(inputs * 2 < all, "{inputs} and {all}");
    let with_reference = PassShape { has_reference: true, ..shape };
    assert!(model.update_bytes(&with_reference, Kept::Activations) >= all);
}

#[test]
fn parameters_are_counted_once() {
    let found = model(1000, LANGUAGE).parameters();
    assert_eq!(found.largest_learning, 1000 * 256 * 4);
    assert!(found.learning < found.all);
    assert_eq!(model(1000, Trainable::ALL).parameters().learning, found.all);
    assert_eq!(model(1000, Trainable::NONE).parameters().learning, 0);
}
