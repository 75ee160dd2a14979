//! Rewards: their components, who is asked for them, and the scale they are put on.

use super::Judge;
use crate::{
    build,
    config::resolved::{
        Policy, Stage,
        recipe::ScaleRewards,
        rewards::{self, Calibration, LlmJudge, Normalization, Rewards},
    },
};

impl Judge {
    pub(super) fn rewards(&mut self, stage_key: &str, grpo: &Policy, stage: &Stage) {
        let rewards = &grpo.rewards;
        let key = format!("{stage_key}.recipe.rewards");
        self.components(&key, rewards, stage);
        let share = |name: &str| format!("{key}.{name}");
        for (name, value) in [
            ("format_factor", rewards.format_factor),
            ("tag_iou_threshold", rewards.tag_iou_threshold),
            ("dvc_caption_weight", rewards.dvc_caption_weight),
            ("sa_exact_weight", rewards.sa_exact_weight),
            ("open.semantic_threshold", rewards.open.semantic_threshold),
        ] {
            self.number(&share(name), value, (0.0..=1.0).contains(&value), "between 0 and 1");
        }
        let (captions, open) = (rewards.captions, rewards.open);
        for (name, weight) in [
            ("captions.similarity", captions.similarity),
            ("captions.judge", captions.judge),
            ("captions.rouge_l", captions.rouge_l),
            ("open.accuracy", open.accuracy),
            ("open.format", open.format),
            ("open.semantic", open.semantic),
            ("open.extended_chain", open.extended_chain),
            ("open.correctness_weighted_length", open.correctness_weighted_length),
            ("open.similarity", open.similarity),
            ("open.rouge_l", open.rouge_l),
        ] {
            self.number(&share(name), weight, weight >= 0.0, "0 (left out) or above");
        }
        self.at_least(&share("open.target_length"), open.target_length, 1);
        if let Some(rewards::Judge::Llm(judge)) = &rewards.judge {
            self.llm_judge(&share("judge"), judge);
        }
        self.normalization(&share("normalization"), grpo);
        if let Some(overlong) = rewards.overlong {
            let key = share("overlong");
            if overlong.cache_length > grpo.max_completion_length {
                let message = format!(
                    "`{key}.cache_length` is {}, more than the {} tokens of `max_completion_length`",
                    overlong.cache_length, grpo.max_completion_length
                );
                self.note(format!("{key}.cache_length"), message, "lower it");
            }
            self.number(&format!("{key}.weight"), overlong.weight, overlong.weight >= 0.0, "0 or above");
        }
    }

    /// Every trained task has a component, and whoever a component asks is named.
    fn components(&mut self, key: &str, rewards: &Rewards, stage: &Stage) {
        for &task in &stage.data.tasks {
            if build::component_names(rewards, task).is_empty() {
                let message =
                    format!("stage \"{}\" trains on {task}, whose reward has no component", stage.name);
                let help = format!("give one of {key}.captions or {key}.open a weight above 0");
                self.note(key, message, help);
                continue;
            }
            let (needs_embedder, needs_judge) = build::needs(rewards, task);
            if needs_embedder && rewards.embedder.is_none() {
                let message =
                    format!("the reward of {task} holds a similarity, and `{key}.embedder` names no encoder");
                let help = "name a sentence-transformers directory, or \"lexical\" to do without one";
                self.note(format!("{key}.embedder"), message, help);
            }
            if needs_judge && rewards.judge.is_none() {
                let message = format!("the reward of {task} asks a judge, and `{key}.judge` names none");
                let help = "set judge = { type = \"llm\", base_url = \"…\", model = \"…\" } or { type = \"offline\" }, \
                            or take the component out";
                self.note(format!("{key}.judge"), message, help);
            }
        }
    }

    fn llm_judge(&mut self, key: &str, judge: &LlmJudge) {
        if !(judge.base_url.starts_with("http://") || judge.base_url.starts_with("https://")) {
            let message = format!("`{key}.base_url` is {:?}", judge.base_url);
            self.note(
                format!("{key}.base_url"),
                message,
                "it starts with http:// or https:// and ends in /v1",
            );
        }
        self.at_least(&format!("{key}.max_concurrency"), judge.max_concurrency, 1);
        for (name, seconds) in [("timeout_sec", judge.timeout_sec), ("deadline_sec", judge.deadline_sec)] {
            let fits = seconds > 0.0 && seconds <= 86_400.0;
            self.number(&format!("{key}.{name}"), seconds, fits, "above 0 and at most a day");
        }
        let share = judge.max_failure_share;
        self.number(
            &format!("{key}.max_failure_share"),
            share,
            (0.0..=1.0).contains(&share),
            "between 0 and 1",
        );
        for (name, amount) in [
            ("price_per_million_prompt_tokens", judge.price_per_million_prompt_tokens),
            ("price_per_million_completion_tokens", judge.price_per_million_completion_tokens),
            ("max_spend", judge.max_spend),
        ] {
            self.number(&format!("{key}.{name}"), amount, amount >= 0.0, "0 or above");
        }
        let free = judge.price_per_million_prompt_tokens + judge.price_per_million_completion_tokens == 0.0;
        if judge.max_spend > 0.0 && free {
            let message = format!("`{key}.max_spend` is set, but no token has a price");
            self.note(format!("{key}.max_spend"), message, "set the prices per million tokens");
        }
    }

    fn normalization(&mut self, key: &str, grpo: &Policy) {
        let above_zero = |name: &str, value: f64| (format!("{key}.{name}"), value, value > 0.0, "above 0");
        let mut numbers = Vec::new();
        match &grpo.rewards.normalization {
            Normalization::None {} | Normalization::Rank { .. } => {}
            Normalization::MedianLogistic { k, min_iqr, .. } => {
                numbers.extend([above_zero("k", *k), above_zero("min_iqr", *min_iqr)]);
            }
            Normalization::MinMax { min_range, .. } => numbers.push(above_zero("min_range", *min_range)),
            Normalization::ZScore { min_std, .. } => numbers.push(above_zero("min_std", *min_std)),
            Normalization::Gdpo {} => {}
            Normalization::Ema { decay, min_std } => {
                let fits = *decay > 0.0 && *decay < 1.0;
                numbers.push((format!("{key}.decay"), *decay, fits, "above 0 and below 1"));
                numbers.push(above_zero("min_std", *min_std));
            }
        }
        for (key, value, fits, wanted) in numbers {
            self.number(&key, value, fits, wanted);
        }
        if let Some(calibration) = grpo.rewards.normalization.calibration() {
            self.calibration(&format!("{key}.calibration"), calibration);
        }
        let by_running_std = matches!(grpo.rewards.normalization, Normalization::Ema { .. });
        if by_running_std && grpo.scale_rewards == Some(ScaleRewards::Group) {
            let message =
                format!("`{key}` divides by a running deviation, which `scale_rewards = \"group\"` undoes");
            self.note(key, message, "set scale_rewards = \"none\" (EMA-GRPO) or \"batch\"");
        }
    }

    fn calibration(&mut self, key: &str, calibration: &Calibration) {
        self.at_least(&format!("{key}.min_count"), calibration.min_count, 1);
        if calibration.table.is_some() {
            return;
        }
        self.at_least(&format!("{key}.num_generations"), calibration.num_generations, 1);
        let values = calibration.num_records.saturating_mul(calibration.num_generations);
        if values < calibration.min_count {
            let message = format!(
                "`{key}.num_records` x `num_generations` gives at most {values} values, fewer than `min_count` = {}",
                calibration.min_count
            );
            self.note(format!("{key}.num_records"), message, "raise num_records");
        }
    }
}
