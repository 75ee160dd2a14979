//! The keys of algorithms: their values, and whether the chosen algorithm reads them at all.

use super::Judge;
use crate::{
    build,
    config::{
        resolved::{
            Policy, Recipe, Stage,
            recipe::{AdvantageType, KlIn, LossType, Method},
            rewards::Normalization,
        },
        wire::{RecipeWire, TrainerWire},
    },
};

/// What must be chosen for a key to mean something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Any algorithm that learns from rewards.
    Policy,
    Clip,
    ClipOrCispo,
    Sapo,
    Vespo,
    NotVespo,
    Kl,
    KlInLoss,
    GroupAdvantage,
    Deviation,
    RolloutBf16,
    RolloutCorrection,
}

impl Reader {
    fn reads(self, policy: &Policy) -> bool {
        let loss = policy.loss_type;
        match self {
            Self::Policy => true,
            Self::Clip => loss.clips(),
            Self::ClipOrCispo => loss.clips() || loss == LossType::Cispo,
            Self::Sapo => loss == LossType::Sapo,
            Self::Vespo => loss == LossType::Vespo,
            Self::NotVespo => loss != LossType::Vespo,
            Self::Kl => policy.beta > 0.0,
            Self::KlInLoss => policy.kl_in == Some(KlIn::Loss),
            Self::GroupAdvantage => policy.advantage == AdvantageType::Group,
            Self::Deviation => policy.advantage_epsilon.is_some(),
            Self::RolloutBf16 => policy.rollout_bf16,
            Self::RolloutCorrection => policy.rollout_importance_sampling_clip_max.is_some(),
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Policy => "leave it out, or choose a type that learns from rewards",
            Self::Clip => "leave it out, or choose a loss_type that clips",
            Self::ClipOrCispo => "leave it out, or choose a loss_type that clips or \"cispo\"",
            Self::Sapo => "leave it out, or set loss_type = \"sapo\"",
            Self::Vespo => "leave it out, or set loss_type = \"vespo\"",
            Self::NotVespo => "leave it out: \"vespo\" weighs whole completions",
            Self::Kl => "leave it out, or set beta above 0",
            Self::KlInLoss => "leave it out, or set beta above 0 and kl_in = \"loss\"",
            Self::GroupAdvantage => "leave it out, or set advantage = \"group\"",
            Self::Deviation => "leave it out: these advantages are divided by no deviation",
            Self::RolloutBf16 => "leave it out, or set rollout_bf16 = true",
            Self::RolloutCorrection => {
                "leave it out, or set rollout_bf16 = true and a rollout_importance_sampling_mode that corrects"
            }
        }
    }
}

/// The keys that were typed, each with its reader.
fn typed_keys(wire: &RecipeWire) -> Vec<(&'static str, Reader)> {
    macro_rules! typed {
        ($($key:ident: $reader:ident),+ $(,)?) => {{
            // Every key of the recipe but its type: one that is forgotten does not compile.
            let RecipeWire { method: _, $($key),+ } = wire;
            let mut typed = Vec::new();
            $(if $key.is_some() {
                typed.push((stringify!($key), Reader::$reader));
            })+
            typed
        }};
    }
    typed! {
        num_generations: Policy, temperature: Policy, top_p: Policy, top_k: Policy, max_completion_length: Policy,
        rollout_batch_size: Policy, max_tokens_per_rollout_batch: Policy, rollout_bf16: Policy,
        rollout_importance_sampling_mode: RolloutBf16, rollout_importance_sampling_clip_max: RolloutCorrection,
        rollout_importance_sampling_clip_min: RolloutCorrection, num_iterations: Policy, loss_type: Policy,
        epsilon: Clip, epsilon_high: ClipOrCispo,
        importance_sampling_level: NotVespo, delta: Clip, clip_ratio_c: Clip, beta: Policy, kl_in: Kl,
        kl_estimator: KlInLoss, use_bias_correction_kl: KlInLoss, entropy_coef: Policy, top_entropy_quantile: Policy,
        off_policy_mask_threshold: Policy, mask_truncated_completions: Policy, advantage: Policy,
        scale_rewards: GroupAdvantage, advantage_epsilon: Deviation, dynamic_sampling: Policy, sapo_temperature_pos: Sapo,
        sapo_temperature_neg: Sapo, vespo_k_pos: Vespo, vespo_lambda_pos: Vespo, vespo_k_neg: Vespo,
        vespo_lambda_neg: Vespo, rewards: Policy,
    }
}

