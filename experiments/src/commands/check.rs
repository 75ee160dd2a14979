//! `medgrpo check`: everything that can be found wrong with an experiment in seconds, without loading weights.

use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_datasets::{Dataset, MedVidBenchFile, TaskKind, medvidbench::MediaCheck};
use medgrpo_model::{qwen2_5_vl::Qwen25VlConfig, weights::CheckpointLayout};
use medgrpo_trainers::prepare::SamplePreparer;

use crate::{
    build::{self, Counted, MAX_TOLD},
    cli::CheckArgs,
    config::{
        self,
        resolved::{Experiment, ModelSource, OnBadRow, Stage},
    },
    device::{Job, run_on_cpu},
    print,
    train::{adapted_layers, check_records},
};

/// Token counts are taken of at most this many rows of a file, spread evenly.
const MAX_COUNTED_ROWS: usize = 2_000;

pub(super) fn run(args: &CheckArgs) -> Result<()> {
    let experiment = config::load(&args.config, &args.overrides)?;
    print(&format!("{}: the config is valid", args.config.display()));
    let preparer = match &experiment.model {
        ModelSource::Path(dir) => Some(check_model(&experiment, dir)?),
        ModelSource::Init(_) => {
            print("model: made from nothing; tokens can be counted once its tokenizer is trained");
            None
        }
    };
    let files = experiment.data.train.iter().map(|file| (&file.file, &file.root));
    let files = files.chain(experiment.data.eval.iter().map(|file| (&file.file, &file.root)));
    let mut num_problems = 0;
    for (file, root) in files {
        if experiment.practice.is_some() && !file.exists() {
            print(&format!("{}: not there yet; the practice set will be rendered", file.display()));
            continue;
        }
        num_problems += check_file(file, root, preparer.as_ref())?;
    }
    forecast_judges(&experiment)?;
    // A file with bad rows is told of below.
    let has_best = experiment.stages.iter().any(|stage| stage.trainer.metric_for_best_model.is_some());
    if has_best && num_problems == 0 && experiment.data.eval.iter().all(|file| file.file.exists()) {
        check_records(&experiment, &build::open_eval(&experiment)?)?;
    }
    match (num_problems, experiment.data.on_bad_row) {
        (0, _) => Ok(()),
        (_, OnBadRow::Skip) => {
            print(&format!("{num_problems} bad rows will be left out (data.on_bad_row = \"skip\")"));
            Ok(())
        }
        (_, OnBadRow::Error) => {
            bail!("{num_problems} bad rows; mend them or set `data.on_bad_row = \"skip\"`")
        }
    }
}

/// Tells what the judges of the stages will be asked, where the records are there to count.
fn forecast_judges(experiment: &Experiment) -> Result<()> {
    if experiment.data.train.iter().any(|file| !file.file.exists()) {
        return Ok(());
    }
    let has_forecast = |stage: &&Stage| build::forecast(stage, 0.0).is_some();
    for stage in experiment.stages.iter().filter(has_forecast) {
        let rewards = &stage.recipe.on_policy().expect("it has a judge").rewards;
        let files = build::open_train(experiment)?;
        let rows = |tasks: &[TaskKind]| files.iter().map(|file| file.places(tasks).len()).sum::<usize>();
        let tasks = &stage.data.tasks;
        let judged: Vec<TaskKind> =
            tasks.iter().copied().filter(|&task| build::needs(rewards, task).1).collect();
        let share = rows(&judged) as f64 / rows(tasks).max(1) as f64;
        let Some(forecast) = build::forecast(stage, share) else { continue };
        let spend = forecast.spend.map_or_else(
            || "no price is given".to_owned(),
            |spend| format!("{spend:.2} in the currency of its prices"),
        );
        print(&format!(
            "stage \"{}\": the judge is asked about {} completions at most, {:.1} M prompt and {:.1} M completion tokens: \
             {spend}",
            stage.name,
            forecast.num_judgements,
            forecast.prompt_tokens as f64 / 1e6,
            forecast.completion_tokens as f64 / 1e6,
        ));
    }
    Ok(())
}

fn check_model(experiment: &Experiment, dir: &Path) -> Result<SamplePreparer> {
    let config = Qwen25VlConfig::from_dir(dir)?;
    let layout = CheckpointLayout::read(dir)?;
    let num_parameters: usize =
        layout.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    print(&format!(
        "{}: Qwen2.5-VL, {:.1} M parameters in {} tensors, {} layers of width {}",
        dir.display(),
        num_parameters as f64 / 1e6,
        layout.tensors.len(),
        config.text.num_hidden_layers,
        config.text.hidden_size
    ));
    run_on_cpu(CheckAdapters { experiment, dir })?;
    build::preparer(experiment, dir)
}

/// Tells of the adapter of each stage, on a model without weights.
struct CheckAdapters<'a> {
    experiment: &'a Experiment,
    dir: &'a Path,
}

impl Job for CheckAdapters<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let stages = adapted_layers::<B::InnerBackend>(self.experiment, self.dir, device)?;
        for (stage, layers) in self.experiment.stages.iter().zip(stages) {
            let (Some(lora), Some(layers)) = (&stage.lora, layers) else { continue };
            let num_parameters: usize =
                layers.values().map(|[input, output]| lora.r * (input + output)).sum();
            print(&format!(
                "stage \"{}\": an adapter of rank {} on {} layers, {:.2} M parameters",
                stage.name,
                lora.r,
                layers.len(),
                num_parameters as f64 / 1e6
            ));
        }
        Ok(())
    }
}

/// Tells of every bad row; returns their number.
fn check_file(path: &Path, root: &Path, preparer: Option<&SamplePreparer>) -> Result<usize> {
    let file = MedVidBenchFile::open(path, root)?;
    let problems = file.check(MediaCheck::Headers);
    for problem in problems.iter().take(MAX_TOLD) {
        print(&format!("{}, row {}: {}", path.display(), problem.row, problem.reason));
    }
    if problems.len() > MAX_TOLD {
        print(&format!(
            "… and {} more; `medgrpo data check {}` lists all",
            problems.len() - MAX_TOLD,
            path.display()
        ));
    }
    let mut num_problems = problems.len();
    print(&format!("{}: {} rows, {} bad", path.display(), file.len(), problems.len()));
    if let Some(preparer) = preparer {
        num_problems += count_tokens(&file, preparer);
    }
    Ok(num_problems)
}

/// Counts prompt tokens; returns the number of rows that are too long or cannot be counted.
fn count_tokens(file: &MedVidBenchFile, preparer: &SamplePreparer) -> usize {
    let count = file.len().min(MAX_COUNTED_ROWS);
    let rows: Vec<usize> = (0..count).map(|number| number * file.len() / count).collect();
    let Counted { tokens, problems } = build::count_prompts(file, &rows, preparer);
    if let (Some(median), Some(max)) = (tokens.get(tokens.len() / 2), tokens.last()) {
        print(&format!("  prompt tokens over {} rows: median {median}, longest {max}", tokens.len()));
    }
    for problem in problems.iter().take(MAX_TOLD) {
        print(&format!("  {}, row {}: {}", file.path().display(), problem.row, problem.reason));
    }
    problems.len()
}
