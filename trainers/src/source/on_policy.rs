//! Answers that the policy itself gives, scored by a reward.

use std::{panic::resume_unwind, sync::Arc, thread};

use burn::tensor::backend::Backend;
use medgrpo_model::{
    generate::{Completion, FinishReason, GenerationConfig, generate},
    precision::Precision,
    processor::Processor,
    vlm::Vlm,
};
use medgrpo_rewards::{Response, Reward, compose::normalise::Normaliser};
use serde_json::Value;

use super::GroupSource;
use crate::{
    TrainError,
    cut::{Extent, Limits, pack},
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
    /// How to sample; `num_generations` is the group size, and `log_probs` becomes
    /// [`sampling_log_probs`](RolloutCompletion::sampling_log_probs).
    pub generation: GenerationConfig,
    /// What the policy computes with while it samples; `None` is what it learns with.
    pub precision: Option<Precision>,
    /// What an answer is worth.
    pub reward: Arc<dyn Reward>,
    /// What puts the reward's components on one scale: it is told when a step is over, and may learn from it.
    pub normaliser: Arc<dyn Normaliser>,
    /// What one worker generates at a time, counted as if every completion were as long as it may be; the completions of a
    /// prompt stay together.
    pub batch: Limits,
    /// Who generates.
    pub workers: Arc<Workers>,
}

