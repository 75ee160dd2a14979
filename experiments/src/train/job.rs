//! The stages of a run on one device, from wherever the last checkpoint left off.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use burn::{
    module::AutodiffModule,
    tensor::backend::{AutodiffBackend, Backend},
};
use medgrpo_datasets::TaskKind;
use medgrpo_model::{
    checkpoint::{CheckpointSource, Pretrained, save_into},
    generation_config::read_stop_ids,
    group_gradients::Kept,
    qwen2_5_vl::Qwen25Vl,
    vlm::Vlm,
    weights::SavePrecision,
};
use medgrpo_trainers::{
    checkpoint::{TrainState, load_state},
    feeder::Feeder,
    learner::Learner,
    predict::stop_ids,
    seed::derive_seed,
    trainer::{LoopConfig, Stage},
    workers::Workers,
};

use super::{
    checkpoints::{checkpoint_dir, newest},
    evaluation::{Evaluator, SplitResult},
    observer::RunObserver,
    scoring::StageStart,
    start_model::StartModel,
    summary,
};
use crate::{
    build::{self, DataFile, EvalSplit, MixtureStream, Scoring, seed_of_stage},
    config::resolved::{Experiment, OnBadRow},
    device::Job,
    environment::Environment,
    progress::Progress,
    run_dir::{METRICS_FILE, Position, ROLLOUTS_FILE, RunDir},
    stop,
};

/// The label of the model before any stage.
const BASE: &str = "base";

/// A run, with its data open.
pub(super) struct TrainJob<'a> {
    pub(super) experiment: &'a Experiment,
    pub(super) run_dir: &'a RunDir,
    pub(super) train: Arc<Vec<DataFile>>,
    eval: Vec<EvalSplit>,
    pub(super) workers: Arc<Workers>,
    environment: Environment,
    pub(super) stop: Arc<AtomicBool>,
}

impl<'a> TrainJob<'a> {
    /// Opens the data; from here on Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.
    pub(super) fn new(
        experiment: &'a Experiment,
        run_dir: &'a RunDir,
        workers: Workers,
        environment: Environment,
    ) -> Result<Self> {
        let stop = stop::on_signal()?;
        Ok(Self {
            experiment,
            run_dir,
            train: Arc::new(build::open_train(experiment)?),
            eval: build::open_eval(experiment)?,
            workers: Arc::new(workers),
            environment,
            stop,
        })
    }
}

impl Job for TrainJob<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(mut self, device: &B::Device) -> Result<()> {
        let experiment = self.experiment;
        let start = StartModel::new::<B::InnerBackend>(experiment, self.run_dir, &self.train, device)?;
        let preparer = build::preparer(experiment, &start.dir())?;
        let on_bad_row = experiment.data.on_bad_row;
        let trained: Vec<TaskKind> =
            experiment.stages.iter().flat_map(|stage| stage.data.tasks.iter().copied()).collect();
        for file in Arc::get_mut(&mut self.train).expect("no stage has begun") {
            file.keep_what_fits(&trained, &preparer, on_bad_row)?;
        }
        for split in &mut self.eval {
            let tasks = split.file.tasks.clone();
            split.file.keep_what_fits(&tasks, &preparer, on_bad_row)?;
        }
        // Whatever is wrong with the data is known by now: a run that is refused leaves no run behind.
        self.run_dir.claim(experiment, &self.environment)?;
        let start_dir = start.keep()?;
        let source = CheckpointSource::open(&start_dir)?;
        let checkpoints = self.run_dir.checkpoints();
        let resumed = newest(&checkpoints)?;
        let (model_dir, state) = match resumed {
            Some((dir, state)) => (dir, Some(state)),
            None => (start_dir.clone(), None),
        };
        let (mut model, _) = Qwen25Vl::<B>::from_dir(&model_dir, device)?;
        let position = state.as_ref().map_or(Position { stage: 0, step: 0 }, |state| Position {
            stage: state.stage_index,
            step: state.step,
        });
        let mut metrics = self.run_dir.log(METRICS_FILE, position)?;
        let mut rollouts = self.run_dir.log(ROLLOUTS_FILE, position)?;

        let evaluator = experiment.evaluate.as_ref().map(|settings| Evaluator {
            splits: &self.eval,
            settings,
            preparer: &preparer,
            workers: &self.workers,
            predictions: self.run_dir.predictions(),
        });
        let mut columns: Vec<(String, Vec<SplitResult>)> = Vec::new();
        if let Some(evaluator) = &evaluator {
            let limit = evaluator.settings.limit;
            columns.push(("constant".to_owned(), evaluator.baseline(&self.train, limit)?));
            if evaluator.settings.before {
                let base = || Ok(Qwen25Vl::<B::InnerBackend>::from_dir(&start_dir, device)?.0);
                columns.push((BASE.to_owned(), evaluator.run(BASE, limit, base, device)?));
            }
        }

