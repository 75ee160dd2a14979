//! The checkpoint that a run starts from.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::backend::Backend;
use tempfile::TempDir;

use crate::{
    build::{self, DataFile},
    config::resolved::{Experiment, ModelSource},
    run_dir::{RunDir, TEMPORARY_PREFIX},
};

/// A checkpoint directory; one made from nothing is temporary until it is [kept](Self::keep).
pub(super) enum StartModel {
    /// It is there already.
    There(PathBuf),
    /// Made for this run, to be moved to the second place.
    Made(TempDir, PathBuf),
}

impl StartModel {
    /// The experiment's own checkpoint, that of an earlier start of this run, or a new one.
    pub(super) fn new<B: Backend>(
        experiment: &Experiment,
        run_dir: &RunDir,
        train: &[DataFile],
        device: &B::Device,
    ) -> Result<Self> {
        let init = match &experiment.model {
            ModelSource::Path(path) => return Ok(Self::There(path.clone())),
            ModelSource::Init(init) => init,
        };
        let place = run_dir.path().join("model-init");
        if place.exists() {
            return Ok(Self::There(place));
        }
        let made = tempfile::Builder::new().prefix(TEMPORARY_PREFIX).tempdir_in(run_dir.path())?;
        let dir = made.path().join("model");
        build::init_model::<B>(init, train, experiment.seed, &dir, device)?;
        Ok(Self::Made(made, place))
    }

    /// Where it is now.
    pub(super) fn dir(&self) -> PathBuf {
        match self {
            Self::There(dir) => dir.clone(),
            Self::Made(made, _) => made.path().join("model"),
        }
    }

    /// Moves a new one to its place in the run; gives where it is then.
    pub(super) fn keep(self) -> Result<PathBuf> {
        let (from, place): (PathBuf, &Path) = match &self {
            Self::There(dir) => return Ok(dir.clone()),
            Self::Made(_, place) => (self.dir(), place),
        };
        std::fs::rename(from, place).with_context(|| place.display().to_string())?;
        Ok(place.to_owned())
    }
}
