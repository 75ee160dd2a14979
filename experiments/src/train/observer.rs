//! What happens around the steps of a stage: metrics, rollouts, checkpoints, evaluation, stopping.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::checkpoint::CheckpointSource;
use medgrpo_rewards::judge::{Judge, JudgeStats};
use medgrpo_trainers::{
    TrainError,
    checkpoint::{self, TrainState},
    failure::FailedStep,
    learner::Learner,
    recipe::Policy,
    trainer::{Flow, Observer, StepReport},
};

use super::{
    best::{self, BestWatch},
    checkpoints::{checkpoint_dir, prune},
    evaluation::Evaluator,
    failure,
    stage_model::stored,
};
use crate::{
    alarms::Alarms,
    archive::{Archive, ArchivedGroup},
    config::resolved,
    dashboard::{self, Sample},
    events::EventFile,
    memory::{peak_resident_bytes, resident_bytes},
    progress::Progress,
    rollouts::StoredGroup,
    run_dir::{JsonLines, Position},
};

/// Bytes of a mebibyte.
const MIB: f64 = (1 << 20) as f64;

/// Watches one stage of a run.
pub(super) struct RunObserver<'a, B: AutodiffBackend> {
    pub(super) experiment: &'a resolved::Experiment,
    pub(super) run: &'a Path,
    pub(super) stage_index: usize,
    pub(super) stage: &'a resolved::Stage,
    pub(super) metrics: &'a mut JsonLines,
    pub(super) rollouts: &'a mut JsonLines,
    pub(super) archive: &'a mut Archive,
    pub(super) events: EventFile,
    pub(super) checkpoints: PathBuf,
    pub(super) source: &'a CheckpointSource,
    /// What the model below the stage's adapter goes by.
    pub(super) base_name: String,
    pub(super) evaluator: Option<&'a Evaluator<'a>>,
    pub(super) progress: Progress,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) device: &'a B::Device,
    /// Steps done at the last checkpoint.
    pub(super) saved: usize,
    /// Place of the sample stream after the last step.
    pub(super) stream_state: serde_json::Value,
    /// What the source of completions had learned by then.
    pub(super) source_state: serde_json::Value,
    pub(super) stopped: bool,
    /// The watch over a stage that learns from rewards.
    pub(super) alarms: Option<Alarms>,
    /// The step at which an alarm ended the run.
    pub(super) alarmed: Option<usize>,
    /// Who judges captions, if anyone.
    pub(super) judge: Option<Arc<dyn Judge>>,
    /// What it had done when metrics were last written.
    pub(super) judged: JudgeStats,
    /// The watch over the metric that chooses the best checkpoint.
    pub(super) best: Option<BestWatch>,
}

impl<B: AutodiffBackend> RunObserver<'_, B> {
    fn log_rollouts(&mut self, at: Position, report: &StepReport<'_>) -> Result<(), TrainError> {
        let mut tokens = Vec::new();
        for ((group, advantages), log_probs) in
            report.groups.iter().zip(report.advantages).zip(report.log_probs)
        {
            if group.completions.iter().all(|completion| completion.score.is_none()) {
                continue;
            }
            let line = StoredGroup::new(group, Ok(advantages));
            self.rollouts.append(at, &line).map_err(observer_error)?;
            tokens.push(ArchivedGroup::new(at, group, Some(log_probs)));
        }
        for dropped in report.dropped {
            let line = StoredGroup::new(&dropped.group, Err(dropped.reason));
            self.rollouts.append(at, &line).map_err(observer_error)?;
            tokens.push(ArchivedGroup::new(at, &dropped.group, None));
        }
        self.archive.append(&tokens).map_err(observer_error)
    }

    /// Looks at the numbers that are about to be logged, tells what has begun and adds it to them. Whether the run is to end.
    fn alarm(&mut self, step: usize, metrics: &mut BTreeMap<String, f64>) -> bool {
        let Some(alarms) = &mut self.alarms else { return false };
        let begun = alarms.look(step, metrics);
        for alarm in &begun {
            tracing::warn!("alarm {} in step {step} of stage {}: {alarm}", alarm.name, self.stage.name);
        }
        metrics.extend(alarms.metrics());
        !begun.is_empty() && alarms.stop()
    }

    fn save<M: Policy<B>>(
        &mut self,
        step: usize,
        model: &M,
        learner: &Learner<B, M>,
    ) -> Result<(), TrainError> {
        let dir = checkpoint_dir(&self.checkpoints, self.stage_index, &self.stage.name, step);
        if self.saved == step && dir.exists() {
            return Ok(());
        }
        self.metrics
            .sync()
            .and_then(|()| self.rollouts.sync())
            .and_then(|()| self.archive.sync())
            .and_then(|()| self.events.sync())
            .map_err(observer_error)?;
        let state = TrainState {
            stage_index: self.stage_index,
            stage: self.stage.name.clone(),
            step,
            stream: self.stream_state.clone(),
            source: self.source_state.clone(),
            best: self.best.as_ref().and_then(|watch| watch.best.clone()),
        };
        let best = state
            .best
            .as_ref()
            .map(|best| checkpoint_dir(&self.checkpoints, self.stage_index, &self.stage.name, best.step));
        let stored = stored(self.stage, step, &self.base_name);
        checkpoint::save(&dir, model, self.source, stored, learner, &state)?;
        self.saved = step;
        let limit = self.stage.trainer.save_total_limit;
        prune(&self.checkpoints, self.stage_index, limit, best.as_deref()).map_err(observer_error)?;
        best::write(self.experiment, self.run).map(drop).map_err(observer_error)
    }

    /// Whether a step that chooses among checkpoints is better than those before it. `is_saved` where its checkpoint is kept
    /// anyway, and `is_evaluated` where the model was asked.
    fn is_best(
        &mut self,
        step: usize,
        metrics: &BTreeMap<String, f64>,
        (is_saved, is_evaluated): (bool, bool),
    ) -> Result<bool, TrainError> {
        let Some(watch) = &mut self.best else { return Ok(false) };
        watch.note(metrics);
        let counts = if watch.is_evaluated() { is_evaluated } else { is_saved };
        if counts { watch.look(step, metrics) } else { Ok(false) }
    }

    fn evaluate<M: Policy<B>>(
        &mut self,
        step: usize,
        model: &M,
        metrics: &mut BTreeMap<String, f64>,
    ) -> Result<(), TrainError> {
        let Some(evaluator) = self.evaluator else { return Ok(()) };
        let label = format!("{}-step-{step:06}", self.stage.name);
        let limit = evaluator.settings.limit_during_training;
        let results =
            evaluator.run(&label, limit, || Ok(model.valid()), self.device).map_err(observer_error)?;
        for result in results {
            for (name, value) in result.official.headlines() {
                metrics.insert(format!("eval/{}/{name}", result.split), value);
            }
        }
        Ok(())
    }
}

