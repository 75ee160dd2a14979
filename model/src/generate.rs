//! Batched sampling with a key-value cache: each prompt is run once and shared by its completions.

use burn::tensor::backend::Backend;
use rayon::prelude::*;

use crate::{
    ModelError,
    attention::Rows,
    lanes::Exponentials,
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
    /// Whether completions tell the log-probabilities of their tokens, which greedy ones do not have.
    pub log_probs: bool,
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
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Its tokens, the stop token included.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Log-probability of each of its tokens if asked for, over the whole vocabulary and with the logits divided by the
    /// temperature: what [`completion_log_probs`](crate::group_forward::completion_log_probs) gives, whatever `top_k`,
    /// `top_p`, the penalty and banned ids leave to draw from.
    pub log_probs: Option<Vec<f32>>,
}

/// Completions of each prompt, `num_generations` a prompt.
///
/// `seeds` holds one seed per prompt: a completion depends on its prompt's seed and its own index, not on the batch.
/// Call it on a model without autodiff.
///
/// # Panics
/// If there is not one seed per prompt, or if greedy completions are asked for log-probabilities.
pub fn generate<B: Backend, M: Vlm<B>>(
    model: &M,
    prompts: &[&Encoded],
    seeds: &[u64],
    config: &GenerationConfig,
    device: &B::Device,
) -> Result<Vec<Vec<Completion>>, ModelError> {
    assert_eq!(prompts.len(), seeds.len(), "one seed per prompt");
    let is_greedy = config.sampling.temperature == 0.0;
    assert!(!(config.log_probs && is_greedy), "greedy tokens are drawn from no distribution");
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
                log_probs: config.log_probs.then(Vec::new),
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
            .for_each(|(sequence, logits)| sequence.step(logits, &banned, config));
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
    log_probs: Option<Vec<f32>>,
    stopped: bool,
}

impl Sequence {
    fn step(&mut self, logits: &mut [f32], banned: &[u32], config: &GenerationConfig) {
        // The sampler changes its logits.
        let whole = self.log_probs.is_some().then(|| logits.to_vec());
        self.last_id = self.sampler.next(logits, banned);
        self.token_ids.push(self.last_id);
        if let (Some(log_probs), Some(whole)) = (&mut self.log_probs, whole) {
            let all = Exponentials::of(&whole, 1.0 / config.sampling.temperature);
            log_probs.push(all.log_prob(whole[self.last_id as usize]));
        }
        self.stopped = config.stop_ids.contains(&self.last_id);
    }

    fn finish(self) -> Completion {
        let finish_reason = if self.stopped { FinishReason::Stop } else { FinishReason::Length };
        Completion { token_ids: self.token_ids, finish_reason, log_probs: self.log_probs }
    }
}
