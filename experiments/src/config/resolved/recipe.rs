//! The algorithm of a stage, every default filled in.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::Rewards;
pub use crate::config::wire::{
    AdvantageType, ImportanceSamplingLevel, KlEstimator, KlIn, LossType, Method,
    RolloutImportanceSamplingMode, ScaleRewards,
};

/// The algorithm of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipe {
    /// Supervised fine-tuning.
    Sft,
    /// Learning from rewards of the policy's own completions.
    Policy(Box<Policy>),
}

impl Recipe {
    /// The keys of a recipe that samples from the policy.
    pub fn on_policy(&self) -> Option<&Policy> {
        match self {
            Self::Sft => None,
            Self::Policy(policy) => Some(policy),
        }
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sft => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("type", &Method::Sft)?;
                map.end()
            }
            Self::Policy(policy) => policy.serialize(serializer),
        }
    }
}

/// An algorithm that learns from rewards. A key that the chosen loss or advantage does not read is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct Policy {
    #[serde(rename = "type")]
    pub method: Method,
    pub num_generations: usize,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: usize,
    pub max_completion_length: usize,
    pub rollout_batch_size: usize,
    /// `None` is off.
    pub max_tokens_per_rollout_batch: Option<usize>,
    pub rollout_bf16: bool,
    /// `None` where completions are drawn in the format that is learned in.
    pub rollout_importance_sampling_mode: Option<RolloutImportanceSamplingMode>,
    /// `None` where nothing is corrected, as the one below, for which it is off too.
    pub rollout_importance_sampling_clip_max: Option<f64>,
    pub rollout_importance_sampling_clip_min: Option<f64>,
    pub num_iterations: usize,
    pub loss_type: LossType,
    pub importance_sampling_level: Option<ImportanceSamplingLevel>,
    pub epsilon: Option<f64>,
    pub epsilon_high: Option<f64>,
    /// `None` is off too.
    pub delta: Option<f64>,
    /// `None` is off too.
    pub clip_ratio_c: Option<f64>,
    pub sapo_temperature_pos: Option<f64>,
    pub sapo_temperature_neg: Option<f64>,
    pub vespo_k_pos: Option<f64>,
    pub vespo_lambda_pos: Option<f64>,
    pub vespo_k_neg: Option<f64>,
    pub vespo_lambda_neg: Option<f64>,
    pub beta: f64,
    /// `None` without a divergence.
    pub kl_in: Option<KlIn>,
    /// `None` without a divergence in the loss, as the one below.
    pub kl_estimator: Option<KlEstimator>,
    pub use_bias_correction_kl: Option<bool>,
    pub entropy_coef: f64,
    pub top_entropy_quantile: f64,
    /// `None` is off.
    pub off_policy_mask_threshold: Option<f64>,
    pub mask_truncated_completions: bool,
    pub advantage: AdvantageType,
    pub scale_rewards: Option<ScaleRewards>,
    pub advantage_epsilon: Option<f64>,
    pub dynamic_sampling: DynamicSampling,
    pub rewards: Rewards,
}

/// Drawing again for groups without a signal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the wire structs document every key")]
pub struct DynamicSampling {
    pub enabled: bool,
    /// `None` where it is off.
    pub tolerance: Option<f64>,
    /// `None` where it is off.
    pub max_rounds: Option<usize>,
}
