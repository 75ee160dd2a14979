//! What the gradients of one micro-batch cost, by what of the forward pass is kept: peak memory and time.
//!
//!     cargo bench -p medgrpo-model --bench update_memory
//!
//! Random weights in a small decoder, one text prompt with G completions of 64 tokens each, entropies with their
//! gradient. Prints a table: memory is the peak above what rests before the pass, the gradients themselves included.
#![expect(clippy::print_stdout, reason = "a bench prints")]

use std::{path::Path, time::Instant};

use burn::{backend::Autodiff, tensor::Tensor};
use burn_flex::Flex;
use medgrpo_model::{
    ModelError,
    gradients::gradients,
    group_forward::{CompletionLogProbs, Group, LogProbOptions, completion_log_probs},
    group_gradients::{Kept, completion_gradients},
    processor::Encoded,
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig},
    weights::init_random,
};
use peak_alloc::PeakAlloc;
use serde_json::{Map, Value, json};

type B = Autodiff<Flex>;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const GROUP_SIZES: [usize; 4] = [1, 4, 8, 16];
const PROMPT_TOKENS: [usize; 2] = [512, 2048];
const COMPLETION_TOKENS: usize = 64;
const VOCAB_SIZE: u32 = 65_536;

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

/// Peak above rest in mebibytes, and seconds; the better of two runs.
fn measured(mut pass: impl FnMut() -> Result<(), ModelError>) -> Result<(f64, f64), ModelError> {
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..2 {
        let rest = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let started = Instant::now();
        pass()?;
        let seconds = started.elapsed().as_secs_f64();
        let peak = (ALLOCATOR.peak_usage() - rest) as f64 / f64::from(1 << 20);
        best = (best.0.min(peak), best.1.min(seconds));
    }
    Ok(best)
}

fn main() -> Result<(), ModelError> {
    let device = Default::default();
    let model: Qwen25Vl<B> = init_random(Qwen25Vl::new(&config()?, &device), 1, 0.02);
    let options = LogProbOptions { entropy: true, entropy_gradient: true, ..LogProbOptions::default() };
    let at_once = LogProbOptions { logits_at_once: Some(usize::MAX), ..options };
    println!("| prompt | G | one graph | activations kept | layer inputs kept |");
    println!("|--:|--:|--:|--:|--:|");
    for prompt_tokens in PROMPT_TOKENS {
        let prompt = Encoded { input_ids: ids(prompt_tokens, 0), ..Encoded::default() };
        for group_size in GROUP_SIZES {
            let completions: Vec<Vec<u32>> =
                (1..=group_size).map(|salt| ids(COMPLETION_TOKENS, salt)).collect();
            let groups = [Group { prompt: &prompt, completions: &completions }];
            let whole = measured(|| {
                gradients(&model, |view| loss(completion_log_probs(view, &groups, at_once, &device)?))
                    .map(drop)
            })?;
            let staged = |kept| {
                measured(|| completion_gradients(&model, &groups, options, kept, &device, loss).map(drop))
            };
            let found = [whole, staged(Kept::Activations)?, staged(Kept::LayerInputs)?];
            let cells: Vec<String> =
                found.iter().map(|(mib, seconds)| format!("{mib:.0} MiB, {seconds:.2} s")).collect();
            println!("| {prompt_tokens} | {group_size} | {} |", cells.join(" | "));
        }
    }
    Ok(())
}
