//! The keys of algorithms, under TRL's names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rewards::RewardsWire;

/// The algorithm of a stage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RecipeWire {
    /// Supervised fine-tuning: cross-entropy on the tokens of the demonstrated answers, averaged over tokens.
    Sft(SftWire),
    /// GRPO: completions are sampled from the policy itself, rewarded, and compared within their group.
    Grpo(GrpoWire),
    /// MedGRPO: GRPO with the paper's choices as defaults: `epsilon` 0.2, `epsilon_high` 0.3, no KL, captions half
    /// similarity and half judge, and the median-logistic normalization.
    Medgrpo(GrpoWire),
}

/// Supervised fine-tuning has no keys of its own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftWire {}

/// Group relative policy optimisation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpoWire {
    /// Completions per prompt: the size of a group.
    pub num_generations: Option<usize>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Sample from the smallest set of tokens with this much probability. 1 is off.
    pub top_p: Option<f64>,
    /// Sample from this many most probable tokens. 0 is off.
    pub top_k: Option<usize>,
    /// Most tokens of a completion.
    pub max_completion_length: Option<usize>,
    /// Completions that a worker draws at a time, all of a prompt together: sets memory and speed. The default is four
    /// times `micro_batch_size`, since sampling keeps no activations.
    pub rollout_batch_size: Option<usize>,
    /// Weight of the KL divergence to the model that the stage started from. 0 keeps no reference model.
    pub beta: Option<f64>,
    /// How far the probability ratio may fall below 1 before it is clipped.
    pub epsilon: Option<f64>,
    /// How far the probability ratio may rise above 1 before it is clipped. The default is `epsilon`, for `medgrpo` 0.3.
    pub epsilon_high: Option<f64>,
    /// Optimizer steps on each batch of completions.
    pub num_iterations: Option<usize>,
    /// What a reward's distance from its group's mean is divided by.
    pub scale_rewards: Option<ScaleRewards>,
    /// How the losses of tokens become one number.
    pub loss_type: Option<LossType>,
    /// What answers are worth.
    pub rewards: Option<RewardsWire>,
}

/// What a reward's distance from its group's mean is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleRewards {
    /// The standard deviation of its group.
    Group,
    /// The standard deviation of the whole batch.
    Batch,
    /// Nothing.
    None,
}

/// How the losses of tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Mean over the tokens of a completion, then over completions.
    Grpo,
    /// Mean over the tokens of a micro-batch, then over micro-batches: the one choice that `micro_batch_size` changes.
    Bnpo,
    /// Sum over all tokens, divided by the number of completions and `max_completion_length`.
    DrGrpo,
    /// Mean over all tokens of the batch.
    Dapo,
}
