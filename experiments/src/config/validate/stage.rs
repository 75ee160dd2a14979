//! The training stages: their names, data, optimizer and algorithm.

use std::collections::BTreeSet;

use medgrpo_model::ModelError;

use super::Judge;
use crate::config::resolved::{Data, Experiment, Policy, Stage, Trainer};

impl Judge {
    pub(super) fn stages(&mut self, experiment: &Experiment) {
        if !experiment.stages.is_empty() && experiment.data.train.is_empty() {
            let help = "add a file: [[data.train]] with file = \"…\"";
            return self.note("data", "there are stages, but `data.train` names no file", help);
        }
        let mut names = BTreeSet::new();
        for (index, stage) in experiment.stages.iter().enumerate() {
            let key = format!("stage.{index}");
            self.name(&format!("{key}.name"), &stage.name);
            if !names.insert(&stage.name) {
                let help = format!("give {key}.name another value");
                self.note(format!("{key}.name"), format!("two stages are named \"{}\"", stage.name), help);
            }
            if matches!(stage.name.as_str(), "base" | "constant") {
                let message =
                    format!("`{key}.name` is \"{}\", a column of the evaluation table already", stage.name);
                self.note(format!("{key}.name"), message, "choose another name");
            }
            self.trainer(&format!("{key}.trainer"), &stage.trainer);
            self.micro_batch(&format!("{key}.trainer"), stage);
            self.what_learns(&key, stage);
            self.stage_tasks(&key, stage, &experiment.data);
            if let Some(policy) = stage.recipe.on_policy() {
                self.policy(&key, policy, stage);
                if experiment.bf16 && policy.rollout_bf16 {
                    let key = format!("{key}.recipe.rollout_bf16");
                    let message =
                        format!("`{key}` has no effect: with `bf16` the policy learns in bfloat16 too");
                    self.note(key, message, "leave out one of the two");
                }
                self.told_without_dropout(&key, policy, stage);
            }
            self.best(&format!("{key}.trainer"), stage, experiment);
            if stage.trainer.eval_steps > 0 && experiment.evaluate.is_none() {
                let message =
                    format!("`{key}.trainer.eval_steps` is set, but there is nothing to evaluate on");
                self.note(
                    format!("{key}.trainer.eval_steps"),
                    message,
                    "add a file to data.eval, or leave it out",
                );
            }
        }
    }

    /// What drew knows nothing of what an adapter drops in the update: their ratio would be made of that.
    fn told_without_dropout(&mut self, key: &str, policy: &Policy, stage: &Stage) {
        let compares = policy.rollout_importance_sampling_clip_max.is_some()
            || policy.off_policy_mask_threshold.is_some();
        if policy.rollout_bf16 && compares && stage.lora.as_ref().is_some_and(|lora| lora.lora_dropout > 0.0)
        {
            let message = format!(
                "`{key}.recipe.rollout_bf16` compares sampling with an update in which the adapter drops some of its input"
            );
            let help = format!(
                "set {key}.lora.lora_dropout = 0, or rollout_importance_sampling_mode = \"none\" without off_policy_mask_threshold"
            );
            self.note(format!("{key}.recipe.rollout_bf16"), message, help);
        }
    }

    fn stage_tasks(&mut self, key: &str, stage: &Stage, data: &Data) {
        let path = format!("{key}.data.tasks");
        self.tasks(&path, &stage.data.tasks);
        for task in &stage.data.tasks {
            if !data.train.iter().any(|file| file.tasks.contains(task)) {
                let help =
                    format!("add {task} to the tasks of a file of data.train, or take it out of {path}");
                self.note(
                    &path,
                    format!("`{path}` names {task}, which no file of `data.train` offers"),
                    help,
                );
            }
        }
    }

