//! `medgrpo train`: an experiment from its file to a trained checkpoint, predictions and a page to look at.

mod best;
mod checkpoints;
mod evaluation;
mod failure;
mod job;
mod observer;
mod scoring;
mod stage_model;
mod start_model;
mod summary;

pub(crate) use best::check_records;
pub(crate) use stage_model::{AdaptedLayers, adapted_layers};

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use medgrpo_datasets::synth::{SynthConfig, render};

use crate::{
    cli::TrainArgs,
    config::{self, resolved::Experiment},
    dashboard::Dashboard,
    device::{run_on, use_threads, workers},
    environment::Environment,
    progress::Progress,
    run_dir::{CONFIG_FILE, RunDir},
};

/// What evaluations call the model before any stage.
pub(crate) const BASE_LABEL: &str = "base";
/// What they call the best constant answers of the training records.
pub(crate) const CONSTANT_LABEL: &str = "constant";

/// Runs or resumes an experiment.
pub(crate) fn run(args: &TrainArgs) -> Result<()> {
    use_threads(args.device.threads)?;
    let workers = workers(&args.device)?;
    let (experiment, run_dir) = match (&args.config, &args.resume) {
        (Some(path), _) => start(path, args)?,
        (None, Some(dir)) => {
            let run_dir = RunDir::resume(dir)?;
            let experiment =
                config::load(&dir.join(CONFIG_FILE), &[]).context("the run directory's own config")?;
            (experiment, run_dir)
        }
        (None, None) => unreachable!("the command line asks for one of the two"),
    };
    let environment = Environment::collect(&args.device.device.to_string());
    render_practice_set(&experiment)?;
    let job = job::TrainJob::new(&experiment, &run_dir, workers, environment)?;
    let dashboard = match args.dashboard {
        true => Dashboard::start(run_dir.path(), Arc::clone(&job.stop))?,
        false => None,
    };
    run_on(args.device.device, job)?;
    // It gives the terminal back, on errors above as well.
    drop(dashboard);
    crate::print(&format!("run directory: {}", run_dir.path().display()));
    Ok(())
}

fn start(path: &Path, args: &TrainArgs) -> Result<(Experiment, RunDir)> {
    let mut experiment = config::load(path, &args.overrides)?;
    if let Some(out) = &args.out {
        experiment.out.clone_from(out);
    }
    let run_dir = RunDir::create(&experiment.out)?;
    Ok((experiment, run_dir))
}

/// Renders the practice set that the experiment asks for, unless it is there.
pub(crate) fn render_practice_set(experiment: &Experiment) -> Result<()> {
    let Some(practice) = &experiment.practice else { return Ok(()) };
    let progress = Progress::start("render practice set", practice.clips, "clips");
    let config = SynthConfig { out_dir: practice.out.clone(), seed: practice.seed, clips: practice.clips };
    render(&config, &|done, _| progress.set(done))?;
    progress.finish();
    Ok(())
}
