//! `medgrpo generate --records`: a benchmark file answered in the official way, by a model of ours or one behind an API.
//!
//! Greedy, one answer a row, a budget by task, and at will one solved example before the question. What is answered is
//! kept at once; a run that was stopped goes on where it was, and shards are put together by [`merge()`].

mod ahead;
mod ask;
mod ledger;
mod line;
mod local;
mod merge;
mod python_random;
mod remote;
mod rows;
mod settings;
mod shots;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Result, bail};
use medgrpo_datasets::{RowProblem, TaskKind};
use medgrpo_model::{
    generation_config::read_stop_ids,
    processor::{PixelOverrides, PixelRange, Processor},
};
use medgrpo_trainers::{
    predict::stop_ids,
    prepare::{SamplePreparer, VideoSampling},
};
use serde_json::{Value, json};

pub use line::{Prediction, UNUSABLE, read_predictions};
pub use merge::merge;

use self::{ledger::Ledger, local::LocalJob, rows::Rows, settings::Meta};
use crate::{
    cli::{GenerateArgs, ModelArg},
    device::{run_on, use_threads, workers},
    progress::Progress,
    stop,
};

/// Answers are left to give: the work was stopped, or requests failed. Running the same command again goes on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unfinished(String);

/// Answers the records of `file`.
pub(crate) fn run(args: &GenerateArgs, file: &PathBuf) -> Result<()> {
    use_threads(args.device.threads)?;
    let PixelRange { min_pixels, max_pixels } = pixels(args);
    if min_pixels > max_pixels {
        bail!("--min-pixels {min_pixels} is more than --max-pixels {max_pixels}");
    }
    match &args.model {
        ModelArg::Dir(dir) => answer_locally(args, dir, file),
        ModelArg::Url(_) if args.adapter.is_some() => {
            bail!("--adapter is for a model in a directory; one behind an API carries its own")
        }
        ModelArg::Url(url) => remote::run(args, url, file),
    }
}

fn pixels(args: &GenerateArgs) -> PixelRange {
    PixelRange { min_pixels: args.records.min_pixels.get(), max_pixels: args.records.max_pixels.get() }
}

fn answer_locally(args: &GenerateArgs, model_dir: &Path, file: &PathBuf) -> Result<()> {
    let records = &args.records;
    let is_of_api = records.model_name.is_some()
        || records.api_key_env.is_some()
        || records.api_body.is_some()
        || records.concurrency.is_some();
    if is_of_api {
        bail!(
            "--model-name, --api-key-env, --api-body and --concurrency belong to a model behind an API: give --model URL"
        );
    }
    let stop = stop::on_signal()?;
    let workers = workers(&args.device)?;
    let limits = pixels(args);
    let overrides = PixelOverrides {
        video_min_pixels: Some(limits.min_pixels),
        video_max_pixels: Some(limits.max_pixels),
        ..PixelOverrides::default()
    };
    let preparer = SamplePreparer {
        processor: Arc::new(Processor::from_dir(model_dir)?.with_overrides(&overrides)?),
        sampling: VideoSampling::default(),
        max_prompt_tokens: None,
    };
    let stop_ids = match read_stop_ids(model_dir)? {
        Some(ids) => ids,
        None => stop_ids(preparer.processor.tokenizer()),
    };
    let rows = Rows::open(file, records)?;
    let mut model = json!({ "fingerprint": settings::fingerprint_of_model(model_dir)? });
    if let Some(adapter) = &args.adapter {
        model["adapter"] = settings::fingerprint_of_model(adapter)?.into();
    }
    if args.bf16 {
        model["bf16"] = true.into();
    }
    let meta = meta(args, file, &rows, &model, &model_dir.display().to_string())?;
    let mut ledger = Ledger::look(&args.out, &meta, &rows.numbers)?;
    if ledger.num_left() > 0 {
        let (batches, unusable) = local::plan(&rows, &preparer, &args.max_new_tokens, args.batch_size)?;
        ledger.begin(&meta)?;
        keep_unusable(&mut ledger, &rows, &unusable)?;
        let progress = start_progress(&ledger, &rows);
        let job = LocalJob {
            model_dir,
            adapter: args.adapter.as_deref(),
            bf16: args.bf16,
            rows: &rows,
            on_bad_row: records.on_bad_row,
            preparer: &preparer,
            stop_ids: &stop_ids,
            batches: &batches,
            workers: &workers,
            ledger: &mut ledger,
            progress: &progress,
            stop: &stop,
        };
        if job.is_left() {
            run_on(args.device.device, job)?;
        }
        if ledger.num_left() == 0 {
            progress.finish();
        }
    }
    conclude(ledger, &rows, &args.out, "stopped")
}

/// What decides the answers of this run.
fn meta(args: &GenerateArgs, file: &Path, rows: &Rows, model: &Value, model_place: &str) -> Result<Meta> {
    let records = &args.records;
    let shots_from = records.shots_from.as_deref().map(settings::hash_of_file).transpose()?;
    let limits: BTreeMap<&str, usize> =
        TaskKind::BENCHMARK.map(|task| (task.key(), args.max_new_tokens.of_task(task))).into();
    let PixelRange { min_pixels, max_pixels } = pixels(args);
    let settings = [
        ("model", model.clone()),
        ("records", json!(settings::hash_of_file(file)?)),
        ("shots", json!(records.shots)),
        ("shots_from", json!(shots_from)),
        ("max_new_tokens", json!(limits)),
        ("min_pixels", json!(min_pixels)),
        ("max_pixels", json!(max_pixels)),
    ];
    let notes = [
        ("model", json!(model_place)),
        ("records", json!(file.display().to_string())),
        ("medgrpo", json!(env!("CARGO_PKG_VERSION"))),
    ];
    let named = |entries: &[(&str, Value)]| {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    Ok(Meta {
        settings: named(&settings),
        shard: records.shard.to_string(),
        num_rows: rows.total,
        notes: named(&notes),
    })
}

/// Answers the rows that cannot be asked; they are there only if the user wishes them so.
fn keep_unusable(ledger: &mut Ledger, rows: &Rows, problems: &[RowProblem]) -> Result<()> {
    ledger.add(problems.iter().map(|problem| rows.unusable(problem.row)).collect())
}

fn start_progress(ledger: &Ledger, rows: &Rows) -> Progress {
    let progress = Progress::start("generate", rows.numbers.len(), "records");
    progress.resume_at(ledger.num_done());
    progress
}

/// Writes the result if it is whole, and says what is left if not, and `why`.
fn conclude(ledger: Ledger, rows: &Rows, out: &Path, why: &str) -> Result<()> {
    let num_rows = rows.numbers.len();
    if ledger.num_left() > 0 {
        let told = format!(
            "{why}: {} of {num_rows} rows are answered and kept; run the same command again to go on",
            ledger.num_done()
        );
        return Err(Unfinished(told).into());
    }
    let num_unusable = ledger.count(UNUSABLE);
    if num_unusable > 0 {
        tracing::warn!(
            "{}: {num_unusable} of {num_rows} rows could not be asked; their answers are empty, with the finish_reason \
             \"{UNUSABLE}\"",
            out.display()
        );
    }
    ledger.finish()
}
