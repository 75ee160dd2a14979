//! Values that are well typed but make no sense, alone or together. Every message names the key, every help the remedy.
//!
//! Only what the file itself shows is judged here; files, rows and token counts are looked at by `medgrpo check`.

mod alarms;
mod best;
mod model;
mod recipe;
mod rewards;
mod stage;

use std::collections::BTreeSet;

use medgrpo_datasets::{TaskKind, synth::MIN_CLIPS};

use super::{
    resolved::{Data, Evaluate, Experiment, ModelSource, Video},
    wire::ExperimentWire,
};

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
        judge.at_least("practice.clips", practice.clips, MIN_CLIPS);
    }
    if let ModelSource::Init(init) = &experiment.model {
        judge.model_init(init);
    }
    judge.data(&experiment.data);
    judge.video(&experiment.video);
    judge.stages(experiment);
    judge.alarms(&experiment.alarms);
    match &experiment.evaluate {
        Some(evaluate) => judge.evaluate(evaluate, &experiment.data),
        None if experiment.stages.is_empty() => {
            judge.note(
                "stage",
                "there is nothing to do",
                "add a [[stage]] to train, or data.eval to evaluate",
            );
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
        judge.unread_keys(&format!("stage.{index}.recipe"), &stage.recipe, &stage.trainer);
        let key = format!("stage.{index}.trainer.warmup_ratio");
        let Some(ratio) = stage.trainer.warmup_ratio else {
            continue;
        };
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
        let Some(quotient) = value.checked_div(divisor) else {
            return;
        };
        if !value.is_multiple_of(divisor) || quotient == 0 || !quotient.is_multiple_of(factor) {
            let help = match factor {
                1 => format!("it must be a multiple of {divisor_key} ({divisor})"),
                _ => format!("divided by {divisor_key} ({divisor}) it must be a multiple of {factor}"),
            };
            self.note(key, format!("`{key}` is {value}"), help);
        }
    }

    fn data(&mut self, data: &Data) {
        self.at_least("data.max_prompt_tokens", data.max_prompt_tokens, 1);
        self.at_least("data.questions_per_clip", data.questions_per_clip, 1);
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
            self.note(
                key,
                format!("`{key}` is empty"),
                "name at least one task, or leave the key out for all",
            );
        }
        let mut seen = BTreeSet::new();
        for task in tasks {
            if !seen.insert(task) {
                self.note(key, format!("`{key}` names {task} twice"), "name each task once");
            }
        }
    }

    fn name(&mut self, key: &str, name: &str) {
        let is_plain =
            name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'));
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
        for (key, pixels) in [("video.min_pixels", video.min_pixels), ("video.max_pixels", video.max_pixels)]
        {
            if let Some(pixels) = pixels {
                self.at_least(key, pixels, 28 * 28);
            }
        }
        if let (Some(min), Some(max)) = (video.min_pixels, video.max_pixels)
            && min > max
        {
            let help = format!("lower it to {max} or less, or raise video.max_pixels");
            self.note(
                "video.min_pixels",
                format!("`video.min_pixels` ({min}) is above `video.max_pixels` ({max})"),
                help,
            );
        }
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
