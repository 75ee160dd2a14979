//! Values that are well typed but make no sense, alone or together. Every message names the key, every help the remedy.
//!
//! Only what the file itself shows is judged here; files, rows and token counts are looked at by `medgrpo check`.

use std::collections::BTreeSet;

use medgrpo_datasets::TaskKind;

use super::{
    resolved::{Data, Evaluate, Experiment, Grpo, ModelInit, ModelSource, Recipe, Stage, Trainer, Video},
    wire::ExperimentWire,
};

/// The tasks that have a reward to train on.
const REWARDED_TASKS: [TaskKind; 2] = [TaskKind::Tag, TaskKind::Stg];

/// The least a byte-level tokenizer needs: 256 bytes and the special tokens of Qwen2.5-VL.
const MIN_VOCAB_SIZE: usize = 300;

/// One thing that makes no sense.
#[derive(Debug)]
pub(super) struct Finding {
    /// Path of the key, list elements by number.
    pub(super) key: String,
    pub(super) message: String,
    pub(super) help: String,
}

/// Everything that makes no sense; nothing if the experiment can be tried.
pub(super) fn validate(experiment: &Experiment) -> Vec<Finding> {
    let mut judge = Judge::default();
    if let Some(practice) = &experiment.practice {
        judge.at_least("practice.clips", practice.clips, 1);
    }
    if let ModelSource::Init(init) = &experiment.model {
        judge.model_init(init);
    }
    judge.data(&experiment.data);
    judge.video(&experiment.video);
    judge.stages(experiment);
    match &experiment.evaluate {
        Some(evaluate) => judge.evaluate(evaluate, &experiment.data),
        None if experiment.stages.is_empty() => {
            judge.note("stage", "there is nothing to do", "add a [[stage]] to train, or data.eval to evaluate");
        }
        None => {}
    }
    judge.findings
}

/// Keys that exclude each other, which the resolved experiment no longer shows.
pub(super) fn validate_choices(wire: &ExperimentWire) -> Vec<Finding> {
    let mut judge = Judge::default();
    if wire.model.path.is_some() == wire.model.init.is_some() {
        let help = "give exactly one: a checkpoint directory, or the sizes of a model made from nothing";
        judge.note("model", "`model` takes either `path` or `init`", help);
    }
    for (index, stage) in wire.stage.iter().enumerate() {
        let key = format!("stage.{index}.trainer.warmup_ratio");
        let Some(ratio) = stage.trainer.warmup_ratio else { continue };
        judge.number(&key, ratio, (0.0..=1.0).contains(&ratio), "at least 0 and at most 1");
        if stage.trainer.warmup_steps.is_some() {
            judge.note(&key, format!("`{key}` and `warmup_steps` are both given"), "give one of them");
        }
    }
    judge.findings
}

#[derive(Default)]
struct Judge {
    findings: Vec<Finding>,
}