impl Judge {
    /// Typed keys that nothing would read.
    pub(super) fn unread_keys(&mut self, key: &str, wire: &RecipeWire, trainer: &TrainerWire) {
        let (recipe, _) = Recipe::from_wire(wire, trainer);
        for (name, reader) in typed_keys(wire) {
            if !recipe.on_policy().is_some_and(|policy| reader.reads(policy)) {
                let key = format!("{key}.{name}");
                let message = format!("`{key}` has no effect on this recipe");
                let remedy = if wire.method == Method::Sft { Reader::Policy } else { reader }.remedy();
                self.note(&key, message, remedy);
            }
        }
        if let Some(sampling) = wire.dynamic_sampling.as_ref()
            && sampling.enabled == Some(false)
        {
            for (name, is_typed) in
                [("tolerance", sampling.tolerance.is_some()), ("max_rounds", sampling.max_rounds.is_some())]
            {
                if is_typed {
                    let key = format!("{key}.dynamic_sampling.{name}");
                    let message = format!("`{key}` has no effect while `enabled` is false");
                    self.note(&key, message, "leave it out");
                }
            }
        }
    }

    /// Values of an algorithm that learns from rewards.
    pub(super) fn policy(&mut self, key: &str, policy: &Policy, stage: &Stage) {
        self.rewards(key, policy, stage);
        let key = format!("{key}.recipe");
        let at = |name: &str| format!("{key}.{name}");
        if policy.num_generations < 2 {
            let help = "a group needs at least 2 completions to compare; for one demonstrated answer use type = \"sft\"";
            let message = format!("`{key}.num_generations` is {}", policy.num_generations);
            self.note(at("num_generations"), message, help);
        }
        self.at_least(&at("max_completion_length"), policy.max_completion_length, 1);
        self.at_least(&at("rollout_batch_size"), policy.rollout_batch_size, 1);
        if let Some(max_tokens) = policy.max_tokens_per_rollout_batch {
            let name = at("max_tokens_per_rollout_batch");
            self.at_least(&name, max_tokens, 1);
            let prompts = (policy.rollout_batch_size / policy.num_generations.max(1)).max(1);
            if prompts == 1 && stage.trainer.num_prompts_per_step > 1 {
                let message =
                    format!("`{name}` has no effect: `rollout_batch_size` lets a batch have one prompt only");
                self.note(name, message, format!("leave it out, or leave out {key}.rollout_batch_size"));
            }
        }
        self.at_least(&at("num_iterations"), policy.num_iterations, 1);
        let temperature = policy.temperature;
        let above_zero = "above 0 (greedy completions of one prompt are all equal)";
        self.number(&at("temperature"), temperature, temperature > 0.0, above_zero);
        let top_p = policy.top_p;
        self.number(&at("top_p"), top_p, top_p > 0.0 && top_p <= 1.0, "above 0 and at most 1");
        self.number(&at("beta"), policy.beta, policy.beta >= 0.0, "0 or above");
        self.number(&at("entropy_coef"), policy.entropy_coef, policy.entropy_coef >= 0.0, "0 or above");
        let quantile = policy.top_entropy_quantile;
        let is_share = quantile > 0.0 && quantile <= 1.0;
        self.number(&at("top_entropy_quantile"), quantile, is_share, "above 0 and at most 1");
        if let Some(epsilon) = policy.epsilon {
            let fits = epsilon > 0.0 && epsilon < 1.0;
            self.number(&at("epsilon"), epsilon, fits, "above 0 and below 1");
        }
        for (name, value) in [
            ("epsilon_high", policy.epsilon_high),
            ("sapo_temperature_pos", policy.sapo_temperature_pos),
            ("sapo_temperature_neg", policy.sapo_temperature_neg),
            ("vespo_k_pos", policy.vespo_k_pos),
            ("vespo_lambda_pos", policy.vespo_lambda_pos),
            ("vespo_k_neg", policy.vespo_k_neg),
            ("vespo_lambda_neg", policy.vespo_lambda_neg),
            ("off_policy_mask_threshold", policy.off_policy_mask_threshold),
        ] {
            if let Some(value) = value {
                self.number(&at(name), value, value > 0.0, "above 0");
            }
        }
        if let Some(most) = policy.rollout_importance_sampling_clip_max {
            let allowed = "1 or above, the ratio of formats that do not differ";
            self.number(&at("rollout_importance_sampling_clip_max"), most, most >= 1.0, allowed);
        }
        if let Some(least) = policy.rollout_importance_sampling_clip_min {
            let fits = least > 0.0 && least <= 1.0;
            let allowed = "above 0 and at most 1, the ratio of formats that do not differ";
            self.number(&at("rollout_importance_sampling_clip_min"), least, fits, allowed);
        }
        for (name, value) in [("delta", policy.delta), ("clip_ratio_c", policy.clip_ratio_c)] {
            if let Some(value) = value {
                self.number(
                    &at(name),
                    value,
                    value > 1.0,
                    "above 1, the ratio of a policy that has not moved",
                );
            }
        }
        if let Some(epsilon) = policy.advantage_epsilon {
            self.number(&at("advantage_epsilon"), epsilon, epsilon > 0.0, "above 0");
        }
        let sampling = policy.dynamic_sampling;
        if let (Some(tolerance), Some(max_rounds)) = (sampling.tolerance, sampling.max_rounds) {
            let key = at("dynamic_sampling.tolerance");
            self.number(&key, tolerance, (0.0..1.0).contains(&tolerance), "at least 0 and below 1");
            self.at_least(&at("dynamic_sampling.max_rounds"), max_rounds, 1);
        }
        if policy.advantage == AdvantageType::Gdpo {
            self.gdpo(&key, policy, stage);
        }
        if let (LossType::Cispo, Some(max_ratio)) = (policy.loss_type, policy.epsilon_high) {
            let fits = max_ratio >= 1.0;
            self.number(&at("epsilon_high"), max_ratio, fits, "1 or above: the most that a ratio counts");
        }
    }

