//! `medgrpo calibrate`: the table of a model's rewards, before it is trained on them.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{
    checkpoint::Pretrained as _, generation_config::read_stop_ids, qwen2_5_vl::Qwen25Vl, vlm::Vlm as _,
};
use medgrpo_trainers::{predict::stop_ids, workers::Workers};

use crate::{
    build::{self, DataFile, seed_of_stage},
    calibrate::{self, Calibrator, Measured},
    cli::CalibrateArgs,
    config::{
        self,
        resolved::{Experiment, ModelSource, Policy, rewards::Calibration},
    },
    device::{Job, run_on, use_threads, workers},
    pretrained::{check_rollouts, precision},
};

pub(super) fn run(args: &CalibrateArgs) -> Result<()> {
    use_threads(args.device.threads)?;
    let workers = Arc::new(workers(&args.device)?);
    let experiment = config::load(&args.config, &args.overrides)?;
    let (stage, grpo, settings) = chosen_stage(&experiment, args)?;
    let (name, measured) = match &args.rollouts {
        Some(path) => (path.display().to_string(), calibrate::from_rollouts(path, &grpo.rewards)?),
        None => {
            let job = CalibrateJob { args, experiment: &experiment, stage, grpo, settings, workers };
            run_on(args.device.device, job)?
        }
    };
    let normaliser = |table| build::normaliser(&grpo.rewards.normalization, Some(table));
    calibrate::write(&args.out, &name, &measured, settings.min_count, normaliser)?;
    let picture = args.out.with_extension("svg");
    crate::print(&format!("table: {}, picture: {}", args.out.display(), picture.display()));
    Ok(())
}

/// The stage to calibrate for: the named one, or the first whose normalization needs a table.
fn chosen_stage<'a>(
    experiment: &'a Experiment,
    args: &CalibrateArgs,
) -> Result<(usize, &'a Policy, &'a Calibration)> {
    let mut stages = experiment.stages.iter().enumerate().filter_map(|(index, stage)| {
        let grpo = stage.recipe.on_policy()?;
        Some((index, &stage.name, grpo, grpo.rewards.normalization.calibration()?))
    });
    let found = match &args.stage {
        Some(name) => stages.find(|(_, stage, ..)| *stage == name),
        None => stages.next(),
    };
    let (index, _, grpo, settings) = found.with_context(|| {
        let which = args.stage.as_ref().map_or("no stage".to_owned(), |name| format!("no stage \"{name}\""));
        format!(
            "{}: there is {which} with a normalization that is calibrated; give one \
             normalization = {{ type = \"median_logistic\" }}",
            args.config.display()
        )
    })?;
    Ok((index, grpo, settings))
}

struct CalibrateJob<'a> {
    args: &'a CalibrateArgs,
    experiment: &'a Experiment,
    stage: usize,
    grpo: &'a Policy,
    settings: &'a Calibration,
    workers: Arc<Workers>,
}

impl CalibrateJob<'_> {
    /// The records of the named split, or those to train on.
    fn files(&self) -> Result<Vec<DataFile>> {
        let Some(name) = &self.args.split else { return build::open_train(self.experiment) };
        let splits = build::open_eval(self.experiment)?;
        let known: Vec<String> = splits.iter().map(|split| split.name.clone()).collect();
        match splits.into_iter().find(|split| split.name == *name) {
            Some(split) => Ok(vec![split.file]),
            None => bail!("there is no split \"{name}\" to calibrate on; there are {}", known.join(", ")),
        }
    }
}

impl Job for CalibrateJob<'_> {
    type Output = (String, Measured);

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Self::Output> {
        let dir = match (&self.args.model, &self.experiment.model) {
            (Some(dir), _) | (None, ModelSource::Path(dir)) => dir.clone(),
            (None, ModelSource::Init(_)) => {
                bail!("the experiment makes its model from nothing; name the one to calibrate with --model")
            }
        };
        let preparer = build::preparer(self.experiment, &dir)?;
        let tasks = &self.experiment.stages[self.stage].data.tasks;
        let mut files = self.files()?;
        for file in &mut files {
            file.keep_what_fits(tasks, &preparer, self.experiment.data.on_bad_row)?;
        }
        let stop_ids = match read_stop_ids(&dir)? {
            Some(ids) => ids,
            None => stop_ids(preparer.processor.tokenizer()),
        };
        let folder = self.args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(std::path::Path::new("."));
        let experts = build::open_experts(&self.grpo.rewards, tasks, folder)?;
        let precision = precision::<B::InnerBackend>(self.experiment.bf16, device)?;
        check_rollouts::<B::InnerBackend>([self.grpo], device)?;
        let model = Qwen25Vl::<B::InnerBackend>::from_dir(&dir, device)?.0.with_precision(precision);
        let calibrator = Calibrator {
            files: &files,
            tasks,
            grpo: self.grpo,
            settings: self.settings,
            experts: &experts,
            preparer: &preparer,
            stop_ids: &stop_ids,
            workers: &self.workers,
            seed: seed_of_stage(self.experiment.seed, self.stage),
            stop: &AtomicBool::new(false),
        };
        let measured = calibrator.run::<B::InnerBackend, _>(&model, device)?;
        Ok((dir.display().to_string(), measured.context("nobody asked it to stop")?))
    }
}
