//! Answers to the evaluation splits and what they are worth.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use burn::tensor::backend::Backend;
use medgrpo_datasets::{Dataset, TaskSample};
use medgrpo_model::vlm::Vlm;
use medgrpo_rewards::leaderboard::{Options, Report, Rules, constant_baseline, evaluate_with};
use medgrpo_trainers::{
    predict::{Answer, Predictor, stop_ids},
    prepare::SamplePreparer,
    workers::Workers,
};
use rayon::prelude::*;

use crate::{
    build::{DataFile, EvalSplit},
    config::resolved::Evaluate,
    predict::{Prediction, read_predictions},
    progress::Progress,
    run_dir::write_atomic,
};

/// Samples decoded at a time: bounds memory.
const CHUNK: usize = 64;
/// Rows of the training data that the constant baseline looks at.
const MAX_BASELINE_ROWS: usize = 5_000;

/// Evaluates models on the splits of one run.
pub(super) struct Evaluator<'a> {
    pub(super) splits: &'a [EvalSplit],
    pub(super) settings: &'a Evaluate,
    pub(super) preparer: &'a SamplePreparer,
    pub(super) workers: &'a Workers,
    pub(super) predictions: PathBuf,
}

/// What the answers to one split are worth.
pub(super) struct SplitResult {
    pub(super) split: String,
    /// As the leaderboard scores them.
    pub(super) official: Report,
    /// By rules without the leaderboard's flaws.
    pub(super) strict: Report,
}

impl SplitResult {
    fn new(split: &EvalSplit, samples: Vec<TaskSample>, texts: Vec<String>) -> Self {
        let pairs: Vec<(TaskSample, String)> = samples.into_iter().zip(texts).collect();
        let by = |rules| evaluate_with(&pairs, &Options { rules, ..Options::default() });
        Self { split: split.name.clone(), official: by(Rules::Official), strict: by(Rules::Strict) }
    }
}

impl Evaluator<'_> {
    /// Answers all splits with `model`, which is asked for only where no earlier start of the run stored the answers
    /// under `label`.
    pub(super) fn run<B: Backend, M: Vlm<B>>(
        &self,
        label: &str,
        limit: usize,
        model: impl Fn() -> Result<M>,
        device: &B::Device,
    ) -> Result<Vec<SplitResult>> {
        let mut loaded = None;
        self.splits
            .iter()
            .map(|split| {
                let places = split.places(limit);
                let path = self.path(&split.name, label);
                let samples = samples(&split.file, &places)?;
                let answers = match stored(&path, places.len())? {
                    Some(answers) => answers,
                    None => {
                        let model = loaded.take().map_or_else(&model, Ok)?;
                        let answers = self.answer(split, &places, label, &model, device)?;
                        loaded = Some(model);
                        store(&path, &samples, answers)?
                    }
                };
                let texts = answers.into_iter().map(|answer| answer.prediction).collect();
                Ok(SplitResult::new(split, samples, texts))
            })
            .collect()
    }

    fn answer<B: Backend, M: Vlm<B>>(
        &self,
        split: &EvalSplit,
        places: &[usize],
        label: &str,
        model: &M,
        device: &B::Device,
    ) -> Result<Vec<Answer>> {
        let progress =
            Progress::start(&format!("evaluate {label} on {}", split.name), places.len(), "records");
        let max_new_tokens = |task| self.settings.max_new_tokens.get(task);
        let tokenizer = self.preparer.processor.tokenizer();
        let predictor = Predictor {
            tokenizer,
            stop_ids: &stop_ids(tokenizer),
            max_new_tokens: &max_new_tokens,
            batch_size: self.settings.batch_size,
            workers: self.workers,
        };
        let mut answers = Vec::with_capacity(places.len());
        let done = AtomicUsize::new(0);
        // Whole batches a task, so that chunks of mixed tasks don't leave many small ones.
        for chunk in places.chunks(CHUNK.max(self.settings.batch_size * 8)) {
            let prepared = chunk
                .par_iter()
                .map(|&place| {
                    let sample = split.file.usable.get(place)?;
                    self.preparer.prepare(split.file.origin(&sample), sample)
                })
                .collect::<Result<Vec<_>, _>>()?;
            answers.extend(predictor.predict(model, &prepared, device, |answered| {
                progress.set(done.fetch_add(answered, Ordering::Relaxed) + answered);
            })?);
        }
        progress.finish();
        Ok(answers)
    }

    /// What the best constant answers of the training data are worth.
    pub(super) fn baseline(&self, train: &[DataFile], limit: usize) -> Result<Vec<SplitResult>> {
        let mut known = Vec::new();
        for file in train {
            let rows = file.usable.len();
            let count = rows.min(MAX_BASELINE_ROWS);
            known.extend(samples(file, &(0..count).map(|number| number * rows / count).collect::<Vec<_>>())?);
        }
        self.splits
            .iter()
            .map(|split| {
                let test = samples(&split.file, &split.places(limit))?;
                let texts = constant_baseline(&known, &test);
                Ok(SplitResult::new(split, test, texts))
            })
            .collect()
    }

    pub(super) fn path(&self, split: &str, label: &str) -> PathBuf {
        self.predictions.join(format!("{split}-{label}.jsonl"))
    }
}

/// Writes answers in the form of `medgrpo generate --records`.
fn store(path: &Path, samples: &[TaskSample], answers: Vec<Answer>) -> Result<Vec<Prediction>> {
    let predictions: Vec<Prediction> =
        samples.iter().zip(answers).map(|(sample, answer)| Prediction::new(sample, answer)).collect();
    let lines: Vec<u8> = predictions.iter().flat_map(Prediction::to_line).collect();
    write_atomic(path, &lines)?;
    Ok(predictions)
}

/// Answers of an earlier start of the run; `None` if there are none or not `count`.
fn stored(path: &Path, count: usize) -> Result<Option<Vec<Prediction>>> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(read_predictions(path)?).filter(|predictions| predictions.len() == count))
}

fn samples(file: &DataFile, places: &[usize]) -> Result<Vec<TaskSample>> {
    places.iter().map(|&place| Ok(file.usable.get(place)?)).collect()
}
