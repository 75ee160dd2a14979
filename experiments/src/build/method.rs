//! A stage's recipe and learner.

use std::sync::Arc;

use burn::tensor::backend::AutodiffBackend;
use medgrpo_datasets::TaskKind;
use medgrpo_model::{generate::GenerationConfig, processor::Processor, sampling::Sampling};
use medgrpo_rewards::{
    Reward,
    compose::{Component, PerTask, Product},
    task::{format::FormatReward, stg::StgReward, tag::TagReward},
};
use medgrpo_trainers::{
    advantage::Scale,
    aggregate::Aggregate,
    learner::LearnerConfig,
    recipe::{Policy, Recipe},
    recipes::{GrpoConfig, grpo, sft},
    schedule::{Decay, Schedule},
    source::OnPolicy,
    workers::Workers,
};

use crate::config::resolved::{self, Grpo, LossType, LrSchedulerType, Rewards, ScaleRewards, Trainer};

/// The recipe of a stage.
pub(crate) fn recipe<B: AutodiffBackend, M: Policy<B>>(
    stage: &resolved::Stage,
    processor: &Arc<Processor>,
    stop_ids: &[u32],
    workers: &Arc<Workers>,
) -> Recipe<B, M> {
    match &stage.recipe {
        resolved::Recipe::Sft => sft(),
        resolved::Recipe::Grpo(config) => {
            let source = OnPolicy {
                processor: Arc::clone(processor),
                generation: generation(config, stop_ids),
                reward: Arc::new(reward(config.rewards)),
                batch_size: config.rollout_batch_size,
                workers: Arc::clone(workers),
            };
            grpo(source, grpo_config(config))
        }
    }
}

/// The reward of every task that has one.
pub(crate) fn reward(config: Rewards) -> PerTask {
    let in_format = |reward: Box<dyn Reward>| {
        let format = FormatReward { otherwise: config.format_factor as f32 };
        Product::new(vec![
            Box::new(Component::plain("iou", reward)),
            Box::new(Component::plain("format", format)),
        ])
    };
    PerTask::new()
        .with(TaskKind::Tag, in_format(Box::new(TagReward { iou_threshold: config.tag_iou_threshold })))
        .with(TaskKind::Stg, in_format(Box::new(StgReward)))
}

fn generation(config: &Grpo, stop_ids: &[u32]) -> GenerationConfig {
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
    }
}

fn grpo_config(config: &Grpo) -> GrpoConfig {
    GrpoConfig {
        beta: config.beta,
        epsilon: config.epsilon,
        epsilon_high: config.epsilon_high,
        scale_rewards: match config.scale_rewards {
            ScaleRewards::Group => Scale::Group,
            ScaleRewards::Batch => Scale::Batch,
            ScaleRewards::None => Scale::None,
        },
        loss_type: match config.loss_type {
            LossType::Grpo => Aggregate::SequenceMean,
            LossType::Bnpo => Aggregate::MicroBatchTokenMean,
            LossType::DrGrpo => {
                Aggregate::ConstantLength { max_completion_length: config.max_completion_length }
            }
            LossType::Dapo => Aggregate::TokenMean,
        },
        num_iterations: config.num_iterations,
    }
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
        max_grad_norm: trainer.max_grad_norm,
        weight_decay: trainer.weight_decay,
        adam_beta1: trainer.adam_beta1,
        adam_beta2: trainer.adam_beta2,
        adam_epsilon: trainer.adam_epsilon,
    }
}
