//! The training stages: their names, data, optimizer and algorithm.

use std::collections::BTreeSet;

use super::Judge;
use crate::config::resolved::{Data, Experiment, Stage, Trainer};

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
            self.stage_tasks(&key, stage, &experiment.data);
            if let Some(policy) = stage.recipe.on_policy() {
                self.policy(&key, policy, stage);
            }
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
}