        let last_checkpoint = |index: usize| {
            let stage = &experiment.stages[index];
            checkpoint_dir(&checkpoints, index, &stage.name, stage.trainer.max_steps)
        };
        for (index, stage) in experiment.stages.iter().enumerate() {
            let done = match &state {
                Some(state) if state.stage_index > index => stage.trainer.max_steps,
                Some(state) if state.stage_index == index => state.step,
                _ => 0,
            };
            if done < stage.trainer.max_steps {
                let reference_dir = index.checked_sub(1).map_or(start_dir.clone(), last_checkpoint);
                let resumed = state
                    .as_ref()
                    .filter(|state| state.stage_index == index)
                    .map(|state| (&model_dir, state));
                let stop_ids = match read_stop_ids(&start_dir)? {
                    Some(ids) => ids,
                    None => stop_ids(preparer.processor.tokenizer()),
                };
                let begin = StageStart { index, stage, done, preparer: &preparer, stop_ids: &stop_ids };
                let scoring = match stage.recipe.on_policy() {
                    None => None,
                    Some(grpo) => match self.scoring(&begin, grpo, || model.valid(), device)? {
                        Some(scoring) => Some(scoring),
                        None => return self.told_to_stop(),
                    },
                };
                let judge = scoring.as_ref().and_then(|scoring| scoring.judge.clone());
                let mut running = self.stage::<B>(&begin, scoring, &reference_dir, resumed, device)?;
                let progress = Progress::start(&stage.name, stage.trainer.max_steps, "steps");
                progress.resume_at(done);
                let mut observer = RunObserver::<B> {
                    stage_index: index,
                    stage,
                    metrics: &mut metrics,
                    rollouts: &mut rollouts,
                    checkpoints: checkpoints.clone(),
                    source: &source,
                    evaluator: evaluator.as_ref(),
                    progress,
                    stop: Arc::clone(&self.stop),
                    device,
                    saved: done,
                    judged: judge.as_ref().and_then(|judge| judge.stats()).unwrap_or_default(),
                    judge,
                    stream_state: resumed.map_or(serde_json::Value::Null, |(_, state)| state.stream.clone()),
                    source_state: running.recipe.source.state(),
                    stopped: false,
                };
                model = running.run(
                    model.with_vision_trainable(!stage.trainer.freeze_vision_tower),
                    done,
                    &mut observer,
                )?;
                let stopped = observer.stopped;
                observer.progress.finish();
                if stopped {
                    return self.told_to_stop();
                }
            }
            if let Some(evaluator) = &evaluator {
                let limit = evaluator.settings.limit;
                let trained = || match &state {
                    // The model at hand is of a later stage.
                    Some(state) if state.stage_index > index => load_whole(&last_checkpoint(index), device),
                    _ => Ok(model.valid()),
                };
                columns.push((stage.name.clone(), evaluator.run(&stage.name, limit, trained, device)?));
            }
        }
        let final_dir = self.run_dir.path().join("model");
        if !final_dir.exists() {
            let temporary = tempfile::Builder::new().prefix(".tmp-model-").tempdir_in(self.run_dir.path())?;
            save_into(&model, &source, SavePrecision::AsLoaded, temporary.path())?;
            std::fs::rename(temporary.keep(), &final_dir).with_context(|| final_dir.display().to_string())?;
        }
        summary::write(experiment, self.run_dir, &self.eval, &columns)
    }
}

/// The model of a checkpoint, after comparing its files with their sums.
fn load_whole<B: Backend>(dir: &std::path::Path, device: &B::Device) -> Result<Qwen25Vl<B>> {
    load_state(dir)?;
    Ok(Qwen25Vl::from_dir(dir, device)?.0)
}

impl TrainJob<'_> {
    #[expect(clippy::unnecessary_wraps, reason = "what a job that stops returns")]
    fn told_to_stop(&self) -> Result<()> {
        crate::print(&format!(
            "stopped; go on with `medgrpo train --resume {}`",
            self.run_dir.path().display()
        ));
        Ok(())
    }

    fn stage<'d, B: AutodiffBackend>(
        &self,
        begin: &StageStart<'_>,
        scoring: Option<Scoring>,
        reference_dir: &std::path::Path,
        resumed: Option<(&PathBuf, &TrainState)>,
        device: &'d B::Device,
    ) -> Result<Stage<'d, B, Qwen25Vl<B>>> {
        let &StageStart { index, stage, preparer, stop_ids, .. } = begin;
        let seed = seed_of_stage(self.experiment.seed, index);
        let mut recipe =
            build::recipe::<B, Qwen25Vl<B>>(stage, scoring, &preparer.processor, stop_ids, &self.workers);
        if let Some((_, state)) = resumed {
            recipe.source.restore(&state.source)?;
        }
        let reference = match recipe.needs_reference() {
            true if index == 0 => Some(Qwen25Vl::<B::InnerBackend>::from_dir(reference_dir, device)?.0),
            true => Some(load_whole(reference_dir, device).context("the reference of this stage's KL term")?),
            false => None,
        };
        let mut learner = Learner::new(build::learner_config(&stage.trainer));
        if let Some((dir, _)) = resumed {
            learner = learner.load(dir, device)?;
        }
        let order_seed = derive_seed(seed, "order", 0);
        let stream = MixtureStream::new(
            &self.train,
            &stage.data.tasks,
            order_seed,
            resumed.map(|(_, state)| &state.stream),
        )?;
        let skip_bad = self.experiment.data.on_bad_row == OnBadRow::Skip;
        let feeder = Feeder::new(
            Box::new(stream),
            Arc::new(preparer.clone()),
            stage.trainer.num_prompts_per_step,
            skip_bad,
        );
        let config = LoopConfig {
            max_steps: stage.trainer.max_steps,
            micro_batch_size: stage.trainer.micro_batch_size,
            seed,
            kept: Kept::Activations,
        };
        Ok(Stage { recipe, reference, learner, feeder, config, workers: Arc::clone(&self.workers), device })
    }
}