impl<B: AutodiffBackend, M: Policy<B>> Observer<B, M> for RunObserver<'_, B> {
    fn on_step(
        &mut self,
        report: &StepReport<'_>,
        model: &M,
        learner: &Learner<B, M>,
    ) -> Result<Flow, TrainError> {
        let trainer = &self.stage.trainer;
        let (step, last) = (report.step, report.step == trainer.max_steps);
        let at = Position { stage: self.stage_index, step };
        self.stream_state = report.stream_state.clone();
        self.source_state = report.source_state.clone();
        self.log_rollouts(at, report)?;
        let mut metrics = report.metrics.clone();
        // After the last step the whole splits are evaluated; a choice by evaluations needs the same records of every step.
        let is_choice = self.best.as_ref().is_some_and(BestWatch::is_evaluated);
        let is_evaluated =
            trainer.eval_steps > 0 && (if last { is_choice } else { step % trainer.eval_steps == 0 });
        if is_evaluated {
            self.evaluate(step, model, &mut metrics)?;
        }
        if step % trainer.logging_steps == 0 || last {
            if let Some(stats) = self.judge.as_ref().and_then(|judge| judge.stats()) {
                let done = stats.since(&self.judged);
                metrics.extend(done.map(|(name, value)| (name.to_owned(), value)));
                self.judged = stats;
            }
            let held = [("rss", resident_bytes()), ("peak_rss", peak_resident_bytes())];
            let told = held.into_iter().filter_map(|(name, bytes)| Some((name, bytes? as f64 / MIB)));
            metrics.extend(told.map(|(name, held)| (format!("perf/{name}_mib"), held)));
            if self.alarm(step, &mut metrics) {
                self.alarmed = Some(step);
            }
            self.metrics.append(at, &metrics).map_err(observer_error)?;
            self.events.append(step, &metrics).map_err(observer_error)?;
            dashboard::tell(|board| board.log(step, &metrics));
        }
        let shown = match metrics.get("reward") {
            Some(reward) => format!("reward {reward:.3}"),
            None => format!("loss {:.4}", metrics.get("loss").copied().unwrap_or_default()),
        };
        dashboard::tell(|board| board.show(sample(report)));
        self.progress.message(shown);
        self.progress.set(step);

        let interrupted = self.stop.load(Ordering::Relaxed);
        let alarmed = self.alarmed.is_some();
        let is_saved = last || (trainer.save_steps > 0 && step % trainer.save_steps == 0);
        let is_best = self.is_best(step, &metrics, (is_saved, is_evaluated))?;
        if is_saved || is_best || interrupted || alarmed {
            self.save(step, model, learner)?;
        }
        self.stopped = interrupted && !last;
        Ok(if self.stopped || alarmed { Flow::Stop } else { Flow::Continue })
    }

    fn on_failure(
        &mut self,
        failed: &FailedStep<'_>,
        model: &M,
        learner: &Learner<B, M>,
    ) -> Result<Option<PathBuf>, TrainError> {
        for group in failed.groups {
            tracing::error!("the failed step held {}", group.prepared.origin);
        }
        // Before a stage's first step there is nothing to go on from but the stage's start.
        if failed.done > 0 && failed.iteration == 0 {
            self.save(failed.done, model, learner)?;
        }
        if failed.groups.is_empty() {
            return Ok(None);
        }
        let kept = failure::write(self.run, (self.stage_index, &self.stage.name), failed);
        // What stopped the run is told all the same.
        Ok(kept.inspect_err(|error| tracing::error!("the failed batch cannot be kept: {error:#}")).ok())
    }
}

/// One completion of a step, another place in the batch each time.
fn sample(report: &StepReport<'_>) -> Option<Sample> {
    let group = report.groups.get(report.step % report.groups.len().max(1))?;
    let completion = group.completions.get(report.step % group.completions.len().max(1))?;
    let sample = &group.prepared.sample;
    let place = format!("{}/{}, {}", sample.task.key(), sample.source, group.prepared.origin);
    Some(Sample {
        title: format!("step {}, {place}", report.step),
        text: completion.text.clone(),
        reward: completion.reward(),
    })
}

fn observer_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Observer(format!("{error:#}"))
}
