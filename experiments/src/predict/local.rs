//! Answers of a model in a checkpoint directory: batches that are settled before the first is run.
//!
//! Rows of one budget and similar length share a batch, the longest first, so that what does not fit in memory fails at
//! once. A resumed run forms the same batches, and runs again those that are not whole: its answers are the same.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use burn::tensor::backend::AutodiffBackend;
use medgrpo_datasets::RowProblem;
use medgrpo_model::{processor::Encoded, vlm::Vlm as _};
use medgrpo_trainers::{
    TrainError, predict::answer_batch, prepare::SamplePreparer, rollout::PreparedSample, workers::Workers,
};
use rayon::prelude::*;

use super::{ahead::one_ahead, ledger::Ledger, line::Prediction, rows::Rows};
use crate::{
    cli::{OnBadRowArg, TokenLimits},
    device::Job,
    pretrained::{load_model, precision},
    progress::Progress,
};

/// Rows that run together.
pub(super) struct Batch {
    rows: Vec<usize>,
    max_new_tokens: usize,
}

/// Forms the batches of all rows that can be asked, those answered already included. Second are those that cannot.
pub(super) fn plan(
    rows: &Rows,
    preparer: &SamplePreparer,
    limits: &TokenLimits,
    batch_size: usize,
) -> Result<(Vec<Batch>, Vec<RowProblem>)> {
    let (mut lengths, problems) = rows.survey(|sample| {
        let num_tokens = preparer.count_prompt_tokens("", sample).map_err(|error| error.without_origin())?;
        Ok((limits.of_task(sample.task), num_tokens, sample.row))
    })?;
    lengths.sort_unstable_by_key(|&(limit, num_tokens, row)| (std::cmp::Reverse((limit, num_tokens)), row));
    let batches =
        lengths.chunk_by(|a, b| a.0 == b.0).flat_map(|same| same.chunks(batch_size.max(1))).map(|batch| {
            Batch { rows: batch.iter().map(|&(_, _, row)| row).collect(), max_new_tokens: batch[0].0 }
        });
    Ok((batches.collect(), problems))
}

/// The work of one run on a device.
pub(super) struct LocalJob<'a> {
    pub(super) model_dir: &'a Path,
    pub(super) adapter: Option<&'a Path>,
    pub(super) bf16: bool,
    pub(super) rows: &'a Rows,
    pub(super) on_bad_row: OnBadRowArg,
    pub(super) preparer: &'a SamplePreparer,
    pub(super) stop_ids: &'a [u32],
    pub(super) batches: &'a [Batch],
    pub(super) workers: &'a Workers,
    pub(super) ledger: &'a mut Ledger,
    pub(super) progress: &'a Progress,
    pub(super) stop: &'a AtomicBool,
}

impl LocalJob<'_> {
    /// Whether any batch is to be run.
    pub(super) fn is_left(&self) -> bool {
        self.batches.iter().any(|batch| self.is_open(batch))
    }

    fn is_open(&self, batch: &Batch) -> bool {
        !batch.rows.iter().all(|&row| self.ledger.has(row))
    }
}

/// A batch with its rows decoded, or why they cannot be.
struct Prepared {
    samples: Vec<Result<PreparedSample, RowProblem>>,
    max_new_tokens: usize,
}

impl Job for LocalJob<'_> {
    type Output = ();

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<()> {
        let precision = precision::<B::InnerBackend>(self.bf16, device)?;
        let (model, _) = load_model::<B::InnerBackend>(self.model_dir, self.adapter, device)?;
        let model = model.with_precision(precision);
        let left: Vec<&Batch> = self.batches.iter().filter(|batch| self.is_open(batch)).collect();
        let groups: Vec<&[&Batch]> = left.chunks(self.workers.count()).collect();
        let tokenizer = self.preparer.processor.tokenizer();
        let ledger = Mutex::new(self.ledger);
        let (rows, preparer) = (self.rows, self.preparer);
        let prepare = |group: &[&Batch]| -> Vec<Prepared> {
            let prepare = |&row: &usize| {
                let sample = rows.get(row)?;
                let prepared = preparer.prepare(rows.origin(row), sample);
                prepared.map_err(|error: TrainError| RowProblem { row, reason: error.without_origin() })
            };
            let batches = group.iter().map(|batch| Prepared {
                samples: batch.rows.par_iter().map(prepare).collect(),
                max_new_tokens: batch.max_new_tokens,
            });
            batches.collect()
        };
        let answer = |batch: Prepared| -> Result<()> {
            let (mut samples, mut problems) = (Vec::new(), Vec::new());
            for sample in batch.samples {
                match sample {
                    Ok(sample) => samples.push(sample),
                    Err(problem) => problems.push(problem),
                }
            }
            let mut lines = Vec::new();
            if !samples.is_empty() {
                let prompts: Vec<&Encoded> = samples.iter().map(|sample| &sample.prompt).collect();
                let answers =
                    answer_batch(&model, tokenizer, self.stop_ids, &prompts, batch.max_new_tokens, device)?;
                lines.extend(
                    samples
                        .iter()
                        .zip(answers)
                        .map(|(sample, answer)| Prediction::new(&sample.sample, answer)),
                );
            }
            if self.on_bad_row == OnBadRowArg::Empty {
                lines.extend(problems.iter().map(|problem| rows.unusable(problem.row)));
            }
            let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.add(lines)?;
            self.progress.set(ledger.num_done());
            drop(ledger);
            rows.judge(&problems)
        };
        one_ahead(groups, prepare, |group| {
            self.workers.map(group, answer).into_iter().collect::<Result<()>>()?;
            Ok(!self.stop.load(Ordering::Relaxed))
        })
    }
}
