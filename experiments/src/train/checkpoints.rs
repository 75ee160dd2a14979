//! Which checkpoints a run has, which to go on from, which to keep.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use medgrpo_trainers::checkpoint::{TrainState, load_state};

/// Where the checkpoint of a step of a stage lies.
pub(super) fn checkpoint_dir(folder: &Path, stage_index: usize, stage: &str, step: usize) -> PathBuf {
    folder.join(format!("{stage_index:02}-{stage}-step-{step:06}"))
}

/// The newest whole checkpoint. A damaged one is passed over, loudly.
///
/// # Errors
/// If there are checkpoints and none is whole.
pub(super) fn newest(folder: &Path) -> Result<Option<(PathBuf, TrainState)>> {
    let dirs = all(folder)?;
    for dir in dirs.iter().rev() {
        match load_state(dir) {
            Ok(state) => return Ok(Some((dir.clone(), state))),
            Err(error) => tracing::error!("checkpoint passed over: {error}"),
        }
    }
    if !dirs.is_empty() {
        bail!("{}: none of the {} checkpoints is whole", folder.display(), dirs.len());
    }
    Ok(None)
}

/// Removes the oldest checkpoints of a stage beyond `limit`; 0 keeps all.
pub(super) fn prune(folder: &Path, stage_index: usize, limit: usize) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let prefix = format!("{stage_index:02}-");
    let of_stage =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
    let dirs: Vec<PathBuf> = all(folder)?.into_iter().filter(of_stage).collect();
    for dir in dirs.iter().take(dirs.len().saturating_sub(limit)) {
        // Renamed first: a half-removed checkpoint must not look like one.
        let doomed = folder.join(".tmp-removed");
        fs::rename(dir, &doomed)
            .and_then(|()| fs::remove_dir_all(&doomed))
            .with_context(|| dir.display().to_string())?;
    }
    Ok(())
}

/// All checkpoints, oldest first.
fn all(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_dir() {
            dirs.push(entry.path());
        }
    }
    dirs.sort();
    Ok(dirs)
}
