//! `medgrpo check`: everything that can be found wrong with an experiment in seconds, without loading weights.

mod memory;

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
    device::{Job, habits, num_workers, run_on_cpu, use_threads},
    print,
    train::{AdaptedLayers, adapted_layers, check_records},
};
use memory::{Lengths, Place};

/// Token counts are taken of at most this many rows of a file, spread evenly.
const MAX_COUNTED_ROWS: usize = 2_000;

pub(super) fn run(args: &CheckArgs) -> Result<()> {
    let experiment = config::load(&args.config, &args.overrides)?;
    use_threads(args.device.threads)?;
    print(&format!("{}: the config is valid", args.config.display()));
    let (model, preparer) = match &experiment.model {
        ModelSource::Path(dir) => (check_model(dir)?, Some(build::preparer(&experiment, dir)?)),
        ModelSource::Init(init) => {
            print("model: made from nothing; tokens can be counted once its tokenizer is trained");
            (build::planned(init)?, None)
        }
    };
    let adapters = run_on_cpu(CheckAdapters { experiment: &experiment, config: &model })?;
    let files = experiment.data.train.iter().map(|file| (&file.file, &file.root));
    let files = files.chain(experiment.data.eval.iter().map(|file| (&file.file, &file.root)));
    let (mut num_problems, mut longest) = (0, Longest::default());
    for (file, root) in files {
        if experiment.practice.is_some() && !file.exists() {
            print(&format!("{}: not there yet; the practice set will be rendered", file.display()));
            continue;
        }
        num_problems += check_file(file, root, preparer.as_ref(), &mut longest)?;
    }
    forecast_judges(&experiment)?;
    let place = Place {
        habits: habits(args.device.device),
        threads: rayon::current_num_threads(),
        workers: num_workers(&args.device)?,
        is_processor: args.device.device.takes_workers(),
    };
    let lengths = Lengths {
        prompt: longest.prompt.unwrap_or(experiment.data.max_prompt_tokens),
        answer: longest.answer,
    };
    memory::tell(&experiment, &model, &adapters, lengths, place);
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

fn check_model(dir: &Path) -> Result<Qwen25VlConfig> {
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
    Ok(config)
}

/// Tells of the adapter of each stage, on a model without weights.
struct CheckAdapters<'a> {
    experiment: &'a Experiment,
    config: &'a Qwen25VlConfig,
}

impl Job for CheckAdapters<'_> {
    type Output = Vec<Option<AdaptedLayers>>;

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Self::Output> {
        let stages = adapted_layers::<B::InnerBackend>(self.experiment, self.config, device)?;
        for (stage, layers) in self.experiment.stages.iter().zip(&stages) {
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
        Ok(stages)
    }
}

/// The most tokens that were counted, if any were.
#[derive(Default)]
struct Longest {
    prompt: Option<usize>,
    answer: Option<usize>,
}

/// Tells of every bad row; returns their number.
fn check_file(
    path: &Path,
    root: &Path,
    preparer: Option<&SamplePreparer>,
    longest: &mut Longest,
) -> Result<usize> {
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
    let summary = file.summary();
    let (num_clips, num_questions) = (summary.num_by_clip.len(), summary.num_by_clip.values().sum::<usize>());
    if num_clips > 0 {
        print(&format!(
            "  {num_clips} clips, {:.1} questions a clip",
            num_questions as f64 / num_clips as f64
        ));
    }
    let count = file.len().min(MAX_COUNTED_ROWS);
    let rows: Vec<usize> = (0..count).map(|number| number * file.len() / count).collect();
    longest.answer = longest.answer.max(longest_answer(&file, &rows, preparer));
    if let Some(preparer) = preparer {
        num_problems += count_tokens(&file, &rows, preparer, longest);
    }
    Ok(num_problems)
}

/// Tokens of the longest answer; of a tokenizer that is not there yet as many as bytes, which it cannot exceed.
fn longest_answer(
    file: &MedVidBenchFile,
    rows: &[usize],
    preparer: Option<&SamplePreparer>,
) -> Option<usize> {
    let answers = rows.iter().filter_map(|&row| file.get(row).ok()?.answer);
    let count = |answer: String| match preparer {
        Some(preparer) => preparer.processor.tokenizer().encode(&answer).ok().map(|ids| ids.len()),
        None => Some(answer.len()),
    };
    // And the token that ends it.
    answers.filter_map(count).max().map(|longest| longest + 1)
}

/// Counts prompt tokens; returns the number of rows that are too long or cannot be counted.
fn count_tokens(
    file: &MedVidBenchFile,
    rows: &[usize],
    preparer: &SamplePreparer,
    longest: &mut Longest,
) -> usize {
    let Counted { tokens, problems } = build::count_prompts(file, rows, preparer);
    longest.prompt = longest.prompt.max(tokens.last().copied());
    if let (Some(median), Some(max)) = (tokens.get(tokens.len() / 2), tokens.last()) {
        print(&format!("  prompt tokens over {} rows: median {median}, longest {max}", tokens.len()));
    }
    for problem in problems.iter().take(MAX_TOLD) {
        print(&format!("  {}, row {}: {}", file.path().display(), problem.row, problem.reason));
    }
    problems.len()
}