impl Judge {
    fn note(&mut self, key: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { key: key.into(), message: message.into(), help: help.into() });
    }

    fn at_least(&mut self, key: &str, value: usize, least: usize) {
        if value < least {
            self.note(key, format!("`{key}` is {value}"), format!("it must be at least {least}"));
        }
    }

    /// `allowed` says in words what `is_allowed` tests.
    fn number(&mut self, key: &str, value: f64, is_allowed: bool, allowed: &str) {
        if !is_allowed || !value.is_finite() {
            self.note(key, format!("`{key}` is {value}"), format!("it must be {allowed}"));
        }
    }

    fn multiple(&mut self, key: &str, value: usize, divisor_key: &str, divisor: usize, factor: usize) {
        let Some(quotient) = value.checked_div(divisor) else { return };
        if value % divisor != 0 || quotient == 0 || quotient % factor != 0 {
            let help = match factor {
                1 => format!("it must be a multiple of {divisor_key} ({divisor})"),
                _ => format!("divided by {divisor_key} ({divisor}) it must be a multiple of {factor}"),
            };
            self.note(key, format!("`{key}` is {value}"), help);
        }
    }

    fn model_init(&mut self, init: &ModelInit) {
        let vision = &init.vision;
        self.at_least("model.init.vocab_size", init.vocab_size, MIN_VOCAB_SIZE);
        for (key, value) in [
            ("model.init.hidden_size", init.hidden_size),
            ("model.init.intermediate_size", init.intermediate_size),
            ("model.init.num_hidden_layers", init.num_hidden_layers),
            ("model.init.num_attention_heads", init.num_attention_heads),
            ("model.init.num_key_value_heads", init.num_key_value_heads),
            ("model.init.vision.hidden_size", vision.hidden_size),
            ("model.init.vision.intermediate_size", vision.intermediate_size),
            ("model.init.vision.depth", vision.depth),
            ("model.init.vision.num_heads", vision.num_heads),
        ] {
            self.at_least(key, value, 1);
        }
        let range = init.initializer_range;
        self.number("model.init.initializer_range", range, range > 0.0, "above 0");
        self.multiple("model.init.hidden_size", init.hidden_size, "num_attention_heads", init.num_attention_heads, 16);
        let kv_heads = init.num_key_value_heads;
        self.multiple("model.init.num_attention_heads", init.num_attention_heads, "num_key_value_heads", kv_heads, 1);
        self.multiple("model.init.vision.hidden_size", vision.hidden_size, "num_heads", vision.num_heads, 4);
        // 28 = patch size 14 times the merger's 2: windows hold whole merged patches.
        self.multiple("model.init.vision.window_size", vision.window_size, "the merged patch", 28, 1);
        for (index, &block) in vision.fullatt_block_indexes.iter().enumerate() {
            if block >= vision.depth {
                self.note(
                    format!("model.init.vision.fullatt_block_indexes.{index}"),
                    format!("`model.init.vision.fullatt_block_indexes` names layer {block}"),
                    format!("the tower has layers 0 to {}", vision.depth.saturating_sub(1)),
                );
            }
        }
    }

    fn data(&mut self, data: &Data) {
        self.at_least("data.max_prompt_tokens", data.max_prompt_tokens, 1);
        for (index, file) in data.train.iter().enumerate() {
            let key = format!("data.train.{index}");
            self.number(&format!("{key}.weight"), file.weight, file.weight > 0.0, "above 0");
            self.tasks(&format!("{key}.tasks"), &file.tasks);
        }
        let mut names = BTreeSet::new();
        for (index, file) in data.eval.iter().enumerate() {
            let key = format!("data.eval.{index}");
            self.tasks(&format!("{key}.tasks"), &file.tasks);
            self.name(&format!("{key}.name"), &file.name);
            if !names.insert(&file.name) {
                let message = format!("two splits of `data.eval` are named \"{}\"", file.name);
                self.note(format!("{key}.name"), message, format!("give {key}.name another value"));
            }
        }
    }

    fn tasks(&mut self, key: &str, tasks: &[TaskKind]) {
        if tasks.is_empty() {
            self.note(key, format!("`{key}` is empty"), "name at least one task, or leave the key out for all");
        }
        let mut seen = BTreeSet::new();
        for task in tasks {
            if !seen.insert(task) {
                self.note(key, format!("`{key}` names {task} twice"), "name each task once");
            }
        }
    }

    fn name(&mut self, key: &str, name: &str) {
        let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
        if name.is_empty() || name.len() > 64 || !is_plain {
            let help = format!("set {key} to 1 to 64 of the letters a-z, A-Z, 0-9, `-` and `_`");
            self.note(key, format!("`{key}` is {name:?}, which cannot name a directory and a metric"), help);
        }
    }

    fn video(&mut self, video: &Video) {
        if let Some(fps) = video.fps {
            self.number("video.fps", fps, fps > 0.0, "above 0");
        }
        if let Some(max_frames) = video.max_frames {
            self.at_least("video.max_frames", max_frames, 2);
        }
        // Smaller than one merged patch of 28 × 28 there is no vision token.
        for (key, pixels) in [("video.min_pixels", video.min_pixels), ("video.max_pixels", video.max_pixels)] {
            if let Some(pixels) = pixels {
                self.at_least(key, pixels, 28 * 28);
            }
        }
        if let (Some(min), Some(max)) = (video.min_pixels, video.max_pixels)
            && min > max
        {
            let help = format!("lower it to {max} or less, or raise video.max_pixels");
            self.note("video.min_pixels", format!("`video.min_pixels` ({min}) is above `video.max_pixels` ({max})"), help);
        }
    }

    fn stages(&mut self, experiment: &Experiment) {
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
                let message = format!("`{key}.name` is \"{}\", a column of the evaluation table already", stage.name);
                self.note(format!("{key}.name"), message, "choose another name");
            }
            self.trainer(&format!("{key}.trainer"), &stage.trainer);
            self.stage_tasks(&key, stage, &experiment.data);
            if let Recipe::Grpo(grpo) = &stage.recipe {
                self.grpo(&key, grpo, stage);
            }
            if stage.trainer.eval_steps > 0 && experiment.evaluate.is_none() {
                let message = format!("`{key}.trainer.eval_steps` is set, but there is nothing to evaluate on");
                self.note(format!("{key}.trainer.eval_steps"), message, "add a file to data.eval, or leave it out");
            }
        }
    }

    fn stage_tasks(&mut self, key: &str, stage: &Stage, data: &Data) {
        let path = format!("{key}.data.tasks");
        self.tasks(&path, &stage.data.tasks);
        for task in &stage.data.tasks {
            if !data.train.iter().any(|file| file.tasks.contains(task)) {
                let help = format!("add {task} to the tasks of a file of data.train, or take it out of {path}");
                self.note(&path, format!("`{path}` names {task}, which no file of `data.train` offers"), help);
            }
        }
    }

    fn trainer(&mut self, key: &str, trainer: &Trainer) {
        self.at_least(&format!("{key}.max_steps"), trainer.max_steps, 1);
        self.at_least(&format!("{key}.num_prompts_per_step"), trainer.num_prompts_per_step, 1);
        self.at_least(&format!("{key}.micro_batch_size"), trainer.micro_batch_size, 1);
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

    fn grpo(&mut self, key: &str, grpo: &Grpo, stage: &Stage) {
        let unrewarded: Vec<_> = stage.data.tasks.iter().filter(|task| !REWARDED_TASKS.contains(task)).collect();
        if !unrewarded.is_empty() {
            let list = |tasks: &[String]| tasks.join(", ");
            let names: Vec<_> = unrewarded.iter().map(|task| task.to_string()).collect();
            let rewarded: Vec<_> = REWARDED_TASKS.iter().map(|task| format!("\"{task}\"")).collect();
            let message = format!("stage \"{}\" would train on tasks without a reward ({})", stage.name, list(&names));
            self.note(
                format!("{key}.data.tasks"),
                message,
                format!("set {key}.data.tasks = [{}] or a part of it", list(&rewarded)),
            );
        }
        let key = format!("{key}.recipe");
        if grpo.num_generations < 2 {
            let help = "a group needs at least 2 completions to compare; for one demonstrated answer use type = \"sft\"";
            let message = format!("`{key}.num_generations` is {}", grpo.num_generations);
            self.note(format!("{key}.num_generations"), message, help);
        }
        self.at_least(&format!("{key}.max_completion_length"), grpo.max_completion_length, 1);
        self.at_least(&format!("{key}.num_iterations"), grpo.num_iterations, 1);
        let temperature = grpo.temperature;
        let above_zero = "above 0 (greedy completions of one prompt are all equal)";
        self.number(&format!("{key}.temperature"), temperature, temperature > 0.0, above_zero);
        self.number(&format!("{key}.top_p"), grpo.top_p, grpo.top_p > 0.0 && grpo.top_p <= 1.0, "above 0 and at most 1");
        self.number(&format!("{key}.beta"), grpo.beta, grpo.beta >= 0.0, "0 or above");
        let epsilon = grpo.epsilon;
        self.number(&format!("{key}.epsilon"), epsilon, epsilon > 0.0 && epsilon < 1.0, "above 0 and below 1");
        self.number(&format!("{key}.epsilon_high"), grpo.epsilon_high, grpo.epsilon_high > 0.0, "above 0");
    }

    fn evaluate(&mut self, evaluate: &Evaluate, data: &Data) {
        if data.eval.is_empty() {
            let help = "add a file: [[data.eval]] with file = \"…\", or take the table out";
            return self.note("evaluate", "there is a table `evaluate`, but `data.eval` names no file", help);
        }
        if evaluate.splits.is_empty() {
            let help = "name at least one split, or leave the key out for all";
            self.note("evaluate.splits", "`evaluate.splits` is empty", help);
        }
        let known: Vec<_> = data.eval.iter().map(|file| file.name.as_str()).collect();
        let mut seen = BTreeSet::new();
        for (index, split) in evaluate.splits.iter().enumerate() {
            let key = format!("evaluate.splits.{index}");
            if !known.contains(&split.as_str()) {
                let message = format!("`evaluate.splits` names {split:?}, which is not in `data.eval`");
                self.note(&key, message, format!("the splits are {}", known.join(", ")));
            }
            if !seen.insert(split) {
                self.note(&key, format!("`evaluate.splits` names {split:?} twice"), "name each split once");
            }
        }
        self.at_least("evaluate.batch_size", evaluate.batch_size, 1);
        self.at_least("evaluate.limit_during_training", evaluate.limit_during_training, 1);
        for (task, limit) in evaluate.max_new_tokens.iter() {
            self.at_least(&format!("evaluate.max_new_tokens.{task}"), limit, 1);
        }
    }
}
