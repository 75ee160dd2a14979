//! The best checkpoint of a stage by a metric of the experiment's choice: found, kept, and named in `best.json`.
//!
//! Which step is the best stands in the state of every checkpoint, so a resumed run goes on from what it had found.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use medgrpo_datasets::TaskKind;
use medgrpo_trainers::{
    TrainError,
    checkpoint::{Best, peek_state},
};
use serde::Serialize;

use super::checkpoints::{checkpoint_dir, of_stage};
use crate::{
    build::EvalSplit,
    config::resolved::{Experiment, Trainer},
    run_dir::{RunDir, write_atomic},
};

/// The best checkpoints of a run, by stage.
pub(super) const BEST_FILE: &str = "best.json";

/// The watch over the metric of a stage.
pub(super) struct BestWatch {
    metric: String,
    greater_is_better: bool,
    pub(super) best: Option<Best>,
    /// Whether any step has given it.
    is_known: bool,
}

impl BestWatch {
    /// `None` where no metric is watched; `best` is what the `done` steps before have found.
    pub(super) fn new(trainer: &Trainer, best: Option<Best>, done: usize) -> Option<Self> {
        let (metric, greater_is_better) =
            (trainer.metric_for_best_model.clone()?, trainer.greater_is_better?);
        Some(Self { metric, greater_is_better, best, is_known: done > 0 })
    }

    /// Whether evaluations give the metric.
    pub(super) fn is_evaluated(&self) -> bool {
        self.metric.starts_with("eval/")
    }

    /// Takes note of the metrics of a step, one that chooses or not.
    pub(super) fn note(&mut self, metrics: &BTreeMap<String, f64>) {
        self.is_known |= metrics.contains_key(&self.metric);
    }

    /// Looks at the metrics of a step that chooses; whether it is better than all before it.
    ///
    /// # Errors
    /// If no step has given the metric so far.
    pub(super) fn look(&mut self, step: usize, metrics: &BTreeMap<String, f64>) -> Result<bool, TrainError> {
        let metric = &self.metric;
        let Some(value) = metrics.get(metric).copied().filter(|value| value.is_finite()) else {
            // A step may have drawn no sample of a pair, and no answer of an evaluation may have been read.
            if !self.is_known && !self.is_evaluated() {
                let known: Vec<&str> = metrics.keys().map(String::as_str).collect();
                return Err(TrainError::Observer(format!(
                    "step {step}: metric_for_best_model is {metric:?}, which no step has given; this one's numbers are {}",
                    known.join(", ")
                )));
            }
            tracing::warn!(
                "step {step} has no `{metric}` (metric_for_best_model): it is not compared with others"
            );
            return Ok(false);
        };
        let is_better = self
            .best
            .as_ref()
            .is_none_or(|best| if self.greater_is_better { value > best.value } else { value < best.value });
        if is_better {
            self.best = Some(Best { metric: metric.clone(), value, step });
        }
        Ok(is_better)
    }
}

/// Looks for records behind the metrics of evaluations.
///
/// # Errors
/// If a split has none of the task that a metric is about.
pub(crate) fn check_records(experiment: &Experiment, eval: &[EvalSplit]) -> Result<()> {
    for (index, stage) in experiment.stages.iter().enumerate() {
        let Some(metric) = &stage.trainer.metric_for_best_model else { continue };
        let Some((split, number)) = metric.strip_prefix("eval/").and_then(|name| name.rsplit_once('/'))
        else {
            continue;
        };
        let Some(task) = number.split('_').next().and_then(TaskKind::from_key) else { continue };
        let Some(split) = eval.iter().find(|it| it.name == split) else { continue };
        if split.file.places(&[task]).is_empty() {
            bail!(
                "stage.{index}.trainer.metric_for_best_model is {metric:?}, but split {} has no record of task {task}: \
                 choose another metric",
                split.name
            );
        }
    }
    Ok(())
}

/// The best checkpoint of a stage.
#[derive(Debug, Serialize)]
pub(super) struct BestCheckpoint {
    #[serde(flatten)]
    pub(super) best: Best,
    /// From the run directory.
    pub(super) checkpoint: PathBuf,
}

/// Writes down the best checkpoint of each stage that has one; gives them by the stage's name.
pub(super) fn write(experiment: &Experiment, run: &Path) -> Result<BTreeMap<String, BestCheckpoint>> {
    let mut found = BTreeMap::new();
    let folder = RunDir::checkpoints_of(run);
    for (index, stage) in experiment.stages.iter().enumerate() {
        if stage.trainer.metric_for_best_model.is_none() {
            continue;
        }
        let states = of_stage(&folder, index)?.into_iter().rev().filter_map(|dir| peek_state(&dir).ok());
        let Some(best) = states.into_iter().next().and_then(|state| state.best) else { continue };
        let dir = checkpoint_dir(&folder, index, &stage.name, best.step);
        if !dir.exists() {
            tracing::warn!("{}: the best checkpoint of stage {} is gone", dir.display(), stage.name);
            continue;
        }
        let checkpoint = dir.strip_prefix(run).unwrap_or(&dir).to_owned();
        found.insert(stage.name.clone(), BestCheckpoint { best, checkpoint });
    }
    if !found.is_empty() {
        write_atomic(&run.join(BEST_FILE), &serde_json::to_vec_pretty(&found)?)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(metric: &str, greater_is_better: bool) -> BestWatch {
        BestWatch { metric: metric.to_owned(), greater_is_better, best: None, is_known: false }
    }

    /// The steps that were better, of one value each from step 1 on.
    fn better(mut watch: BestWatch, values: &[f64]) -> Vec<usize> {
        let metric = watch.metric.clone();
        let mut look = |step: usize, value: f64| {
            watch.look(step, &BTreeMap::from([(metric.clone(), value), ("other".to_owned(), 9.0)])).unwrap()
        };
        (1..=values.len()).filter(|step| look(*step, values[step - 1])).collect()
    }

    #[test]
    fn the_first_of_the_best_is_kept() {
        assert_eq!(better(watch("reward", true), &[0.2, 0.1, 0.3, 0.3, 0.25]), [1, 3]);
        assert_eq!(better(watch("loss", false), &[0.2, 0.1, 0.3, 0.1, 0.05]), [1, 2, 5]);
        assert_eq!(
            better(watch("eval/test/tag_miou_03", true), &[f64::NAN, 0.0, f64::INFINITY, 0.1]),
            [2, 4]
        );
    }

    #[test]
    fn a_number_that_no_step_gives_is_told_with_those_it_gives() {
        let metrics = BTreeMap::from([("raw/tag/AVOS/mean".to_owned(), 0.5)]);
        let told = watch("raw/tag/AVSO/mean", true).look(2, &metrics).unwrap_err().to_string();
        assert!(
            told.contains("step 2") && told.contains("AVSO") && told.contains("raw/tag/AVOS/mean"),
            "{told}"
        );
        // The draw of a step may hold no such sample, and an evaluation's answers may all be unreadable.
        let mut found = watch("raw/tag/AVOS/mean", true);
        found.note(&metrics);
        assert!(!found.look(2, &BTreeMap::new()).unwrap());
        assert!(found.look(4, &metrics).unwrap());
        assert!(!watch("eval/test/dvc_f1", true).look(2, &BTreeMap::new()).unwrap());
    }
}
