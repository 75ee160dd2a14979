//! Answers that the policy itself gives, scored by a reward.

use std::{panic::resume_unwind, sync::Arc, thread};

use burn::tensor::backend::Backend;
use medgrpo_model::{
    generate::{Completion, FinishReason, GenerationConfig, generate},
    processor::Processor,
    vlm::Vlm,
};
use medgrpo_rewards::{Response, Reward, compose::normalise::Normaliser};
use serde_json::Value;

use super::GroupSource;
use crate::{
    TrainError,
    predict::decode,
    rollout::{PreparedSample, RolloutCompletion, RolloutGroup},
    seed::derive_seed,
    workers::Workers,
};

/// Groups that are scored at the same time.
const MAX_SCORED_AT_ONCE: usize = 64;

/// Samples groups of completions in process and scores them.
pub struct OnPolicy {
    /// Whose tokenizer turns tokens into text.
    pub processor: Arc<Processor>,
    /// How to sample; `num_generations` is the group size.
    pub generation: GenerationConfig,
    /// What an answer is worth.
    pub reward: Arc<dyn Reward>,
    /// What puts the reward's components on one scale: it is told when a step is over, and may learn from it.
    pub normaliser: Arc<dyn Normaliser>,
    /// Sequences generated at a time by one worker.
    pub batch_size: usize,
    /// Who generates.
    pub workers: Arc<Workers>,
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
        let mut samples = samples.into_iter().enumerate().peekable();
        let mut chunks: Vec<Vec<(usize, PreparedSample)>> = Vec::new();
        while samples.peek().is_some() {
            chunks.push(samples.by_ref().take(prompts_at_a_time).collect());
        }
        let drawn = self.workers.map(chunks, |chunk| self.draw(policy, chunk, seed, device));
        let mut groups: Vec<RolloutGroup> =
            drawn.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        self.score_all(&mut groups)?;
        Ok(groups)
    }

    fn end_step(&mut self) {
        self.normaliser.end_step();
    }

    fn state(&self) -> Value {
        self.normaliser.state()
    }

    fn restore(&mut self, state: &Value) -> Result<(), TrainError> {
        Ok(self.normaliser.restore(state)?)
    }
}

impl OnPolicy {
    /// Completions of the samples of one chunk, each with its place in the step.
    fn draw<B: Backend, M: Vlm<B>>(
        &self,
        policy: &M,
        chunk: Vec<(usize, PreparedSample)>,
        seed: u64,
        device: &B::Device,
    ) -> Result<Vec<RolloutGroup>, TrainError> {
        let prompts: Vec<_> = chunk.iter().map(|(_, prepared)| &prepared.prompt).collect();
        let seeds: Vec<u64> =
            chunk.iter().map(|(place, _)| derive_seed(seed, "completion", *place as u64)).collect();
        let drawn = generate(policy, &prompts, &seeds, &self.generation, device)?;
        let groups = chunk.into_iter().zip(drawn).map(|((_, prepared), completions)| {
            let completions = completions
                .into_iter()
                .map(|completion| self.unscored(completion))
                .collect::<Result<_, _>>()?;
            Ok(RolloutGroup { prepared, completions })
        });
        groups.collect()
    }

    fn unscored(&self, completion: Completion) -> Result<RolloutCompletion, TrainError> {
        Ok(RolloutCompletion {
            text: decode(self.processor.tokenizer(), &completion)?,
            truncated: completion.finish_reason == FinishReason::Length,
            token_ids: completion.token_ids,
            score: None,
            sampling_log_probs: None,
            kl: None,
        })
    }

    /// Scores all groups, many at once: a reward may wait for a judge far away, so there are more threads than cores.
    fn score_all(&self, groups: &mut [RolloutGroup]) -> Result<(), TrainError> {
        let share = groups.len().div_ceil(MAX_SCORED_AT_ONCE).max(1);
        thread::scope(|scope| {
            let score =
                |groups: &mut [RolloutGroup]| groups.iter_mut().try_for_each(|group| self.score(group));
            let threads: Vec<_> =
                groups.chunks_mut(share).map(|groups| scope.spawn(move || score(groups))).collect();
            // All are waited for; the first error in the order of the groups is the one that is told.
            let outcomes: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
            outcomes.into_iter().try_for_each(|outcome| outcome.unwrap_or_else(|panic| resume_unwind(panic)))
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
