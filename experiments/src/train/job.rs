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
    qwen2_5_vl::Qwen25Vl,
    vlm::Vlm,
    weights::SavePrecision,
};
use medgrpo_trainers::{
    checkpoint::{TrainState, load_state},
    feeder::Feeder,
    learner::Learner,
    predict::stop_ids,
    prepare::SamplePreparer,
    seed::derive_seed,
    trainer::{LoopConfig, Stage},
    workers::Workers,
};

use super::{
    checkpoints::{checkpoint_dir, newest},
    evaluation::{Evaluator, SplitResult},
    observer::RunObserver,
    summary,
};
use crate::{
    build::{self, DataFile, EvalSplit, MixtureStream},
    config::resolved::{self, Experiment, ModelSource, OnBadRow},
    device::Job,
    progress::Progress,
    run_dir::{METRICS_FILE, Position, ROLLOUTS_FILE, RunDir},
    stop,
};

/// The label of the model before any stage.
const BASE: &str = "base";

/// A run, with its data open.
pub(super) struct TrainJob<'a> {
    experiment: &'a Experiment,
    run_dir: &'a RunDir,
    train: Arc<Vec<DataFile>>,
    eval: Vec<EvalSplit>,
    workers: Arc<Workers>,
    stop: Arc<AtomicBool>,
}

impl<'a> TrainJob<'a> {
    /// Opens the data; from here on Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint.
    pub(super) fn new(experiment: &'a Experiment, run_dir: &'a RunDir, workers: Workers) -> Result<Self> {
        let stop = stop::on_signal()?;
        Ok(Self {
            experiment,
            run_dir,
            train: Arc::new(build::open_train(experiment)?),
            eval: build::open_eval(experiment)?,
            workers: Arc::new(workers),
            stop,
        })
    }
}

impl Job for TrainJob<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(mut self, device: &B::Device) -> Result<()> {
        let experiment = self.experiment;
        let start_dir: PathBuf = match &experiment.model {
            ModelSource::Path(path) => path.clone(),
            ModelSource::Init(init) => {
                let dir = self.run_dir.path().join("model-init");
                if !dir.exists() {
                    build::init_model::<B::InnerBackend>(init, &self.train, experiment.seed, &dir, device)?;
                }
                dir
            }
        };
        let preparer = build::preparer(experiment, &start_dir)?;
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
                let mut running =
                    self.stage::<B>(index, stage, &preparer, &reference_dir, resumed, &start_dir, device)?;
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
                    stream_state: resumed.map_or(serde_json::Value::Null, |(_, state)| state.stream.clone()),
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
                    crate::print("stopped; go on with `medgrpo train --resume` and the run directory");
                    return Ok(());
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
    #[expect(clippy::too_many_arguments, reason = "the parts of one stage, put together here only")]
    fn stage<'d, B: AutodiffBackend>(
        &self,
        index: usize,
        stage: &resolved::Stage,
        preparer: &SamplePreparer,
        reference_dir: &std::path::Path,
        resumed: Option<(&PathBuf, &TrainState)>,
        start_dir: &std::path::Path,
        device: &'d B::Device,
    ) -> Result<Stage<'d, B, Qwen25Vl<B>>> {
        let seed = derive_seed(self.experiment.seed, "stage", index as u64);
        let processor = &preparer.processor;
        let stop_ids = match read_stop_ids(start_dir)? {
            Some(ids) => ids,
            None => stop_ids(processor.tokenizer()),
        };
        let recipe = build::recipe::<B, Qwen25Vl<B>>(stage, processor, &stop_ids, &self.workers);
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
        };
        Ok(Stage { recipe, reference, learner, feeder, config, workers: Arc::clone(&self.workers), device })
    }
}
