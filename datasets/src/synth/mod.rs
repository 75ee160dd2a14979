//! The practice set: rendered surgical scenes with exact ground truth for all eight tasks, as MedVidBench records.
//!
//! Five sources differ in difficulty, frame rate, resolution and record convention. Everything follows from the seed;
//! [`render`] writes videos, frame folders and the three split files, and nothing half-written is left behind.
//! The pictures are made to be learnable in minutes by a very small model. They teach nothing about real surgery.

mod canvas;
mod media;
mod noise;
mod plan;
mod questions;
mod records;
mod scene;
mod scenery;
mod script;
mod sheet;
mod source;
mod templates;
mod tools;
mod video;

#[cfg(test)]
mod tests;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde_json::Value;

pub use self::plan::{MIN_CLIPS, SourceSummary, SplitSummary, SynthSummary};
use self::{media::io_error, plan::Job};
use crate::DatasetError;

/// Changes whenever the same seed would give other files.
pub const VERSION: u32 = 1;

/// Names of the split files without `.json`, in the order of [`SynthSummary::splits`].
pub const SPLITS: [&str; 3] = ["train", "calibration", "test"];

/// File with the [`SynthSummary`]; its presence marks a complete practice set.
pub const SUMMARY_FILE: &str = "practice.json";

/// Picture of every source with boxes and labels.
pub const CONTACT_SHEET_FILE: &str = "contact_sheet.png";

/// What to render.
#[derive(Clone, Debug)]
pub struct SynthConfig {
    /// Folder to create. A complete practice set of the same seed, clips and version in it is kept.
    pub out_dir: PathBuf,
    /// Everything follows from it.
    pub seed: u64,
    /// Clips over all sources, at least [`MIN_CLIPS`]; each gives four to nine records.
    pub clips: usize,
}

/// Renders a practice set, calling `progress(done, total)` in clips as videos are finished, from any thread.
///
/// Errors: too few clips, no usable FFmpeg, a folder that holds something else, or a failed write. The files appear
/// under `out_dir` only when all of them are complete.
pub fn render(
    config: &SynthConfig,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<SynthSummary, DatasetError> {
    let file_error = |message: String| DatasetError::File { path: config.out_dir.clone(), message };
    if config.clips < MIN_CLIPS {
        return Err(file_error(format!("clips is {}, it must be at least {MIN_CLIPS}", config.clips)));
    }
    if let Some(summary) = existing(config)? {
        progress(config.clips, config.clips);
        return Ok(summary);
    }
    let encoder = media::Encoder::detect()?;
    let parent = match config.out_dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(|e| io_error(parent, e))?;
    let staging =
        tempfile::Builder::new().prefix(".practice-").tempdir_in(parent).map_err(|e| io_error(parent, e))?;
    let root = staging.path();

    let jobs = plan::jobs(config.seed, config.clips);
    let done = AtomicUsize::new(0);
    let records: Vec<Vec<Value>> = jobs
        .par_iter()
        .map(|job| {
            let boxes = video::render_video(root, job.spec, &job.video, encoder)?;
            let finished = done.fetch_add(job.video.clips.len(), Ordering::Relaxed) + job.video.clips.len();
            progress(finished, config.clips);
            Ok(records::video_records(job.spec, &job.video, &boxes, job.split == 0, config.seed))
        })
        .collect::<Result<_, DatasetError>>()?;

    for (split, name) in SPLITS.iter().enumerate() {
        let rows = split_rows(&jobs, &records, split, config.seed);
        write_synced(&root.join(format!("{name}.json")), &json_array(&rows))?;
    }
    sheet::write(&root.join(CONTACT_SHEET_FILE), &jobs)?;
    let summary = plan::summarize(config, &jobs, &records);
    let text = serde_json::to_string_pretty(&summary).map_err(|e| file_error(e.to_string()))?;
    write_synced(&root.join(SUMMARY_FILE), text.as_bytes())?;
    publish(staging, &config.out_dir)?;
    Ok(summary)
}

/// The practice set that is already there, `None` for a free place, an error for anything else.
fn existing(config: &SynthConfig) -> Result<Option<SynthSummary>, DatasetError> {
    let dir = &config.out_dir;
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error(dir, e)),
    };
    if entries.next().is_none() {
        return Ok(None);
    }
    let occupied = |what: String| DatasetError::File {
        path: dir.clone(),
        message: format!("the folder holds {what}; name another folder or remove it"),
    };
    let path = dir.join(SUMMARY_FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(occupied(format!("files but no {SUMMARY_FILE}")));
        }
        Err(e) => return Err(io_error(&path, e)),
    };
    let summary: SynthSummary =
        serde_json::from_str(&text).map_err(|e| occupied(format!("an unreadable {SUMMARY_FILE} ({e})")))?;
    if (summary.seed, summary.clips, summary.version) != (config.seed, config.clips, VERSION) {
        return Err(occupied(format!(
            "another practice set (seed {}, clips {}, version {} where {}, {}, {VERSION} are wanted)",
            summary.seed, summary.clips, summary.version, config.seed, config.clips
        )));
    }
    for name in SPLITS.iter().map(|name| format!("{name}.json")) {
        if !dir.join(&name).is_file() {
            return Err(occupied(format!("a practice set without its {name}")));
        }
    }
    Ok(Some(SynthSummary { reused: true, ..summary }))
}

/// The records of a split, mixed so that any first part of the file is a fair sample.
fn split_rows<'a>(jobs: &[Job], records: &'a [Vec<Value>], split: usize, seed: u64) -> Vec<&'a Value> {
    let mut rows: Vec<&Value> = jobs
        .iter()
        .zip(records)
        .filter(|(job, _)| job.split == split)
        .flat_map(|(_, records)| records)
        .collect();
    let key = blake3::hash(format!("practice order/{seed}/{split}").as_bytes());
    rows.shuffle(&mut ChaCha8Rng::from_seed(*key.as_bytes()));
    rows
}

/// A JSON array with one record a line.
fn json_array(rows: &[&Value]) -> Vec<u8> {
    let mut text = String::from("[\n");
    for (i, row) in rows.iter().enumerate() {
        text.push_str(&row.to_string());
        text.push_str(if i + 1 < rows.len() { ",\n" } else { "\n" });
    }
    text.push_str("]\n");
    text.into_bytes()
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| io_error(path, e))
}

/// Moves the finished folder to its name; an empty folder there gives way.
fn publish(staging: tempfile::TempDir, out_dir: &Path) -> Result<(), DatasetError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Temporary folders are private; this one is about to be an ordinary one.
        fs::set_permissions(staging.path(), fs::Permissions::from_mode(0o755))
            .map_err(|e| io_error(staging.path(), e))?;
    }
    if out_dir.is_dir() {
        fs::remove_dir(out_dir).map_err(|e| io_error(out_dir, e))?;
    }
    fs::rename(staging.path(), out_dir).map_err(|e| io_error(out_dir, e))?;
    // The name it would delete on drop no longer exists.
    let _ = staging.keep();
    Ok(())
}
