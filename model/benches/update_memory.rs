//! What the gradients of one micro-batch cost, by what of the forward pass is kept: peak memory, measured and predicted.
//!
//!     cargo bench -p medgrpo-model --features flex --bench update_memory
//!     cargo bench -p medgrpo-model --features flex --bench update_memory -- 512,2048 1,16    # these prompts and groups
//!
//! Random weights in a small decoder, one text prompt with G completions of 64 tokens each, entropies with their
//! gradient. Prints a table: memory is the peak above what rests before the pass, the gradients themselves included.
#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::{path::Path, time::Instant};

use burn::{backend::Autodiff, tensor::Tensor};
use burn_flex::Flex;
use medgrpo_model::{
    ModelError,
    group_forward::{CompletionLogProbs, Group, LogProbOptions},
    group_gradients::{Kept, completion_gradients},
    memory::{Habits, MediaShape, ModelShape, PassShape},
    processor::Encoded,
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig},
    trainable::Trainable,
    vlm::Vlm,
    weights::init_random,
};
use peak_alloc::PeakAlloc;
use serde_json::{Map, Value, json};

type B = Autodiff<Flex>;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const GROUP_SIZES: [usize; 4] = [1, 4, 8, 16];
const PROMPT_TOKENS: [usize; 3] = [512, 2048, 8192];
const COMPLETION_TOKENS: usize = 64;
const VOCAB_SIZE: u32 = 65_536;
const LEARNS: Trainable = Trainable { vision_tower: false, merger: false, language_model: true };
const OPTIONS: LogProbOptions =
    LogProbOptions { temperature: 1.0, entropy: true, entropy_gradient: true, logits_at_once: None };

fn config() -> Result<Qwen25VlConfig, ModelError> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/parity/flat_tied");
    let mut raw: Map<String, Value> = Qwen25VlConfig::from_dir(&dir)?.raw;
    for (key, value) in [
        ("hidden_size", json!(256)),
        ("intermediate_size", json!(704)),
        ("num_hidden_layers", json!(6)),
        ("num_attention_heads", json!(4)),
        ("num_key_value_heads", json!(2)),
        ("vocab_size", json!(VOCAB_SIZE)),
        ("rope_scaling", json!({ "type": "mrope", "mrope_section": [8, 12, 12] })),
    ] {
        raw.insert(key.to_owned(), value);
    }
    raw["vision_config"]["out_hidden_size"] = json!(256);
    Qwen25VlConfig::from_json(&raw, &dir)
}

/// Ordinary text ids, all below those of media.
fn ids(count: usize, salt: usize) -> Vec<u32> {
    (0..count).map(|place| ((place * 31 + salt * 7) % 360) as u32).collect()
}

fn loss(scored: CompletionLogProbs<B>) -> Result<(Tensor<B, 1>, ()), ModelError> {
    let entropy = scored.entropy.map(|entropy| entropy.sum().mul_scalar(0.01));
    let loss = scored.log_probs.sum().neg();
    Ok((entropy.map_or(loss.clone(), |entropy| loss - entropy), ()))
}

/// Bytes at the peak, and seconds.
fn measured(
    model: &Qwen25Vl<B>,
    prompt_tokens: usize,
    group_size: usize,
    kept: Kept,
) -> Result<(usize, f64), ModelError> {
    let prompt = Encoded { input_ids: ids(prompt_tokens, 0), ..Encoded::default() };
    let completions: Vec<Vec<u32>> = (1..=group_size).map(|salt| ids(COMPLETION_TOKENS, salt)).collect();
    let groups = [Group { prompt: &prompt, completions: &completions }];
    let rest = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let started = Instant::now();
    completion_gradients(model, &groups, OPTIONS, kept, &Default::default(), loss)?;
    Ok((ALLOCATOR.peak_usage() - rest, started.elapsed().as_secs_f64()))
}

fn predicted(model: &ModelShape, prompt_tokens: usize, group_size: usize, kept: Kept) -> usize {
    let shape = PassShape {
        habits: Habits::of::<B>(),
        threads: rayon::current_num_threads(),
        prompts: 1,
        prompt_tokens,
        completions: group_size,
        completion_tokens: COMPLETION_TOKENS,
        media: MediaShape::default(),
        options: OPTIONS,
        has_reference: false,
    };
    model.update_bytes(&shape, kept)
}

/// The numbers given as the argument at `place`, divided by commas; `all` if there is none.
fn chosen(place: usize, all: &[usize]) -> Vec<usize> {
    // Cargo adds `--bench` behind what a user gives.
    let mut given = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let given =
        given.nth(place).map(|list| list.split(',').filter_map(|number| number.parse().ok()).collect());
    given.unwrap_or_else(|| all.to_vec())
}

fn main() -> Result<(), ModelError> {
    let config = config()?;
    let model: Qwen25Vl<B> = init_random(Qwen25Vl::new(&config, &Default::default()), 1, 0.02);
    let model = model.with_trainable(LEARNS);
    let shape = ModelShape::new(&config, LEARNS, None);
    // Every thread takes what it keeps.
    measured(&model, 256, 4, Kept::Activations)?;
    println!("| prompt | G | kept | measured MiB | predicted MiB | ratio | seconds |");
    println!("|--:|--:|---|--:|--:|--:|--:|");
    for prompt_tokens in chosen(0, &PROMPT_TOKENS) {
        for group_size in chosen(1, &GROUP_SIZES) {
            for kept in [Kept::Activations, Kept::LayerInputs] {
                let (measured, seconds) = measured(&model, prompt_tokens, group_size, kept)?;
                let predicted = predicted(&shape, prompt_tokens, group_size, kept);
                println!(
                    "| {prompt_tokens} | {group_size} | {kept:?} | {} | {} | {:.2} | {seconds:.1} |",
                    measured >> 20,
                    predicted >> 20,
                    predicted as f64 / measured as f64
                );
            }
        }
    }
    Ok(())
}
