//! What to do about bad rows: refuse the file, or leave them out and say which.
//!
//! Every row is read once when a [`Usable`] is made. Its labels serve weights and splits without reading again.

use std::{collections::HashSet, sync::Arc};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{ClipId, Dataset, DatasetError, SourceId, TaskKind, TaskSample};

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowProblem {
    /// The row, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl RowProblem {
    /// The problem that reading `row` gave; file and row are left out of the reason.
    pub fn new(row: usize, error: &DatasetError) -> Self {
        let reason = match error {
            DatasetError::Row { message, .. } => message.clone(),
            other => other.to_string(),
        };
        Self { row, reason }
    }
}

/// What to do about bad rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Any bad row is an error.
    #[default]
    Error,
    /// Bad rows are left out, counted and listed.
    Skip,
}

/// What a row is about, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLabel {
    /// Row in the dataset the label was made for.
    pub row: usize,
    /// The source.
    pub source: SourceId,
    /// The task.
    pub task: TaskKind,
    /// The source video.
    pub video_id: Arc<str>,
    /// What is shown, if anything is.
    pub clip: Option<ClipId>,
}

/// The usable rows of a dataset, numbered without gaps. [`TaskSample::row`] stays the row in the file.
#[derive(Debug)]
pub struct Usable<D> {
    inner: D,
    labels: Vec<RowLabel>,
    skipped: Vec<RowProblem>,
}

/// This many bad rows are told in an error.
const NUM_TOLD: usize = 5;

impl<D: Dataset> Usable<D> {
    /// Reads every row once.
    ///
    /// # Errors
    /// With [`OnBadRow::Error`], the first bad row, with the number of all and the reasons of a few. Under either, a
    /// dataset without a single usable row.
    pub fn new(inner: D, on_bad_row: OnBadRow) -> Result<Self, DatasetError> {
        let rows: Vec<Result<RowLabel, (usize, DatasetError)>> = (0..inner.len())
            .into_par_iter()
            .map(|row| {
                let sample = inner.get(row).map_err(|error| (row, error))?;
                let clip = sample.clip();
                let TaskSample { source, task, video_id, .. } = sample;
                Ok(RowLabel { row, source, task, video_id: video_id.into(), clip })
            })
            .collect();
        let num_rows = rows.len();
        let (mut labels, mut errors) = (Vec::with_capacity(num_rows), Vec::new());
        for row in rows {
            match row {
                Ok(label) => labels.push(label),
                Err(error) => errors.push(error),
            }
        }
        let skipped: Vec<RowProblem> =
            errors.iter().map(|(row, error)| RowProblem::new(*row, error)).collect();
        if let Some((_, first)) = errors.into_iter().next()
            && (on_bad_row == OnBadRow::Error || labels.is_empty())
        {
            return Err(with_summary(first, &skipped, num_rows));
        }
        intern(&mut labels);
        if !skipped.is_empty() {
            tracing::warn!("{} of {num_rows} rows are bad and left out", skipped.len());
        }
        Ok(Self { inner, labels, skipped })
    }

    /// What each usable row is about, in order; `labels()[i].row` is the row of `get(i)` in the inner dataset.
    pub fn labels(&self) -> &[RowLabel] {
        &self.labels
    }

    /// The rows left out, in order.
    pub fn skipped(&self) -> &[RowProblem] {
        &self.skipped
    }

    /// Leaves out further rows, which someone who knows more than the file found bad; they are rows of the inner dataset.
    pub fn leave_out(&mut self, problems: Vec<RowProblem>) {
        let bad: HashSet<usize> = problems.iter().map(|problem| problem.row).collect();
        self.labels.retain(|label| !bad.contains(&label.row));
        self.skipped.extend(problems);
        self.skipped.sort_by_key(|problem| problem.row);
    }

    /// The dataset beneath.
    pub fn inner(&self) -> &D {
        &self.inner
    }
}

impl<D: Dataset> Dataset for Usable<D> {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<TaskSample, DatasetError> {
        self.inner.get(self.labels[index].row)
    }
}

