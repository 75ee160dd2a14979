//! The rows of a benchmark file that one run answers, as they are asked, and those that cannot be.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, bail};
use medgrpo_datasets::{Dataset as _, MedVidBenchFile, RowProblem, TaskSample, medvidbench::MediaCheck};
use rayon::prelude::*;

use super::{
    line::{Prediction, UNUSABLE},
    shots::Shots,
};
use crate::{
    cli::{OnBadRowArg, RecordsArgs},
    progress::Progress,
};

/// Bad rows told in one message.
const MAX_TOLD: usize = 20;

/// The rows of one run.
pub(super) struct Rows {
    file: MedVidBenchFile,
    shots: Option<Shots>,
    on_bad_row: OnBadRowArg,
    /// Rows of all shards together.
    pub(super) total: usize,
    /// The rows to answer, in order.
    pub(super) numbers: Vec<usize>,
}

impl Rows {
    pub(super) fn open(path: &PathBuf, args: &RecordsArgs) -> Result<Self> {
        let root = args.root.clone().or_else(|| path.parent().map(Into::into)).unwrap_or_default();
        let file = MedVidBenchFile::open(path, root)?;
        let total = args.limit.map_or(file.len(), |limit| limit.get().min(file.len()));
        let numbers: Vec<usize> = (args.shard.index..total).step_by(args.shard.count).collect();
        if numbers.is_empty() {
            bail!("{}: shard {} of {total} rows has none", path.display(), args.shard);
        }
        let shots = match (&args.shots_from, args.shots) {
            (Some(_), 0) => bail!("--shots-from names examples that --shots 0 does not show: give --shots 1"),
            (_, 0) => None,
            (None, _) => Some(Shots::invented()),
            (Some(examples), _) => {
                let mut qa_types: Vec<String> = numbers
                    .par_iter()
                    .filter_map(|&row| file.record(row).ok().map(|record| record.qa_type))
                    .collect();
                qa_types.sort_unstable();
                qa_types.dedup();
                Some(Shots::from_file(examples, &qa_types)?)
            }
        };
        Ok(Self { file, shots, on_bad_row: args.on_bad_row, total, numbers })
    }

    /// Names a row in messages.
    pub(super) fn origin(&self, row: usize) -> String {
        format!("{}, row {row}", self.file.path().display())
    }

    /// The sample in `row`, with its example before the question.
    pub(super) fn get(&self, row: usize) -> Result<TaskSample, RowProblem> {
        let sample = self.file.get(row).map_err(|error| RowProblem::new(row, &error))?;
        self.with_shot(sample)
    }

    fn with_shot(&self, mut sample: TaskSample) -> Result<TaskSample, RowProblem> {
        if let Some(shots) = &self.shots {
            shots.show(&mut sample).map_err(|reason| RowProblem { row: sample.row, reason })?;
        }
        Ok(sample)
    }

    /// Looks at every row before any is answered: at its record, whether its media are there, and at what `look` asks
    /// of it. Gives what `look` found, and the rows that cannot be asked.
    ///
    /// # Errors
    /// If there are such rows, and they are to be errors; every one is counted, the first are told.
    pub(super) fn survey<T: Send>(
        &self,
        look: impl Fn(&TaskSample) -> Result<T, String> + Sync,
    ) -> Result<(Vec<T>, Vec<RowProblem>)> {
        let progress = Progress::start("check rows", self.numbers.len(), "rows");
        let done = AtomicUsize::new(0);
        let looked: Vec<Result<T, RowProblem>> = self
            .numbers
            .par_iter()
            .map(|&row| {
                let checked = self.file.check_row(row, MediaCheck::Exists);
                progress.set(done.fetch_add(1, Ordering::Relaxed) + 1);
                let sample = checked.map_err(|error| RowProblem::new(row, &error))?;
                look(&self.with_shot(sample)?).map_err(|reason| RowProblem { row, reason })
            })
            .collect();
        progress.finish();
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        for looked in looked {
            match looked {
                Ok(value) => found.push(value),
                Err(problem) => problems.push(problem),
            }
        }
        self.judge(&problems)?;
        Ok((found, problems))
    }

    /// Refuses rows that cannot be asked, or tells of them, as the user wished.
    pub(super) fn judge(&self, problems: &[RowProblem]) -> Result<()> {
        if problems.is_empty() {
            return Ok(());
        }
        let told = problems.iter().take(MAX_TOLD);
        let told: Vec<String> =
            told.map(|problem| format!("{}: {}", self.origin(problem.row), problem.reason)).collect();
        let (told, num_bad, num_rows) = (told.join("\n"), problems.len(), self.numbers.len());
        match self.on_bad_row {
            OnBadRowArg::Error => bail!(
                "{told}\n{num_bad} of {num_rows} rows cannot be asked: mend them, or give --on-bad-row empty to answer \
                 them with an empty text"
            ),
            OnBadRowArg::Empty => {
                tracing::warn!(
                    "{num_bad} of {num_rows} rows cannot be asked and get an empty answer:\n{told}"
                );
                Ok(())
            }
        }
    }

    /// The empty answer to a row that cannot be asked, with as much of its record as can be read.
    pub(super) fn unusable(&self, row: usize) -> Prediction {
        let record = self.file.record(row).ok();
        let id = record.as_ref().and_then(|record| record.id.as_ref()).map(|id| id.to_text());
        Prediction {
            index: row,
            id: id.unwrap_or_else(|| format!("row {row}")),
            qa_type: record.map(|record| record.qa_type).unwrap_or_default(),
            prediction: String::new(),
            finish_reason: UNUSABLE.to_owned(),
            num_tokens: Some(0),
        }
    }
}
