//! The keys of algorithms, under TRL's names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rewards::RewardsWire;

/// The algorithm of a stage.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipeWire {
    /// Which algorithm. All that learn from rewards take the same keys; a type is a choice of their defaults.
    #[serde(rename = "type")]
    pub method: Method,
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
    /// Most completions that a worker draws at a time, all of a prompt together and prompts of like length: sets memory and
    /// speed. The default is four times `micro_batch_size`, since sampling keeps no activations; with
    /// `max_tokens_per_rollout_batch` all of a step.
    pub rollout_batch_size: Option<usize>,
    /// Most tokens of such a batch: of each prompt with its padding, and `max_completion_length` of every completion. A
    /// prompt that has more is drawn for alone. The default is four times `max_tokens_per_micro_batch` if that is given and
    /// `rollout_batch_size` is not; else it is off.
    pub max_tokens_per_rollout_batch: Option<usize>,
    /// Whether completions are sampled with matrix products in bfloat16, as `bf16` of the whole experiment has them, while the
    /// update computes in f32. Clips are then encoded in both formats. A device without bfloat16 is refused; on the CPU it saves
    /// nothing.
    pub rollout_bf16: Option<bool>,
    /// How the loss makes up for completions that the policy has drawn in another format than it learns in: by the ratio of
    /// the two models' probabilities. The default is `sequence_mask` with `rollout_bf16`.
    pub rollout_importance_sampling_mode: Option<RolloutImportanceSamplingMode>,
    /// Most that this ratio may be. The default is 3 with a mode that corrects.
    pub rollout_importance_sampling_clip_max: Option<f64>,
    /// Least that this ratio may be. Off unless given.
    pub rollout_importance_sampling_clip_min: Option<f64>,
    /// Weight of the KL divergence to the model that the stage started from. 0 keeps no reference model.
    pub beta: Option<f64>,
    /// How far the probability ratio may fall below 1 before it is clipped. Only losses that clip have it.
    pub epsilon: Option<f64>,
    /// How far the probability ratio may rise above 1 before it is clipped. The default is `epsilon` unless the type says
    /// otherwise. With `loss_type = "cispo"` it is the most that a ratio counts, as in TRL.
    pub epsilon_high: Option<f64>,
    /// Whose probability ratio is clipped or weighs: each token's, or the whole completion's (GSPO).
    pub importance_sampling_level: Option<ImportanceSamplingLevel>,
    /// Most that the ratio of a completion with a negative advantage counts (TRL's two-sided clip). Off unless given.
    pub delta: Option<f64>,
    /// Most that the loss of a completion with a negative advantage may be, in units of the advantage (verl's and EasyR1's
    /// dual clip). Off unless given.
    pub clip_ratio_c: Option<f64>,
    /// Where that divergence counts. The default is `loss`, with type `rloo` it is `reward`.
    pub kl_in: Option<KlIn>,
    /// How the divergence from the reference is estimated in the loss. The default is `k3` where `beta` is above 0.
    pub kl_estimator: Option<KlEstimator>,
    /// Weighs the divergence by the importance ratio, which makes it right for completions of an older policy.
    pub use_bias_correction_kl: Option<bool>,
    /// Weight of a bonus for the entropy of the policy.
    pub entropy_coef: Option<f64>,
    /// Share of the tokens of each micro-batch, those of highest entropy, that are learned from. 1 is all.
    pub top_entropy_quantile: Option<f64>,
    /// Leaves out completions with a negative advantage that the policy has left behind by more than this many nats a
    /// token. Off unless given.
    pub off_policy_mask_threshold: Option<f64>,
    /// Whether completions that were cut off for length are left out of the loss.
    pub mask_truncated_completions: Option<bool>,
    /// What completions are compared with.
    pub advantage: Option<AdvantageType>,
    /// Added to the deviation that advantages are divided by.
    pub advantage_epsilon: Option<f64>,
    /// Draws prompts anew for groups whose completions are all equally good. Off unless given or part of the type.
    pub dynamic_sampling: Option<DynamicSamplingWire>,
    /// Steepness of SAPO's gate for positive advantages. The default is 1 with that loss.
    pub sapo_temperature_pos: Option<f64>,
    /// The same for negative advantages. The default is 1.05.
    pub sapo_temperature_neg: Option<f64>,
    /// Exponent of VESPO's weight for positive advantages. The default is 2 with that loss.
    pub vespo_k_pos: Option<f64>,
    /// Rate of VESPO's weight for positive advantages. The default is 3.
    pub vespo_lambda_pos: Option<f64>,
    /// Exponent of VESPO's weight for negative advantages. The default is 3.
    pub vespo_k_neg: Option<f64>,
    /// Rate of VESPO's weight for negative advantages. The default is 2.
    pub vespo_lambda_neg: Option<f64>,
    /// Optimizer steps on each batch of completions.
    pub num_iterations: Option<usize>,
    /// What a reward's distance from its group's mean is divided by.
    pub scale_rewards: Option<ScaleRewards>,
    /// How the losses of tokens become one number.
    pub loss_type: Option<LossType>,
    /// What answers are worth.
    pub rewards: Option<RewardsWire>,
}

