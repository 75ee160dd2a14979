//! The stages of a run on one device, from wherever the last checkpoint left off.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result};
use burn::{module::AutodiffModule, tensor::backend::AutodiffBackend};
use medgrpo_datasets::TaskKind;
use medgrpo_model::{
    checkpoint::{CheckpointSource, save_into},
    generation_config::read_stop_ids,
    group_gradients::Kept,
    lora::Adaptable,
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig},
    weights::SavePrecision,
};
use medgrpo_trainers::{
    checkpoint::{ADAPTER, TrainState},
    feeder::Feeder,
    learner::Learner,
    predict::stop_ids,
    seed::derive_seed,
    trainer::{LoopConfig, Stage},
    workers::Workers,
};

use super::{
    BASE_LABEL, CONSTANT_LABEL,
    best::{self, BestWatch},
    checkpoints::newest,
    evaluation::{Evaluator, SplitResult},
    observer::RunObserver,
    scoring::StageStart,
    stage_model::{StageModels, adapted_layers},
    start_model::StartModel,
    summary,
};
use crate::{
    alarms::{Alarmed, Alarms},
    archive::{ARCHIVE_FILE, Archive},
    build::{self, DataFile, EvalSplit, MixtureStream, Scoring, seed_of_stage},
    config::resolved::{Experiment, OnBadRow},
    dashboard,
    device::Job,
    environment::Environment,
    events::EventFile,
    pretrained::{check_rollouts, precision},
    progress::Progress,
    report::History,
    run_dir::{METRICS_FILE, Position, ROLLOUTS_FILE, RunDir, write_folder},
    stop,
};

/// Copies the files of one folder into another.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let copy = to.join(path.file_name().expect("an entry has a name"));
        std::fs::copy(&path, &copy).with_context(|| copy.display().to_string())?;
        File::open(&copy)?.sync_all()?;
    }
    Ok(())
}

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
        let precision = precision::<B::InnerBackend>(experiment.bf16, device)?;
        let policies = experiment.stages.iter().filter_map(|stage| stage.recipe.on_policy());
        check_rollouts::<B::InnerBackend>(policies, device)?;
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
        adapted_layers::<B::InnerBackend>(experiment, &Qwen25VlConfig::from_dir(&start.dir())?, device)?;
        best::check_records(experiment, &self.eval)?;
        // Whatever is wrong with the data is known by now: a run that is refused leaves no run behind.
        self.run_dir.claim(experiment, &self.environment)?;
        let start_dir = start.keep()?;
        let models = StageModels {
            experiment,
            start: start_dir.clone(),
            checkpoints: self.run_dir.checkpoints(),
            precision,
        };
        let source = CheckpointSource::open(&start_dir)?;
        let resumed = newest(&models.checkpoints)?;
        let state = resumed.as_ref().map(|(_, state)| state);
        let mut model: Qwen25Vl<B> = match &resumed {
            Some((dir, state)) => models.at(dir, state, device)?,
            None => models.start_of(0, device)?,
        };
        let position = state.map_or(Position { stage: 0, step: 0 }, |state| Position {
            stage: state.stage_index,
            step: state.step,
        });
        let mut metrics = self.run_dir.log(METRICS_FILE, position)?;
        let mut rollouts = self.run_dir.log(ROLLOUTS_FILE, position)?;
        let mut archive = Archive::open(self.run_dir.path().join(ARCHIVE_FILE), position)?;

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
            columns.push((CONSTANT_LABEL.to_owned(), evaluator.baseline(&self.train, limit)?));
            if evaluator.settings.before {
                let base = || models.load::<B::InnerBackend>(&start_dir, device);
                columns.push((BASE_LABEL.to_owned(), evaluator.run(BASE_LABEL, limit, base, device)?));
            }
        }

        for (index, stage) in experiment.stages.iter().enumerate() {
            let done = match state {
                Some(state) if state.stage_index > index => stage.trainer.max_steps,
                Some(state) if state.stage_index == index => state.step,
                _ => 0,
            };
            if done < stage.trainer.max_steps {
                let resumed = resumed.as_ref().filter(|(_, state)| state.stage_index == index);
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
                if done == 0 {
                    // Of a start that came to nothing, perhaps with another model.
                    models.forget_features(index)?;
                }
                let store = models.vision_store(index)?;
                model = models.learning(model, index, resumed.is_some())?.with_vision_store(store);
                let mut running = self.stage(&begin, scoring, (&models, &model), resumed, device)?;
                self.show(index)?;
                let progress = Progress::start(&stage.name, stage.trainer.max_steps, "steps");
                progress.resume_at(done);
                let found = resumed.and_then(|(_, state)| state.best.clone());
                let mut observer = RunObserver::<B> {
                    experiment,
                    run: self.run_dir.path(),
                    best: BestWatch::new(&stage.trainer, found, done),
                    stage_index: index,
                    stage,
                    metrics: &mut metrics,
                    rollouts: &mut rollouts,
                    archive: &mut archive,
                    events: EventFile::open(&self.run_dir.tensorboard(index, &stage.name), done)?,
                    checkpoints: models.checkpoints.clone(),
                    source: &source,
                    base_name: models.base_name(index),
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
                    alarms: self.alarms(&begin)?,
                    alarmed: None,
                };
                model = running.run(model, done, &mut observer)?;
                let (stopped, alarmed) = (observer.stopped, observer.alarmed);
                observer.progress.finish();
                if let Some(step) = alarmed {
                    summary::write(experiment, self.run_dir, &self.eval, &columns)?;
                    let run = self.run_dir.path().display().to_string();
                    return Err(Alarmed { stage: stage.name.clone(), step, run }.into());
                }
                if stopped {
                    return self.told_to_stop();
                }
                model = model.merged().with_vision_store(None);
            }
            models.forget_features(index)?;
            if let Some(evaluator) = &evaluator {
                let limit = evaluator.settings.limit;
                let trained = || match state {
                    // The model at hand is of a later stage.
                    Some(state) if state.stage_index > index => {
                        models.load_whole(&models.end_of(index), device)
                    }
                    _ => Ok(model.valid()),
                };
                columns.push((stage.name.clone(), evaluator.run(&stage.name, limit, trained, device)?));
            }
        }
        self.keep("model", |dir| Ok(save_into(&model, &source, SavePrecision::AsLoaded, dir)?))?;
        if let Some(adapter) = models.last_adapter() {
            self.keep(ADAPTER, |dir| copy_files(&adapter, dir))?;
        }
        summary::write(experiment, self.run_dir, &self.eval, &columns)
    }
}

