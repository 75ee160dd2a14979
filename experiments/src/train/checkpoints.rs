//! Which checkpoints a run has, which to go on from, which to keep.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use medgrpo_trainers::checkpoint::{TrainState, load_state};

const DAMAGED_PREFIX: &str = "damaged-";

/// Where the checkpoint of a step of a stage lies.
pub(super) fn checkpoint_dir(folder: &Path, stage_index: usize, stage: &str, step: usize) -> PathBuf {
    folder.join(format!("{stage_index:02}-{stage}-step-{step:06}"))
}

/// The newest whole checkpoint. Newer ones that are damaged are told of and renamed, so that their steps can be saved
/// anew.
///
/// # Errors
/// If there are checkpoints and none is whole.
pub(super) fn newest(folder: &Path) -> Result<Option<(PathBuf, TrainState)>> {
    let mut damaged = Vec::new();
    for dir in all(folder)?.into_iter().rev() {
        match load_state(&dir) {
            Ok(state) => {
                damaged.iter().try_for_each(|dir: &PathBuf| set_aside(dir))?;
                return Ok(Some((dir, state)));
            }
            Err(error) => {
                tracing::error!("checkpoint passed over: {error}");
                damaged.push(dir);
            }
        }
    }
    if !damaged.is_empty() {
        bail!(
            "{}: none of the {} checkpoints is whole; remove the folder to start from the first step",
            folder.display(),
            damaged.len()
        );
    }
    Ok(None)
}

/// Renames a damaged checkpoint to `damaged-…`, in place of an earlier one of that name.
fn set_aside(dir: &Path) -> Result<()> {
    let name = dir.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let aside = dir.with_file_name(format!("{DAMAGED_PREFIX}{name}"));
    if aside.exists() {
        fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())?;
    }
    tracing::warn!("kept as {}", aside.display());
    fs::rename(dir, &aside).with_context(|| dir.display().to_string())
}

/// Removes the oldest checkpoints of a stage beyond `limit`, but for `best`; 0 keeps all.
pub(super) fn prune(folder: &Path, stage_index: usize, limit: usize, best: Option<&Path>) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let dirs = of_stage(folder, stage_index)?;
    let old = dirs.iter().take(dirs.len().saturating_sub(limit));
    for dir in old.filter(|dir| Some(dir.as_path()) != best) {
        // Renamed first: a half-removed checkpoint must not look like one.
        let doomed = folder.join(".tmp-removed");
        fs::rename(dir, &doomed)
            .and_then(|()| fs::remove_dir_all(&doomed))
            .with_context(|| dir.display().to_string())?;
    }
    Ok(())
}

/// All checkpoints of a stage, oldest first.
pub(super) fn of_stage(folder: &Path, stage_index: usize) -> Result<Vec<PathBuf>> {
    let prefix = format!("{stage_index:02}-");
    let is_of_stage =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    Ok(all(folder)?.into_iter().filter(is_of_stage).collect())
}

/// All checkpoints, oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && !name.starts_with(DAMAGED_PREFIX) && entry.path().is_dir() {
            dirs.push(entry.path());
        }
    }
    dirs.sort();
    Ok(dirs)
}
