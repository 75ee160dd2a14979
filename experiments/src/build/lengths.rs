//! Prompts counted from the headers of their media, before anything is computed: what does not fit is never cut.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use medgrpo_datasets::{Dataset, RowProblem, TaskKind};
use medgrpo_trainers::prepare::SamplePreparer;
use rayon::prelude::*;

use super::DataFile;
use crate::{config::resolved::OnBadRow, progress::Progress};

/// Problems told in an error or a report.
pub(crate) const MAX_TOLD: usize = 20;

/// Lengths of the prompts of some rows.
pub(crate) struct Counted {
    /// Tokens of every prompt that fits, sorted.
    pub(crate) tokens: Vec<usize>,
    /// The rows that don't fit, or whose media cannot be read.
    pub(crate) problems: Vec<RowProblem>,
}

/// Counts the prompts of `data` at `places`. Rows that cannot be read at all are not the business of this count.
pub(crate) fn count_prompts<D: Dataset>(data: &D, places: &[usize], preparer: &SamplePreparer) -> Counted {
    let progress = Progress::start("count tokens", places.len(), "rows");
    let done = AtomicUsize::new(0);
    let counts: Vec<Result<usize, RowProblem>> = places
        .par_iter()
        .filter_map(|&place| {
            let counted = data.get(place).ok().map(|sample| {
                let count = preparer.count_prompt_tokens("", &sample);
                (sample, count)
            });
            progress.set(done.fetch_add(1, Ordering::Relaxed) + 1);
            let (sample, count) = counted?;
            Some(count.map_err(|error| RowProblem { row: sample.row, reason: error.without_origin() }))
        })
        .collect();
    progress.finish();
    let mut counted = Counted { tokens: Vec::new(), problems: Vec::new() };
    for count in counts {
        match count {
            Ok(count) => counted.tokens.push(count),
            Err(problem) => counted.problems.push(problem),
        }
    }
    counted.tokens.sort_unstable();
    counted
}

impl DataFile {
    /// Counts the prompts of all rows of `tasks`.
    ///
    /// # Errors
    /// If one does not fit or its media cannot be read, unless such rows are to be left out.
    pub(crate) fn keep_what_fits(
        &mut self,
        tasks: &[TaskKind],
        preparer: &SamplePreparer,
        on_bad_row: OnBadRow,
    ) -> Result<()> {
        let places = self.places(tasks);
        let Counted { problems, .. } = count_prompts(&self.usable, &places, preparer);
        if problems.is_empty() {
            return Ok(());
        }
        let path = self.path.display();
        let told: Vec<String> = problems
            .iter()
            .take(MAX_TOLD)
            .map(|problem| format!("{path}, row {}: {}", problem.row, problem.reason))
            .collect();
        let (told, num_bad, num_rows) = (told.join("\n"), problems.len(), places.len());
        if on_bad_row == OnBadRow::Error || num_bad == num_rows {
            bail!("{told}\n{num_bad} of {num_rows} rows do not fit or cannot be read");
        }
        tracing::warn!("{num_bad} of {num_rows} rows do not fit or cannot be read and are left out:\n{told}");
        self.usable.leave_out(problems);
        Ok(())
    }
}
