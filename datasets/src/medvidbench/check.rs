//! Looking over a whole file: every bad row with its reason, and what the good rows hold.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use rayon::prelude::*;

use super::MedVidBenchFile;
use crate::{
    ClipId, Content, Dataset, DatasetError, Frames, Gold, RowProblem, SourceId, TaskKind, TaskSample,
    VideoRef, video,
};

/// How far media are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaCheck {
    /// Not at all: the records alone.
    Skip,
    /// Every frame file and video must exist and not be empty.
    Exists,
    /// Also reads the header of each clip's first frame (and the one with the drawn box) or video, and holds the boxes
    /// of the record against its size.
    Headers,
}

/// What the usable rows of a file hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of rows, bad ones included.
    pub num_rows: usize,
    /// Number of bad rows.
    pub num_bad_rows: usize,
    /// Number of usable rows by source and task.
    pub num_by_source_and_task: BTreeMap<(SourceId, TaskKind), usize>,
    /// Number of usable rows without an answer.
    pub num_without_answer: usize,
    /// Number of usable rows by what they show, words alone left out.
    pub num_by_clip: HashMap<ClipId, usize>,
}

impl MedVidBenchFile {
    /// All bad rows with their reasons, in row order.
    pub fn check(&self, media: MediaCheck) -> Vec<RowProblem> {
        (0..self.len())
            .into_par_iter()
            .filter_map(|row| self.check_row(row, media).err().map(|error| RowProblem::new(row, &error)))
            .collect()
    }

    /// The sample in `row`, its media looked at.
    ///
    /// # Errors
    /// What is wrong with the record or its media.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn check_row(&self, row: usize, media: MediaCheck) -> Result<TaskSample, DatasetError> {
        let sample = self.get(row)?;
        check_media(&sample, media)?;
        Ok(sample)
    }

    /// Counts the rows by source and task, and gathers what they show.
    pub fn summary(&self) -> Summary {
        let counts = (0..self.len()).into_par_iter().fold(Summary::default, |mut counts, row| {
            counts.num_rows += 1;
            match self.get(row) {
                Ok(sample) => {
                    counts.num_without_answer += usize::from(sample.answer.is_none());
                    if let Some(clip) = sample.clip() {
                        *counts.num_by_clip.entry(clip).or_default() += 1;
                    }
                    *counts.num_by_source_and_task.entry((sample.source, sample.task)).or_default() += 1;
                }
                Err(_) => counts.num_bad_rows += 1,
            }
            counts
        });
        counts.reduce(Summary::default, |mut left, right| {
            left.num_rows += right.num_rows;
            left.num_bad_rows += right.num_bad_rows;
            left.num_without_answer += right.num_without_answer;
            for (clip, num) in right.num_by_clip {
                *left.num_by_clip.entry(clip).or_default() += num;
            }
            for (key, num) in right.num_by_source_and_task {
                *left.num_by_source_and_task.entry(key).or_default() += num;
            }
            left
        })
    }
}

fn check_media(sample: &TaskSample, media: MediaCheck) -> Result<(), DatasetError> {
    if media == MediaCheck::Skip {
        return Ok(());
    }
    for content in sample.prompt.iter().flat_map(|message| &message.content) {
        match content {
            Content::Text(_) => {}
            Content::Image(image) => check_file(&image.path)?,
            Content::Video(clip) => check_clip(sample, clip, media)?,
        }
    }
    Ok(())
}

fn check_clip(sample: &TaskSample, clip: &VideoRef, media: MediaCheck) -> Result<(), DatasetError> {
    let first = match &clip.frames {
        Frames::Video { path, .. } => {
            check_file(path)?;
            path
        }
        Frames::Files { paths, .. } => {
            // Lists repeat frames; each file is looked at once.
            let mut seen = HashSet::new();
            for path in paths {
                if seen.insert(path) {
                    check_file(path)?;
                }
            }
            let Some(first) = paths.first() else { return Ok(()) };
            first
        }
    };
    if media == MediaCheck::Exists {
        return Ok(());
    }
    let outside =
        |path: &Path, what: &str, corners: &[f64; 4], (width, height): (u32, u32)| DatasetError::Media {
            path: path.to_owned(),
            message: format!("{what} {corners:?} lies outside the frame of {width}x{height} pixels"),
        };
    let size = match &clip.frames {
        Frames::Video { path, .. } => {
            let info = video::probe(path)?;
            (info.width, info.height)
        }
        Frames::Files { .. } => video::image_size(first)?,
    };
    if let Gold::Boxes(boxes) = &sample.gold {
        for timed in boxes {
            if !video::box_is_inside(&timed.box_xyxy, size) {
                return Err(outside(
                    first,
                    &format!("the box at {} seconds", timed.key),
                    &timed.box_xyxy,
                    size,
                ));
            }
        }
    }
    if let (Some(region), Frames::Files { paths, .. }) = (&clip.region, &clip.frames)
        && let Some(path) = paths.get(region.frame_index)
    {
        let size = video::image_size(path)?;
        if !video::box_is_inside(&region.box_xyxy, size) {
            return Err(outside(path, "the drawn box", &region.box_xyxy, size));
        }
    }
    Ok(())
}

fn check_file(path: &Path) -> Result<(), DatasetError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
    let message = match (metadata.is_file(), metadata.len()) {
        (false, _) => "not a file",
        (true, 0) => "the file is empty",
        _ => return Ok(()),
    };
    Err(DatasetError::Media { path: path.to_owned(), message: message.into() })
}