    /// What an advantage that is taken component by component cannot see.
    fn gdpo(&mut self, key: &str, policy: &Policy, stage: &Stage) {
        let rewards = &policy.rewards;
        if let Err(name) = build::component_weights(rewards, &stage.data.tasks) {
            let message =
                format!("the component `{name}` has different weights in different tasks of the stage");
            let help = "\"gdpo\" takes one weight a component: make them equal, or split the stage";
            self.note(format!("{key}.advantage"), message, help);
        }
        if rewards.normalization != (Normalization::None {}) {
            let message = format!("`{key}.rewards.normalization` has no effect with advantage = \"gdpo\"");
            let help = "\"gdpo\" normalises each component itself: set normalization = { type = \"none\" }";
            self.note(format!("{key}.rewards.normalization"), message, help);
        }
        if policy.kl_in == Some(KlIn::Reward) {
            let message = format!("`{key}.kl_in` = \"reward\" has no effect with advantage = \"gdpo\"");
            let help = "\"gdpo\" looks at the components of the reward alone: set kl_in = \"loss\"";
            self.note(format!("{key}.kl_in"), message, help);
        }
        if rewards.overlong.is_some() {
            let message = format!("`{key}.rewards.overlong` has no effect with advantage = \"gdpo\"");
            self.note(
                format!("{key}.rewards.overlong"),
                message,
                "leave it out, or choose another advantage",
            );
        }
    }
}