    fn what_learns(&mut self, key: &str, stage: &Stage) {
        let trainer = &stage.trainer;
        let freezes = [
            ("freeze_vision_tower", trainer.freeze_vision_tower),
            ("freeze_merger", trainer.freeze_merger),
            ("freeze_language_model", trainer.freeze_language_model),
        ];
        let rates = [("vision_lr", trainer.vision_lr), ("merger_lr", trainer.merger_lr)];
        for (name, rate) in rates {
            if let Some(rate) = rate {
                self.number(&format!("{key}.trainer.{name}"), rate, rate > 0.0, "above 0");
            }
        }
        let caches = [
            ("vision_cache_mb", trainer.vision_cache_mb),
            ("vision_cache_disk_mb", trainer.vision_cache_disk_mb),
        ];
        for (name, _) in caches.iter().filter(|(_, size)| size.is_some() && !stage.keeps_vision()) {
            let message =
                format!("`{key}.trainer.{name}` is set, but the stage changes what the vision tower gives");
            let help = "leave it out, or freeze the tower and the merger";
            self.note(format!("{key}.trainer.{name}"), message, help);
        }
        for (name, size) in caches {
            // Up to a petabyte.
            if size.is_some_and(|size| size > 1 << 30) {
                let message = format!("`{key}.trainer.{name}` is {}", size.unwrap_or_default());
                self.note(format!("{key}.trainer.{name}"), message, "give mebibytes, at most 1073741824");
            }
        }
        let Some(lora) = &stage.lora else {
            for ((frozen, is_frozen), (name, rate)) in freezes.into_iter().zip(rates) {
                if is_frozen == Some(true) && rate.is_some() {
                    let message = format!(
                        "`{key}.trainer.{name}` is set, but `{frozen}` leaves nothing to learn there"
                    );
                    self.note(format!("{key}.trainer.{name}"), message, "leave one of the two out");
                }
            }
            if freezes.iter().all(|(_, is_frozen)| *is_frozen == Some(true)) {
                let message =
                    format!("`{key}.trainer` freezes the vision tower, the merger and the language model");
                self.note(format!("{key}.trainer.freeze_language_model"), message, "let one of them learn");
            }
            return;
        };
        for (name, _) in freezes.iter().filter(|(_, typed)| typed.is_some()) {
            let message =
                format!("`{key}.trainer.{name}` is set beside `{key}.lora`, which freezes the whole model");
            let help =
                format!("leave it out; {key}.lora.target_modules and vision say which layers are adapted");
            self.note(format!("{key}.trainer.{name}"), message, help);
        }
        for (name, rate) in rates {
            if rate.is_some() && !lora.vision {
                let message =
                    format!("`{key}.trainer.{name}` is set, but the adapter is on the language model alone");
                self.note(
                    format!("{key}.trainer.{name}"),
                    message,
                    format!("leave it out, or set {key}.lora.vision"),
                );
            }
        }
        if let Err(ModelError::Lora { key: name, message }) = lora.check() {
            self.note(
                format!("{key}.lora.{name}"),
                format!("`{key}.lora.{name}` {message}"),
                "change the value",
            );
        }
    }

    fn micro_batch(&mut self, key: &str, stage: &Stage) {
        let trainer = &stage.trainer;
        self.at_least(&format!("{key}.micro_batch_size"), trainer.micro_batch_size, 1);
        let Some(max_tokens) = trainer.max_tokens_per_micro_batch else { return };
        let name = format!("{key}.max_tokens_per_micro_batch");
        self.at_least(&name, max_tokens, 1);
        let is_lone = stage.recipe.on_policy().is_none() && trainer.num_prompts_per_step == 1;
        if trainer.micro_batch_size == 1 && !is_lone {
            let message =
                format!("`{name}` has no effect: `micro_batch_size` is 1, and a sequence is never cut");
            self.note(name, message, format!("leave it out, or leave out {key}.micro_batch_size"));
        }
    }

    fn trainer(&mut self, key: &str, trainer: &Trainer) {
        self.at_least(&format!("{key}.max_steps"), trainer.max_steps, 1);
        self.at_least(&format!("{key}.num_prompts_per_step"), trainer.num_prompts_per_step, 1);
        self.at_least(&format!("{key}.logging_steps"), trainer.logging_steps, 1);
        let rate = trainer.learning_rate;
        self.number(&format!("{key}.learning_rate"), rate, rate > 0.0, "above 0");
        let norm = trainer.max_grad_norm;
        self.number(&format!("{key}.max_grad_norm"), norm, norm >= 0.0, "0 (off) or above");
        let decay = trainer.weight_decay;
        self.number(&format!("{key}.weight_decay"), decay, decay >= 0.0, "0 or above");
        for (name, beta) in [("adam_beta1", trainer.adam_beta1), ("adam_beta2", trainer.adam_beta2)] {
            self.number(&format!("{key}.{name}"), beta, (0.0..1.0).contains(&beta), "at least 0 and below 1");
        }
        let epsilon = trainer.adam_epsilon;
        self.number(&format!("{key}.adam_epsilon"), epsilon, epsilon > 0.0, "above 0");
        if trainer.warmup_steps > trainer.max_steps {
            let message = format!(
                "`{key}.warmup_steps` is {}, but the stage has only {} steps",
                trainer.warmup_steps, trainer.max_steps
            );
            self.note(format!("{key}.warmup_steps"), message, format!("lower it, or raise {key}.max_steps"));
        }
    }
}
