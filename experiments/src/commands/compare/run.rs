//! A run directory as `compare` reads it: what the experiment was, what was logged, what the answers are worth.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::TaskKind;
use medgrpo_rewards::leaderboard::Rules;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::settings::{Settings, settings};
use crate::{
    config,
    environment::Environment,
    report::History,
    run_dir::{CONFIG_FILE, ENVIRONMENT_FILE, EVALUATION_FILE, METRICS_FILE},
    train::{BASE_LABEL, CONSTANT_LABEL},
};

/// What differs between the runs of a variant, and pairs runs of different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Replicate {
    pub(super) seed: u64,
    /// The practice set's own, where there is one.
    pub(super) practice_seed: Option<u64>,
}

impl fmt::Display for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        match self.practice_seed.filter(|seed| *seed != self.seed) {
            Some(seed) => write!(f, " (practice set {seed})"),
            None => Ok(()),
        }
    }
}

/// Which of a run's evaluations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// The best constant answers of the training records.
    Constant,
    /// The model that the last stage started from.
    Before,
    /// The model that it left.
    After,
}

/// A headline number of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Metric {
    pub(super) split: String,
    pub(super) name: &'static str,
    pub(super) rules: Rules,
}

impl Metric {
    /// The task it is about: its name starts with the key.
    pub(super) fn task(&self) -> Option<TaskKind> {
        self.name.split('_').next().and_then(TaskKind::from_key)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = if self.rules == Rules::Strict { ", strict" } else { "" };
        write!(f, "{} / {}{rules}", self.split, self.name)
    }
}

/// `evaluation.json`: by model, then split.
type Evaluation = BTreeMap<String, BTreeMap<String, Reports>>;

/// What is read of the two reports on a split.
#[derive(Debug, Deserialize)]
pub(super) struct Reports {
    pub(super) official: Scored,
    strict: Scored,
}

/// What is read of a report.
#[derive(Debug, Deserialize)]
pub(super) struct Scored {
    overall: BTreeMap<String, Option<f64>>,
    captions: BTreeMap<String, Option<f64>>,
    pub(super) per_record: Vec<ScoredRecord>,
}

/// What is read of a record.
#[derive(Debug, Deserialize)]
pub(super) struct ScoredRecord {
    pub(super) row: usize,
    pub(super) task: String,
    pub(super) qa_type: String,
    pub(super) data_source: String,
    pub(super) score: Value,
}

/// A run.
#[derive(Debug)]
pub(super) struct Run {
    /// As it was typed.
    pub(super) path: PathBuf,
    pub(super) replicate: Replicate,
    pub(super) settings: Settings,
    /// Names of the stages.
    pub(super) stages: Vec<String>,
    /// Tasks that the last stage trained on.
    pub(super) trained: Vec<TaskKind>,
    /// Steps that the last stage is to have.
    pub(super) max_steps: usize,
    pub(super) history: History,
    /// Every start of the program, as far as they are told.
    pub(super) environments: Vec<Environment>,
    /// Whether it was to be evaluated.
    evaluates: bool,
    evaluation: Evaluation,
}

impl Run {
    /// Reads a run directory, whoever may be writing to it.
    ///
    /// # Errors
    ///
    /// If it is none, or a file in it is not what a run writes.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let file = path.join(CONFIG_FILE);
        if !file.exists() {
            bail!(
                "{} holds no run (no {CONFIG_FILE}): give run directories of `medgrpo train`",
                path.display()
            );
        }
        let experiment = config::load(&file, &[]).context("the run directory's own config")?;
        let metrics = path.join(METRICS_FILE);
        let last = experiment.stages.last().context("an experiment has at least one stage")?;
        Ok(Self {
            path: path.to_owned(),
            replicate: Replicate {
                seed: experiment.seed,
                practice_seed: experiment.practice.as_ref().map(|practice| practice.seed),
            },
            settings: settings(&experiment)?,
            stages: experiment.stages.iter().map(|stage| stage.name.clone()).collect(),
            trained: last.data.tasks.clone(),
            max_steps: last.trainer.max_steps,
            history: if metrics.exists() { History::read(&metrics)? } else { History::default() },
            environments: read_json(&path.join(ENVIRONMENT_FILE))?.unwrap_or_default(),
            evaluates: experiment.evaluate.is_some(),
            evaluation: read_json(&path.join(EVALUATION_FILE))?.unwrap_or_default(),
        })
    }

    /// The reports on a model, by split; `None` where it was not evaluated.
    pub(super) fn reports(&self, model: Model) -> Option<&BTreeMap<String, Reports>> {
        let mut before_last = self.stages.iter().rev();
        let after = before_last.next();
        let label = match model {
            Model::Constant => CONSTANT_LABEL,
            Model::Before => before_last.next().map_or(BASE_LABEL, String::as_str),
            Model::After => after?,
        };
        self.evaluation.get(label)
    }

    /// A number of a model; `None` where it could not be computed.
    pub(super) fn value(&self, model: Model, metric: &Metric) -> Option<f64> {
        let reports = self.reports(model)?.get(&metric.split)?;
        let scored = if metric.rules == Rules::Strict { &reports.strict } else { &reports.official };
        let value = scored.overall.get(metric.name).or_else(|| scored.captions.get(metric.name));
        value.copied().flatten().filter(|value| value.is_finite())
    }

    /// Records of the task of a metric; `None` without an evaluation.
    pub(super) fn num_records(&self, metric: &Metric) -> Option<usize> {
        let reports = self.reports(Model::After)?.get(&metric.split)?;
        let task = metric.task().map(TaskKind::key);
        let of_task = |record: &&ScoredRecord| Some(record.task.as_str()) == task;
        Some(reports.official.per_record.iter().filter(of_task).count())
    }

    /// Steps of the last stage that are logged.
    pub(super) fn steps_done(&self) -> usize {
        let logged = self.history.stages.get(&(self.stages.len() - 1));
        let last = logged.into_iter().flat_map(|stage| stage.series.values()).filter_map(|line| line.last());
        last.map(|&(step, _)| step).max().unwrap_or(0)
    }

    /// Why there are no numbers of the trained model; `None` where there are.
    pub(super) fn lacks(&self) -> Option<String> {
        let (done, steps) = (self.steps_done(), self.max_steps);
        if self.reports(Model::After).is_some() {
            None
        } else if done < steps {
            Some(format!("is not finished: step {done} of {steps} of its last stage is the last one logged"))
        } else if self.evaluates {
            Some("is trained and not yet evaluated: `medgrpo train --resume` ends it".to_owned())
        } else {
            Some("was evaluated on nothing: its experiment has no `data.eval`".to_owned())
        }
    }
}

/// A file of JSON; `None` if it is not there.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let read = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: not what `medgrpo train` writes", path.display()))?;
    Ok(Some(read))
}
