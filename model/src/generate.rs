//! Batched sampling with a key-value cache: each prompt is run once and shared by its completions.

use burn::tensor::backend::Backend;
use rayon::prelude::*;

use crate::{
    ModelError,
    attention::Rows,
    processor::Encoded,
    prompt::Prompts,
    sampling::{Sampler, Sampling},
    vlm::{DecoderContext, LayerKeyValues, Positions, Vlm},
};

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationConfig {
    /// Completions per prompt.
    pub num_generations: usize,
    /// Longest completion in tokens, the stop token included.
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end a completion; the one met is kept as its last.
    pub stop_ids: Vec<u32>,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It met a stop token.
    Stop,
    /// It used up its budget.
    Length,
}

impl FinishReason {
    /// The name OpenAI-compatible APIs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A generated answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Its tokens, the stop token included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Completions of each prompt, `num_generations` a prompt.
///
/// `seeds` holds one seed per prompt: a completion depends on its prompt's seed and its own index, not on the batch.
/// Call it on a model without autodiff.
pub fn generate<B: Backend, M: Vlm<B>>(
    model: &M,
    prompts: &[&Encoded],
    seeds: &[u64],
    config: &GenerationConfig,
    device: &B::Device,
) -> Result<Vec<Vec<Completion>>, ModelError> {
    assert_eq!(prompts.len(), seeds.len(), "one seed per prompt");
    let features = model.encode_vision(prompts, device);
    let cached = Prompts::run(model, prompts, features, device)?;
    let rows = Rows { prompts: prompts.len(), completions: config.num_generations, len: 1 };
    let prompt_mask = cached.rows.padding();
    let banned = model.placeholder_ids();

    let mut sequences: Vec<Sequence> = (0..rows.sequences())
        .map(|index| {
            let (prompt, completion) = (index / rows.completions, index % rows.completions);
            Sequence {
                sampler: Sampler::new(
                    config.sampling,
                    seeds[prompt],
                    completion as u64,
                    &prompts[prompt].input_ids,
                ),
                last_id: cached.rows.last_ids[prompt],
                token_ids: Vec::new(),
                stopped: false,
            }
        })
        .collect();
    let mut own: LayerKeyValues<B> = Vec::new();
    for step in 0..config.max_new_tokens {
        let mut positions = Positions::default();
        for index in 0..rows.sequences() {
            let prompt = index / rows.completions;
            match step {
                0 => positions.extend(&cached.rows.last_positions[prompt]),
                _ => positions
                    .extend(&Positions::text(cached.rows.next_positions[prompt] + step as i64 - 1, 1)),
            }
        }
        let ids: Vec<Vec<u32>> = sequences.iter().map(|sequence| vec![sequence.last_id]).collect();
        let hidden = model.embed(&ids, None, device);
        let context = DecoderContext {
            own_mask: None,
            prompt: Some(&cached.key_values),
            prompt_mask: prompt_mask.as_ref(),
            own: Some(&mut own),
        };
        let logits = model.logits(model.decode(hidden, rows, &positions, context));
        let mut logits: Vec<f32> =
            logits.into_data().convert::<f32>().into_vec().expect("converted to f32 just before");
        sequences
            .par_iter_mut()
            .zip(logits.par_chunks_mut(model.vocab_size()))
            .filter(|(sequence, _)| !sequence.stopped)
            .for_each(|(sequence, logits)| sequence.step(logits, &banned, &config.stop_ids));
        if sequences.iter().all(|sequence| sequence.stopped) {
            break;
        }
    }
    let mut completions = sequences.into_iter().map(Sequence::finish);
    Ok((0..prompts.len()).map(|_| completions.by_ref().take(rows.completions).collect()).collect())
}

struct Sequence {
    sampler: Sampler,
    last_id: u32,
    token_ids: Vec<u32>,
    stopped: bool,
}

impl Sequence {
    fn step(&mut self, logits: &mut [f32], banned: &[u32], stop_ids: &[u32]) {
        self.last_id = self.sampler.next(logits, banned);
        self.token_ids.push(self.last_id);
        self.stopped = stop_ids.contains(&self.last_id);
    }

    fn finish(self) -> Completion {
        let finish_reason = if self.stopped { FinishReason::Stop } else { FinishReason::Length };
        Completion { token_ids: self.token_ids, finish_reason }
    }
}
