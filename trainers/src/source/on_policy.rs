//! Answers that the policy itself gives, scored by a reward.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use medgrpo_model::{
    generate::{Completion, FinishReason, GenerationConfig, generate},
    processor::Processor,
    vlm::Vlm,
};
use medgrpo_rewards::{Response, Reward};
use rayon::prelude::*;

use super::GroupSource;
use crate::{
    TrainError,
    predict::decode,
    rollout::{PreparedSample, RolloutCompletion, RolloutGroup},
    seed::derive_seed,
};

/// Samples groups of completions in process and scores them.
pub struct OnPolicy {
    /// Whose tokenizer turns tokens into text.
    pub processor: Arc<Processor>,
    /// How to sample; `num_generations` is the group size.
    pub generation: GenerationConfig,
    /// What an answer is worth.
    pub reward: Arc<dyn Reward>,
    /// Sequences generated at a time.
    pub batch_size: usize,
}

impl<B: Backend, M: Vlm<B>> GroupSource<B, M> for OnPolicy {
    fn collect(
        &mut self,
        policy: &M,
        samples: Vec<PreparedSample>,
        seed: u64,
        device: &B::Device,
    ) -> Result<Vec<RolloutGroup>, TrainError> {
        let prompts_at_a_time = (self.batch_size / self.generation.num_generations).max(1);
        let mut groups = Vec::with_capacity(samples.len());
        let mut samples = samples.into_iter().enumerate().peekable();
        while samples.peek().is_some() {
            let chunk: Vec<(usize, PreparedSample)> = samples.by_ref().take(prompts_at_a_time).collect();
            let prompts: Vec<_> = chunk.iter().map(|(_, prepared)| &prepared.prompt).collect();
            let seeds: Vec<u64> =
                chunk.iter().map(|(place, _)| derive_seed(seed, "completion", *place as u64)).collect();
            let completions = generate(policy, &prompts, &seeds, &self.generation, device)?;
            for ((_, prepared), completions) in chunk.into_iter().zip(completions) {
                let completions = completions
                    .into_iter()
                    .map(|completion| self.unscored(completion))
                    .collect::<Result<_, _>>()?;
                groups.push(RolloutGroup { prepared, completions });
            }
        }
        groups.par_iter_mut().try_for_each(|group| self.score(group))?;
        Ok(groups)
    }
}

impl OnPolicy {
    fn unscored(&self, completion: Completion) -> Result<RolloutCompletion, TrainError> {
        Ok(RolloutCompletion {
            text: decode(self.processor.tokenizer(), &completion)?,
            truncated: completion.finish_reason == FinishReason::Length,
            token_ids: completion.token_ids,
            score: None,
        })
    }

    fn score(&self, group: &mut RolloutGroup) -> Result<(), TrainError> {
        let responses: Vec<Response<'_>> = group
            .completions
            .iter()
            .map(|completion| Response {
                text: &completion.text,
                num_tokens: completion.token_ids.len(),
                truncated: completion.truncated,
            })
            .collect();
        let scores = self.reward.score_group(&group.prepared.sample, &responses)?;
        assert_eq!(scores.len(), group.completions.len(), "a reward gives one score per response");
        for (completion, score) in group.completions.iter_mut().zip(scores) {
            completion.score = Some(score);
        }
        Ok(())
    }
}
