//! A stage's recipe and learner.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    generate::GenerationConfig, precision::Precision, processor::Processor, sampling::Sampling,
};
use medgrpo_rewards::{Reward, compose::normalise::Normaliser, judge::Judge};
use medgrpo_trainers::{
    cut::Limits,
    learner::LearnerConfig,
    recipe::{self, Recipe},
    recipes::{grpo, sft},
    schedule::{Decay, Schedule},
    seed::derive_seed,
    source::OnPolicy,
    workers::Workers,
};

use super::loss::{dynamic_sampling, grpo_config};
use crate::config::resolved::{self, LrSchedulerType, Policy, Trainer};

/// What an on-policy stage scores its completions with.
#[derive(Clone)]
pub(crate) struct Scoring {
    /// What an answer is worth.
    pub(crate) reward: Arc<dyn Reward>,
    /// What puts components on one scale; inside `reward` too.
    pub(crate) normaliser: Arc<dyn Normaliser>,
    /// Who judges in `reward`, for the counts.
    pub(crate) judge: Option<Arc<dyn Judge>>,
}

/// Where the randomness of a stage starts.
pub(crate) fn seed_of_stage(seed: u64, index: usize) -> u64 {
    derive_seed(seed, "stage", index as u64)
}

/// The recipe of a stage; `scoring` is that of a stage that samples from its policy.
pub(crate) fn recipe<B: AutodiffBackend, M: recipe::Policy<B>>(
    stage: &resolved::Stage,
    scoring: Option<Scoring>,
    processor: &Arc<Processor>,
    stop_ids: &[u32],
    workers: &Arc<Workers>,
) -> Recipe<B, M> {
    match (stage.recipe.on_policy(), scoring) {
        (Some(config), Some(scoring)) => {
            let source = on_policy(config, config.num_generations, scoring, processor, stop_ids, workers);
            grpo(source, dynamic_sampling(config), &grpo_config(config, &stage.data.tasks))
        }
        _ => sft(),
    }
}

/// Completions of the policy, `num_generations` a prompt.
pub(crate) fn on_policy(
    config: &Policy,
    num_generations: usize,
    scoring: Scoring,
    processor: &Arc<Processor>,
    stop_ids: &[u32],
    workers: &Arc<Workers>,
) -> OnPolicy {
    OnPolicy {
        processor: Arc::clone(processor),
        generation: GenerationConfig { num_generations, ..generation(config, stop_ids) },
        precision: config.rollout_bf16.then_some(Precision::Bf16),
        reward: scoring.reward,
        normaliser: scoring.normaliser,
        batch: Limits {
            max_sequences: config.rollout_batch_size,
            max_tokens: config.max_tokens_per_rollout_batch,
        },
        workers: Arc::clone(workers),
    }
}

fn generation(config: &Policy, stop_ids: &[u32]) -> GenerationConfig {
    GenerationConfig {
        num_generations: config.num_generations,
        max_new_tokens: config.max_completion_length,
        sampling: Sampling {
            temperature: config.temperature as f32,
            top_p: config.top_p as f32,
            top_k: config.top_k,
            repetition_penalty: 1.0,
        },
        stop_ids: stop_ids.to_vec(),
        log_probs: config.rollout_bf16,
    }
}

/// How a step of a stage is cut.
pub(crate) fn micro_batch(trainer: &Trainer) -> Limits {
    Limits { max_sequences: trainer.micro_batch_size, max_tokens: trainer.max_tokens_per_micro_batch }
}

/// Optimizer and schedule of a stage.
pub(crate) fn learner_config(trainer: &Trainer) -> LearnerConfig {
    LearnerConfig {
        schedule: Schedule {
            learning_rate: trainer.learning_rate,
            warmup_steps: trainer.warmup_steps,
            max_steps: trainer.max_steps,
            decay: match trainer.lr_scheduler_type {
                LrSchedulerType::Cosine => Decay::Cosine,
                LrSchedulerType::Linear => Decay::Linear,
                LrSchedulerType::Constant => Decay::Constant,
            },
        },
        vision_lr: trainer.vision_lr,
        merger_lr: trainer.merger_lr,
        max_grad_norm: trainer.max_grad_norm,
        weight_decay: trainer.weight_decay,
        adam_beta1: trainer.adam_beta1,
        adam_beta2: trainer.adam_beta2,
        adam_epsilon: trainer.adam_epsilon,
    }
}