impl<B: Backend, M: Vlm<B> + Clone> GroupSource<B, M> for OnPolicy {
    fn collect(
        &mut self,
        policy: &M,
        samples: Vec<PreparedSample>,
        seed: u64,
        device: &B::Device,
    ) -> Result<Vec<RolloutGroup>, TrainError> {
        let GenerationConfig { num_generations, max_new_tokens, .. } = self.generation;
        let extent = |prepared: &PreparedSample| {
            Extent::group(prepared.prompt.input_ids.len(), num_generations, max_new_tokens)
        };
        let extents: Vec<Extent> = samples.iter().map(extent).collect();
        // One pass for the prompts, and one for every token.
        let batches = pack(&extents, self.batch, max_new_tokens.saturating_add(1));
        let engine = self.precision.map(|precision| policy.clone().with_precision(precision));
        let engine = engine.as_ref().unwrap_or(policy);
        let drawn = self.workers.map(batches.iter().collect(), |batch: &Vec<usize>| {
            self.draw(engine, &samples, batch, seed, device)
        });
        let mut completions = vec![Vec::new(); samples.len()];
        for (batch, drawn) in batches.iter().zip(drawn) {
            for (place, drawn) in batch.iter().zip(drawn?) {
                completions[*place] = drawn;
            }
        }
        let groups = samples.into_iter().zip(completions);
        let mut groups: Vec<RolloutGroup> =
            groups.map(|(prepared, completions)| RolloutGroup { prepared, completions }).collect();
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
    /// Completions of the samples at the places of one batch.
    fn draw<B: Backend, M: Vlm<B>>(
        &self,
        engine: &M,
        samples: &[PreparedSample],
        batch: &[usize],
        seed: u64,
        device: &B::Device,
    ) -> Result<Vec<Vec<RolloutCompletion>>, TrainError> {
        let prompts: Vec<_> = batch.iter().map(|place| &samples[*place].prompt).collect();
        // By the place in the step: what a prompt is answered does not depend on its batch.
        let seeds: Vec<u64> =
            batch.iter().map(|place| derive_seed(seed, "completion", *place as u64)).collect();
        let drawn = generate(engine, &prompts, &seeds, &self.generation, device)?;
        let unscored = |completions: Vec<Completion>| {
            completions.into_iter().map(|completion| self.unscored(completion)).collect()
        };
        drawn.into_iter().map(unscored).collect()
    }

    fn unscored(&self, completion: Completion) -> Result<RolloutCompletion, TrainError> {
        Ok(RolloutCompletion {
            text: decode(self.processor.tokenizer(), &completion)?,
            truncated: completion.finish_reason == FinishReason::Length,
            token_ids: completion.token_ids,
            score: None,
            sampling_log_probs: completion.log_probs,
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn_flex::{Flex, FlexDevice};
    use medgrpo_datasets::TaskSample;
    use medgrpo_model::{
        checkpoint::Pretrained,
        group_forward::{Group, LogProbOptions, completion_log_probs},
        processor::Encoded,
        qwen2_5_vl::Qwen25Vl,
        sampling::Sampling,
    };
    use medgrpo_rewards::{RewardError, Score, compose::normalise::Identity};

    use super::*;
    use crate::testing::scored_group;

    struct Nothing;

    impl Reward for Nothing {
        fn score_group(&self, _: &TaskSample, all: &[Response<'_>]) -> Result<Vec<Score>, RewardError> {
            Ok(all.iter().map(|_| Score::metric(0.0)).collect())
        }
    }

    const CHECKPOINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/parity/flat_tied");

    fn source(processor: Processor, sampling: Sampling, batch: Limits, workers: usize) -> OnPolicy {
        OnPolicy {
            processor: Arc::new(processor),
            generation: GenerationConfig {
                num_generations: 2,
                max_new_tokens: 6,
                sampling,
                stop_ids: vec![372],
                log_probs: false,
            },
            precision: None,
            reward: Arc::new(Nothing),
            normaliser: Arc::new(Identity),
            batch,
            workers: Arc::new(Workers::new(workers, workers).unwrap()),
        }
    }

    fn samples<const N: usize>(prompts: [&[u32]; N]) -> Vec<PreparedSample> {
        let sample = |prompt: &[u32]| {
            let prompt = Encoded { input_ids: prompt.to_vec(), ..Encoded::default() };
            PreparedSample { prompt, ..scored_group(&[]).prepared }
        };
        prompts.map(sample).to_vec()
    }

    #[test]
    fn batches_change_neither_the_completions_nor_their_order() {
        let checkpoint = Path::new(CHECKPOINT);
        let (model, _) = Qwen25Vl::<Flex>::from_dir(checkpoint, &FlexDevice).unwrap();
        // The second and the fourth are the same prompt: their places tell them apart.
        let prompts: [&[u32]; 5] =
            [&[371, 5, 9, 200, 33, 7, 8], &[371, 40], &[371, 5, 9, 200, 33, 7], &[371, 40], &[371, 6, 9]];
        let drawn = |max_sequences, max_tokens, workers| -> Vec<Vec<Vec<u32>>> {
            let processor = Processor::from_dir(checkpoint).unwrap();
            let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
            let mut source = source(processor, sampling, Limits { max_sequences, max_tokens }, workers);
            let groups = source.collect(&model, samples(prompts), 7, &FlexDevice).unwrap();
            let own = |group: &RolloutGroup| {
                assert!(group.completions.iter().all(|completion| completion.score.is_some()));
                group.completions.iter().map(|completion| completion.token_ids.clone()).collect()
            };
            assert!(
                groups.iter().zip(prompts).all(|(group, prompt)| group.prepared.prompt.input_ids == prompt)
            );
            groups.iter().map(own).collect()
        };
        let alone = drawn(1, None, 1);
        assert_ne!(alone[1], alone[3], "a prompt's place is part of its seed");
        for (max_sequences, max_tokens, workers) in
            [(4, None, 1), (10, None, 1), (10, Some(40), 2), (10, Some(1), 3)]
        {
            assert_eq!(drawn(max_sequences, max_tokens, workers), alone, "{max_sequences} {max_tokens:?}");
        }
    }

    /// Log-probabilities at a temperature of 0.7 of ragged completions, token by token: those told as they were drawn, and
    /// those that an update finds.
    fn told_and_found(precision: Option<Precision>, top_k: usize) -> Vec<[f64; 2]> {
        let checkpoint = Path::new(CHECKPOINT);
        let (model, _) = Qwen25Vl::<Flex>::from_dir(checkpoint, &FlexDevice).unwrap();
        let processor = Processor::from_dir(checkpoint).unwrap();
        let sampling = Sampling { temperature: 0.7, top_k, ..Sampling::GREEDY };
        let mut source = source(processor, sampling, Limits { max_sequences: 16, max_tokens: None }, 1);
        source.generation.num_generations = 8;
        source.generation.stop_ids = (0..60).collect();
        source.generation.log_probs = true;
        source.precision = precision;
        let prompts: [&[u32]; 2] = [&[371, 5, 9, 200, 33, 7, 8], &[371, 40]];
        let groups = source.collect(&model, samples(prompts), 7, &FlexDevice).unwrap();
        let mut found = Vec::new();
        for group in groups {
            let token_ids = |completion: &RolloutCompletion| completion.token_ids.clone();
            let completions: Vec<Vec<u32>> = group.completions.iter().map(token_ids).collect();
            assert!(completions.iter().any(|completion| completion.len() != completions[0].len()));
            let input = Group { prompt: &group.prepared.prompt, completions: &completions };
            let options = LogProbOptions { temperature: 0.7_f32.into(), ..LogProbOptions::default() };
            let scored = completion_log_probs(&model, &[input], options, &FlexDevice).unwrap().log_probs;
            let [_, width] = scored.dims();
            let scored: Vec<f32> = scored.into_data().into_vec().unwrap();
            for (completion, scored) in group.completions.iter().zip(scored.chunks(width)) {
                let told = completion.sampling_log_probs.as_ref().unwrap();
                assert_eq!(told.len(), completion.token_ids.len());
                found.extend(told.iter().zip(scored).map(|pair| [*pair.0, *pair.1].map(f64::from)));
            }
        }
        found
    }

    #[test]
    fn what_is_told_of_a_token_is_what_the_update_finds() {
        // However few tokens are left to draw from.
        for top_k in [0, 3] {
            let pairs = told_and_found(None, top_k);
            let furthest = pairs.iter().map(|[told, found]| (told - found).abs()).fold(0.0, f64::max);
            println!("top_k {top_k}: {furthest:.1e} away at most");
            assert!(furthest < 1e-5, "top_k {top_k}: {furthest}");
        }
    }

    /// By as much as the whole model is (`group_gradients/laws.rs` of the model), and no less.
    #[test]
    fn what_is_drawn_in_bfloat16_is_off_by_its_rounding() {
        let pairs = told_and_found(Some(Precision::Bf16), 0);
        let square =
            |number: fn(&[f64; 2]) -> f64| pairs.iter().map(|pair| number(pair).powi(2)).sum::<f64>();
        let away = (square(|[told, found]| told - found) / square(|[_, found]| *found)).sqrt();
        println!("log-probabilities {away:.1e} away");
        assert!((1e-3..2e-2).contains(&away), "{away}");
    }
}
