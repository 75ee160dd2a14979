//! What the types of recipes stand for: their defaults, all in one table.

use super::rewards::RewardDefaults;
use crate::config::{
    resolved::{
        Policy, Recipe, Rewards,
        recipe::{
            AdvantageType, DynamicSampling, ImportanceSamplingLevel, KlEstimator, KlIn, LossType, Method,
            RolloutImportanceSamplingMode, ScaleRewards,
        },
    },
    wire::{DynamicSamplingWire, RecipeWire, TrainerWire},
};

/// Sampling keeps no activations: this many times the sequences of a training pass fit.
const ROLLOUT_BATCH_FACTOR: usize = 4;

/// The choices that make a method.
struct Defaults {
    learning_rate: f64,
    loss_type: LossType,
    level: ImportanceSamplingLevel,
    epsilon: f64,
    /// `None` is `epsilon`.
    epsilon_high: Option<f64>,
    clip_ratio_c: Option<f64>,
    beta: f64,
    kl_in: KlIn,
    advantage: AdvantageType,
    scale_rewards: ScaleRewards,
    advantage_epsilon: f64,
    mask_truncated_completions: bool,
    dynamic_sampling: bool,
    rewards: RewardDefaults,
}

impl Defaults {
    /// Plain GRPO.
    fn grpo() -> Self {
        Self {
            learning_rate: 1e-6,
            loss_type: LossType::Grpo,
            level: ImportanceSamplingLevel::Token,
            epsilon: 0.2,
            epsilon_high: None,
            clip_ratio_c: None,
            beta: 0.0,
            kl_in: KlIn::Loss,
            advantage: AdvantageType::Group,
            scale_rewards: ScaleRewards::Group,
            // TRL's.
            advantage_epsilon: 1e-4,
            mask_truncated_completions: false,
            dynamic_sampling: false,
            rewards: RewardDefaults::grpo(),
        }
    }

    fn dapo() -> Self {
        Self { loss_type: LossType::Dapo, epsilon_high: Some(0.28), dynamic_sampling: true, ..Self::grpo() }
    }

    /// The paper's rate, bounds and rewards.
    fn medgrpo() -> Self {
        Self {
            learning_rate: 5e-7,
            epsilon_high: Some(0.3),
            rewards: RewardDefaults::medgrpo(),
            ..Self::grpo()
        }
    }

    /// verl's advantage and dual clip, which EasyR1 shares.
    fn like_verl(self) -> Self {
        Self { clip_ratio_c: Some(3.0), advantage_epsilon: 1e-6, ..self }
    }

    /// `None` for supervised fine-tuning.
    fn of(method: Method) -> Option<Self> {
        let grpo = Self::grpo();
        Some(match method {
            Method::Sft => return None,
            Method::Grpo => grpo,
            Method::Dapo => Self::dapo(),
            Method::DrGrpo => Self { loss_type: LossType::DrGrpo, scale_rewards: ScaleRewards::None, ..grpo },
            Method::Bnpo => Self { loss_type: LossType::Bnpo, ..grpo },
            Method::Gspo => Self {
                level: ImportanceSamplingLevel::Sequence,
                epsilon: 3e-4,
                epsilon_high: Some(4e-4),
                ..grpo
            },
            Method::Cispo => Self { loss_type: LossType::Cispo, epsilon_high: Some(5.0), ..grpo },
            Method::Sapo => Self { loss_type: LossType::Sapo, ..grpo },
            Method::Rloo => Self {
                advantage: AdvantageType::Rloo,
                loss_type: LossType::Luspo,
                kl_in: KlIn::Reward,
                ..grpo
            },
            Method::Gdpo => Self { advantage: AdvantageType::Gdpo, ..grpo },
            Method::EmaGrpo => {
                Self { scale_rewards: ScaleRewards::None, rewards: RewardDefaults::ema_grpo(), ..grpo }
            }
            Method::Medgrpo => Self::medgrpo(),
            Method::MedgrpoPaper => Self { loss_type: LossType::Dapo, ..Self::medgrpo() }.like_verl(),
            Method::TrlGrpo => Self { loss_type: LossType::Dapo, ..grpo },
            Method::TrlDapo => {
                Self { dynamic_sampling: false, mask_truncated_completions: true, ..Self::dapo() }
            }
            Method::VerlGrpo => Self { loss_type: LossType::Dapo, beta: 0.01, ..grpo }.like_verl(),
            Method::Easyr1Dapo => Self::dapo().like_verl(),
        })
    }
}

/// Which keys a loss reads.
impl LossType {
    /// Whether it clips: all but those with a weight of their own.
    pub(crate) fn clips(self) -> bool {
        !matches!(self, Self::Cispo | Self::Sapo | Self::Vespo)
    }
}

impl Recipe {
    /// The recipe, and the learning rate that goes with it.
    pub(crate) fn from_wire(wire: &RecipeWire, trainer: &TrainerWire) -> (Self, f64) {
        match Defaults::of(wire.method) {
            None => (Self::Sft, 1e-5),
            Some(defaults) => {
                let learning_rate = defaults.learning_rate;
                (Self::Policy(Box::new(Policy::from_wire(wire, trainer, &defaults))), learning_rate)
            }
        }
    }
}