/// Sources and videos are few and rows are many: equal names share one allocation.
fn intern(labels: &mut [RowLabel]) {
    let (mut sources, mut videos) = (HashSet::<SourceId>::new(), HashSet::<Arc<str>>::new());
    for label in labels {
        match sources.get(&label.source) {
            Some(source) => label.source = source.clone(),
            None => drop(sources.insert(label.source.clone())),
        }
        match videos.get(&label.video_id) {
            Some(video_id) => label.video_id = Arc::clone(video_id),
            None => drop(videos.insert(Arc::clone(&label.video_id))),
        }
    }
}

fn with_summary(first: DatasetError, problems: &[RowProblem], num_rows: usize) -> DatasetError {
    let DatasetError::Row { path, row, message } = first else { return first };
    let mut message = message;
    if problems.len() > 1 {
        message.push_str(&format!("\n{} of {num_rows} rows are bad, among them:", problems.len()));
        for problem in problems.iter().skip(1).take(NUM_TOLD) {
            message.push_str(&format!("\n  row {}: {}", problem.row, problem.reason));
        }
    }
    message.push_str("\nRepair the file, or set on_bad_row = \"skip\" to leave bad rows out");
    DatasetError::Row { path, row, message }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::{OnBadRow, Usable};
    use crate::{Content, Dataset, DatasetError, Gold, Message, Role, SourceId, TaskKind, TaskSample};

    /// Rows named by source, task and video; `None` is a bad row.
    pub(crate) struct Rows(pub(crate) Vec<Option<(&'static str, TaskKind, String)>>);

    impl Dataset for Rows {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, row: usize) -> Result<TaskSample, DatasetError> {
            let Some((source, task, video_id)) = &self.0[row] else {
                let message = format!("metadata.fps is \"{row}x\"");
                return Err(DatasetError::Row { path: PathBuf::from("rows.json"), row, message });
            };
            Ok(TaskSample {
                row,
                id: format!("{source}{row}"),
                source: SourceId::from(*source),
                task: *task,
                qa_type: task.key().to_owned(),
                video_id: video_id.clone(),
                prompt: vec![Message { role: Role::User, content: vec![Content::Text("?".into())] }],
                answer: None,
                gold: Gold::Hidden,
                fps: 1.0,
            })
        }
    }

    /// A row without media.
    pub(crate) fn one_row() -> Rows {
        rows(&[true])
    }

    fn rows(good: &[bool]) -> Rows {
        Rows(good.iter().map(|&good| good.then(|| ("AVOS", TaskKind::Tag, "v".to_owned()))).collect())
    }

    #[test]
    fn an_error_counts_all_bad_rows_and_says_what_to_do() {
        let error =
            Usable::new(rows(&[true, false, true, false]), OnBadRow::Error).err().unwrap().to_string();
        assert!(error.starts_with("rows.json, row 1: metadata.fps is \"1x\""), "{error}");
        assert!(
            error.contains("2 of 4 rows are bad") && error.contains("row 3: metadata.fps is \"3x\""),
            "{error}"
        );
        assert!(error.contains("on_bad_row = \"skip\""), "{error}");
    }

    #[test]
    fn skipped_rows_are_listed_and_the_rest_keep_their_row() {
        let usable = Usable::new(rows(&[true, false, true, false]), OnBadRow::Skip).unwrap();
        assert_eq!(usable.len(), 2);
        assert_eq!(usable.get(1).unwrap().row, 2);
        let skipped: Vec<_> =
            usable.skipped().iter().map(|problem| (problem.row, problem.reason.as_str())).collect();
        assert_eq!(skipped, [(1, "metadata.fps is \"1x\""), (3, "metadata.fps is \"3x\"")]);
        assert!(Usable::new(rows(&[false]), OnBadRow::Skip).is_err(), "nothing is left");
        assert!(Usable::new(rows(&[true]), OnBadRow::Error).unwrap().skipped().is_empty());
    }
}
