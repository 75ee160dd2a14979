//! Greedy answers for evaluation, batch by batch.

use burn::tensor::backend::Backend;
use medgrpo_datasets::TaskKind;
use medgrpo_model::{
    generate::{Completion, FinishReason, GenerationConfig, generate},
    processor::{Encoded, Tokenizer},
    sampling::Sampling,
    vlm::Vlm,
};

use crate::{TrainError, rollout::PreparedSample, workers::Workers};

/// How answers are generated.
pub struct Predictor<'a> {
    /// What turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// Tokens that end an answer.
    pub stop_ids: &'a [u32],
    /// Most tokens of an answer.
    pub max_new_tokens: &'a (dyn Fn(TaskKind) -> usize + Sync),
    /// Answers generated at a time by one worker.
    pub batch_size: usize,
    /// Who generates.
    pub workers: &'a Workers,
}

/// An answer to a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its text, special tokens removed.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Its tokens, the stop token included.
    pub num_tokens: usize,
}

impl Predictor<'_> {
    /// The likeliest answer to each sample, in order. Samples of one budget and similar length are run together;
    /// `on_done` is told how many were answered after each batch.
    pub fn predict<B: Backend, M: Vlm<B>>(
        &self,
        model: &M,
        samples: &[PreparedSample],
        device: &B::Device,
        on_done: impl Fn(usize) + Sync,
    ) -> Result<Vec<Answer>, TrainError> {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        let budget = |index: usize| (self.max_new_tokens)(samples[index].sample.task);
        order.sort_by_key(|&index| (budget(index), samples[index].prompt.input_ids.len(), index));
        let batches: Vec<&[usize]> = order
            .chunk_by(|a, b| budget(*a) == budget(*b))
            .flat_map(|same_budget| same_budget.chunks(self.batch_size))
            .collect();
        let answered = self.workers.map(batches, |batch| {
            let prompts: Vec<&Encoded> = batch.iter().map(|&index| &samples[index].prompt).collect();
            let answers =
                answer_batch(model, self.tokenizer, self.stop_ids, &prompts, budget(batch[0]), device)?;
            on_done(batch.len());
            Ok::<_, TrainError>(batch.iter().copied().zip(answers).collect::<Vec<_>>())
        });
        let mut answers: Vec<(usize, Answer)> = Vec::with_capacity(samples.len());
        for batch in answered {
            answers.extend(batch?);
        }
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }
}

/// The likeliest answers to prompts that run as one batch, each of at most `max_new_tokens` tokens.
pub fn answer_batch<B: Backend, M: Vlm<B>>(
    model: &M,
    tokenizer: &Tokenizer,
    stop_ids: &[u32],
    prompts: &[&Encoded],
    max_new_tokens: usize,
    device: &B::Device,
) -> Result<Vec<Answer>, TrainError> {
    let config = GenerationConfig {
        num_generations: 1,
        max_new_tokens,
        sampling: Sampling::GREEDY,
        stop_ids: stop_ids.to_vec(),
        log_probs: false,
    };
    // Greedy decoding draws nothing: the seeds have no effect.
    let answers = generate(model, prompts, &vec![0; prompts.len()], &config, device)?;
    let answers = answers.iter().map(|answers| {
        Ok(Answer {
            text: decode(tokenizer, &answers[0])?,
            finish_reason: answers[0].finish_reason,
            num_tokens: answers[0].token_ids.len(),
        })
    });
    answers.collect()
}

/// Tokens that end an answer.
pub fn stop_ids(tokenizer: &Tokenizer) -> Vec<u32> {
    let special = tokenizer.special();
    vec![special.im_end, special.endoftext]
}

/// A completion as text, special tokens removed.
pub fn decode(tokenizer: &Tokenizer, completion: &Completion) -> Result<String, TrainError> {
    tokenizer
        .decode(&completion.token_ids, true)
        .map_err(|source| TrainError::Processor { origin: "a generated answer".to_owned(), source })
}