/// An algorithm by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Supervised fine-tuning: cross-entropy on the tokens of the demonstrated answers, averaged over tokens. It has no
    /// other keys.
    Sft,
    /// GRPO: completions are sampled from the policy itself, rewarded, and compared within their group.
    Grpo,
    /// DAPO (Yu et al. 2025): `epsilon_high` 0.28, all tokens alike, dynamic sampling; overlong punishment is
    /// `rewards.overlong`.
    Dapo,
    /// Dr. GRPO (Liu et al. 2025): `loss_type = "dr_grpo"`, `scale_rewards = "none"`.
    DrGrpo,
    /// GRPO with `loss_type = "bnpo"`.
    Bnpo,
    /// GSPO (Zheng et al. 2025): `importance_sampling_level = "sequence"`, `epsilon` 3e-4, `epsilon_high` 4e-4.
    Gspo,
    /// CISPO (`MiniMax-M1`): `loss_type = "cispo"`, ratios count at most 5.
    Cispo,
    /// SAPO (Gao et al. 2025): `loss_type = "sapo"`.
    Sapo,
    /// RLOO (Ahmadian et al. 2024): `advantage = "rloo"`, `loss_type = "luspo"`.
    Rloo,
    /// GDPO (Liu et al. 2026): `advantage = "gdpo"`, every component of the reward on its own scale.
    Gdpo,
    /// EMA-GRPO (OneThinker): `scale_rewards = "none"` and the normalization `ema`, a running deviation per task.
    EmaGrpo,
    /// MedGRPO: `epsilon` 0.2, `epsilon_high` 0.3, no KL, captions half similarity and half judge, and the median-logistic
    /// normalization.
    Medgrpo,
    /// MedGRPO with what its paper leaves open as in EasyR1, whose default bounds of the ratio are the paper's (an
    /// inference, said nowhere): all tokens alike, dual clip at 3, `advantage_epsilon` 1e-6.
    MedgrpoPaper,
    /// GRPO as TRL runs it by default: all tokens alike (`loss_type = "dapo"`).
    TrlGrpo,
    /// DAPO as TRL's documentation sets it up: `epsilon_high` 0.28, all tokens alike, `mask_truncated_completions`, no
    /// dynamic sampling; overlong punishment is `rewards.overlong`.
    TrlDapo,
    /// GRPO as verl runs it on vision-language models: all tokens alike, dual clip at 3, `beta` 0.01,
    /// `advantage_epsilon` 1e-6.
    VerlGrpo,
    /// DAPO as EasyR1 runs it: `epsilon_high` 0.28, all tokens alike, dual clip at 3, dynamic sampling,
    /// `advantage_epsilon` 1e-6.
    Easyr1Dapo,
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

/// The loss of a token, and how the losses of tokens become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Clipped; mean over the tokens of a completion, then over completions.
    Grpo,
    /// Clipped; mean over the tokens of a micro-batch, then over micro-batches: the one choice that `micro_batch_size`
    /// changes.
    Bnpo,
    /// Clipped; sum over all tokens, divided by the number of completions and `max_completion_length`.
    DrGrpo,
    /// Clipped; mean over all tokens of the batch.
    Dapo,
    /// Clipped; sum over the tokens of a completion, then mean over completions.
    Luspo,
    /// The ratio, bounded by `epsilon_high`, as a weight without gradient; mean over all tokens of the batch.
    Cispo,
    /// The ratio through a soft gate; mean over the tokens of a completion, then over completions.
    Sapo,
    /// The ratio of a completion through a smooth weight; mean over all tokens of the batch.
    Vespo,
}

/// Whose probability ratio counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceSamplingLevel {
    /// Each token's.
    Token,
    /// The completion's: the geometric mean over its tokens.
    Sequence,
}

/// What becomes of the ratio of the policy as it learns to the policy as it has drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutImportanceSamplingMode {
    /// Nothing: it is left out of the loss.
    None,
    /// Each token's weighs its loss; beyond a bound it counts as the bound.
    TokenTruncate,
    /// Each token's weighs its loss; beyond a bound the token is left out.
    TokenMask,
    /// The product over a completion's tokens weighs their losses; beyond a bound it counts as the bound.
    SequenceTruncate,
    /// The product over a completion's tokens weighs their losses; beyond a bound the completion is left out.
    SequenceMask,
}

/// Where a divergence from the reference counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlIn {
    /// As a term of the loss of every token.
    Loss,
    /// `beta` times `log policy - log ref`, added up over a completion's tokens, is taken off its reward before advantages
    /// (verl's `use_kl_in_reward`, TRL's RLOO). Filters and reward metrics look at what it was before.
    Reward,
}

/// How a divergence is estimated from one token, with `d = log ref - log policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `-d`.
    K1,
    /// `d² / 2`.
    K2,
    /// `exp(d) - d - 1`.
    K3,
}

/// What completions are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageType {
    /// The mean of their group, scaled by `scale_rewards`.
    Group,
    /// The mean of the others in their group.
    Rloo,
    /// Component by component the mean of their group; the weighted sum is scaled by the batch.
    Gdpo,
}

/// Groups are drawn again until enough of them differ in the task's metric.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicSamplingWire {
    /// Whether it is on; a type that has it by default can be told not to.
    pub enabled: Option<bool>,
    /// Largest difference between the best and the worst raw metric of a group that is none. The default is 1e-6.
    pub tolerance: Option<f64>,
    /// Draws a step, the first included, before the run ends with a list of the tasks and datasets without a signal.
    /// The default is 10.
    pub max_rounds: Option<usize>,
}
