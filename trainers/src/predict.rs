//! Greedy answers for evaluation, batch by batch.

use burn::tensor::backend::Backend;
use medgrpo_datasets::TaskKind;
use medgrpo_model::{
    generate::{Completion, GenerationConfig, generate},
    processor::{Encoded, Tokenizer},
    sampling::Sampling,
    vlm::Vlm,
};

use crate::{TrainError, rollout::PreparedSample, workers::Workers};

/// How answers are generated.
pub struct Predictor<'a> {
    /// What turns tokens into text.
    pub tokenizer: &'a Tokenizer,
    /// Most tokens of an answer.
    pub max_new_tokens: &'a (dyn Fn(TaskKind) -> usize + Sync),
    /// Answers generated at a time by one worker.
    pub batch_size: usize,
    /// Who generates.
    pub workers: &'a Workers,
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
    ) -> Result<Vec<String>, TrainError> {
        let mut order: Vec<usize> = (0..samples.len()).collect();
        let budget = |index: usize| (self.max_new_tokens)(samples[index].sample.task);
        order.sort_by_key(|&index| (budget(index), samples[index].prompt.input_ids.len(), index));
        let batches: Vec<&[usize]> = order
            .chunk_by(|a, b| budget(*a) == budget(*b))
            .flat_map(|same_budget| same_budget.chunks(self.batch_size))
            .collect();
        let answered = self.workers.map(batches, |batch| {
            let prompts: Vec<&Encoded> = batch.iter().map(|&index| &samples[index].prompt).collect();
            let config = GenerationConfig {
                num_generations: 1,
                max_new_tokens: budget(batch[0]),
                sampling: Sampling::GREEDY,
                stop_ids: stop_ids(self.tokenizer),
            };
            // Greedy decoding draws nothing: the seeds have no effect.
            let answers = generate(model, &prompts, &vec![0; batch.len()], &config, device)?;
            on_done(batch.len());
            let texts = answers.iter().map(|answers| decode(self.tokenizer, &answers[0]));
            let texts = texts.collect::<Result<Vec<_>, TrainError>>()?;
            Ok::<_, TrainError>(batch.iter().copied().zip(texts).collect::<Vec<_>>())
        });
        let mut texts = vec![String::new(); samples.len()];
        for batch in answered {
            for (index, text) in batch? {
                texts[index] = text;
            }
        }
        Ok(texts)
    }
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