impl Policy {
    fn from_wire(wire: &RecipeWire, trainer: &TrainerWire, defaults: &Defaults) -> Self {
        let loss_type = wire.loss_type.unwrap_or(defaults.loss_type);
        let advantage = wire.advantage.unwrap_or(defaults.advantage);
        let beta = wire.beta.unwrap_or(defaults.beta);
        let kl_in = (beta > 0.0).then_some(wire.kl_in.unwrap_or(defaults.kl_in));
        let in_loss = kl_in == Some(KlIn::Loss);
        let clips = loss_type.clips();
        let epsilon = wire.epsilon.unwrap_or(defaults.epsilon);
        // A width of the clip is no bound of a weight, nor the other way round.
        let is_meant = (loss_type == LossType::Cispo) == (defaults.loss_type == LossType::Cispo);
        let epsilon_high = wire.epsilon_high.or(defaults.epsilon_high.filter(|_| is_meant));
        let scale_rewards = (advantage == AdvantageType::Group)
            .then_some(wire.scale_rewards.unwrap_or(defaults.scale_rewards));
        let is_divided = advantage != AdvantageType::Rloo && scale_rewards != Some(ScaleRewards::None);
        let num_generations = wire.num_generations.unwrap_or(8);
        let max_tokens_per_rollout_batch = wire.max_tokens_per_rollout_batch.or_else(|| {
            let of_micro_batch =
                trainer.max_tokens_per_micro_batch.filter(|_| wire.rollout_batch_size.is_none());
            of_micro_batch.map(|tokens| tokens.saturating_mul(ROLLOUT_BATCH_FACTOR))
        });
        let rollout_batch_size =
            wire.rollout_batch_size.unwrap_or_else(|| match max_tokens_per_rollout_batch {
                Some(_) => super::num_prompts_per_step(trainer).saturating_mul(num_generations),
                None => trainer.micro_batch_size.unwrap_or(1).saturating_mul(ROLLOUT_BATCH_FACTOR),
            });
        let rollout_bf16 = wire.rollout_bf16.unwrap_or(false);
        // TRL's defaults.
        let mode = rollout_bf16.then(|| {
            wire.rollout_importance_sampling_mode.unwrap_or(RolloutImportanceSamplingMode::SequenceMask)
        });
        let corrects = mode.is_some_and(|mode| mode != RolloutImportanceSamplingMode::None);
        let sapo =
            |typed: Option<f64>, default| (loss_type == LossType::Sapo).then_some(typed.unwrap_or(default));
        let vespo =
            |typed: Option<f64>, default| (loss_type == LossType::Vespo).then_some(typed.unwrap_or(default));
        Self {
            method: wire.method,
            num_generations,
            temperature: wire.temperature.unwrap_or(1.0),
            top_p: wire.top_p.unwrap_or(1.0),
            top_k: wire.top_k.unwrap_or(0),
            max_completion_length: wire.max_completion_length.unwrap_or(512),
            rollout_batch_size,
            max_tokens_per_rollout_batch,
            rollout_bf16,
            rollout_importance_sampling_mode: mode,
            rollout_importance_sampling_clip_max: corrects
                .then_some(wire.rollout_importance_sampling_clip_max.unwrap_or(3.0)),
            rollout_importance_sampling_clip_min: wire
                .rollout_importance_sampling_clip_min
                .filter(|_| corrects),
            num_iterations: wire.num_iterations.unwrap_or(1),
            loss_type,
            importance_sampling_level: (loss_type != LossType::Vespo)
                .then_some(wire.importance_sampling_level.unwrap_or(defaults.level)),
            epsilon: clips.then_some(epsilon),
            epsilon_high: match loss_type {
                LossType::Cispo => Some(epsilon_high.unwrap_or(5.0)),
                _ => clips.then_some(epsilon_high.unwrap_or(epsilon)),
            },
            delta: wire.delta.filter(|_| clips),
            clip_ratio_c: wire.clip_ratio_c.or(defaults.clip_ratio_c).filter(|_| clips),
            sapo_temperature_pos: sapo(wire.sapo_temperature_pos, 1.0),
            sapo_temperature_neg: sapo(wire.sapo_temperature_neg, 1.05),
            vespo_k_pos: vespo(wire.vespo_k_pos, 2.0),
            vespo_lambda_pos: vespo(wire.vespo_lambda_pos, 3.0),
            vespo_k_neg: vespo(wire.vespo_k_neg, 3.0),
            vespo_lambda_neg: vespo(wire.vespo_lambda_neg, 2.0),
            beta,
            kl_in,
            kl_estimator: in_loss.then_some(wire.kl_estimator.unwrap_or(KlEstimator::K3)),
            use_bias_correction_kl: in_loss.then_some(wire.use_bias_correction_kl.unwrap_or(false)),
            entropy_coef: wire.entropy_coef.unwrap_or(0.0),
            top_entropy_quantile: wire.top_entropy_quantile.unwrap_or(1.0),
            off_policy_mask_threshold: wire.off_policy_mask_threshold,
            mask_truncated_completions: wire
                .mask_truncated_completions
                .unwrap_or(defaults.mask_truncated_completions),
            advantage,
            scale_rewards,
            advantage_epsilon: is_divided
                .then_some(wire.advantage_epsilon.unwrap_or(defaults.advantage_epsilon)),
            dynamic_sampling: DynamicSampling::from_wire(
                wire.dynamic_sampling.as_ref(),
                defaults.dynamic_sampling,
            ),
            rewards: Rewards::from_wire(&wire.rewards.clone().unwrap_or_default(), &defaults.rewards),
        }
    }
}

impl DynamicSampling {
    fn from_wire(wire: Option<&DynamicSamplingWire>, by_default: bool) -> Self {
        let typed = wire.cloned().unwrap_or_default();
        // Whoever types the table wants it, unless it says otherwise.
        let enabled = typed.enabled.unwrap_or(by_default || wire.is_some());
        Self {
            enabled,
            tolerance: enabled.then_some(typed.tolerance.unwrap_or(1e-6)),
            max_rounds: enabled.then_some(typed.max_rounds.unwrap_or(10)),
        }
    }
}