impl TrainJob<'_> {
    /// Fills a folder of the run all or not at all, unless it is there.
    fn keep(&self, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let place = self.run_dir.path().join(name);
        if place.exists() {
            return Ok(());
        }
        write_folder(&place, fill)
    }

    /// Puts a stage on the dashboard, if there is one, with what it has logged.
    fn show(&self, index: usize) -> Result<()> {
        let mut history = History::read(&self.run_dir.path().join(METRICS_FILE))?;
        let logged = history.stages.remove(&index).unwrap_or_default();
        let stages = &self.experiment.stages;
        dashboard::tell(|board| board.begin_stage(index, stages.len(), &stages[index].name, logged));
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "what a job that stops returns")]
    fn told_to_stop(&self) -> Result<()> {
        crate::print(&format!(
            "stopped; go on with `medgrpo train --resume {}`",
            self.run_dir.path().display()
        ));
        Ok(())
    }

    /// The watch over a stage that learns from rewards, after a look at what it has logged.
    fn alarms(&self, begin: &StageStart<'_>) -> Result<Option<Alarms>> {
        if begin.stage.recipe.on_policy().is_none() {
            return Ok(None);
        }
        let mut alarms = Alarms::new(self.experiment.alarms);
        let history = History::read(&self.run_dir.path().join(METRICS_FILE))?;
        if let Some(logged) = history.stages.get(&begin.index) {
            // They were told when they were new.
            alarms.look_back(logged);
        }
        Ok(Some(alarms))
    }

    fn stage<'d, B: AutodiffBackend>(
        &self,
        begin: &StageStart<'_>,
        scoring: Option<Scoring>,
        (models, model): (&StageModels<'_>, &Qwen25Vl<B>),
        resumed: Option<&(PathBuf, TrainState)>,
        device: &'d B::Device,
    ) -> Result<Stage<'d, B, Qwen25Vl<B>>> {
        let &StageStart { index, stage, preparer, stop_ids, .. } = begin;
        let seed = seed_of_stage(self.experiment.seed, index);
        let mut recipe =
            build::recipe::<B, Qwen25Vl<B>>(stage, scoring, &preparer.processor, stop_ids, &self.workers);
        if let Some((_, state)) = resumed {
            recipe.source.restore(&state.source)?;
        }
        let reference =
            recipe.needs_reference().then(|| models.reference(model, index, device)).transpose()?;
        let mut learner = Learner::new(build::learner_config(&stage.trainer));
        if let Some((dir, _)) = resumed {
            learner = learner.load(dir, device)?;
        }
        let order_seed = derive_seed(seed, "order", 0);
        let stream = MixtureStream::new(
            &self.train,
            &stage.data.tasks,
            self.experiment.data.questions_per_clip,
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
            micro_batch: build::micro_batch(&stage.trainer),
            seed,
            kept: match stage.trainer.gradient_checkpointing {
                true => Kept::LayerInputs,
                false => Kept::Activations,
            },
        };
        Ok(Stage { recipe, reference, learner, feeder, config, workers: Arc::clone(&self.workers), device })
    }
}
