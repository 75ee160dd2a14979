//! Everything that was asked and answered, one JSON object a line, for whoever wants to read the judge's work.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use super::{JudgeError, Pair};

/// An exchange with the judge's model.
#[derive(Serialize)]
pub(super) struct Exchange<'a> {
    pub(super) judge: &'a str,
    /// The first time is 1.
    pub(super) ask: usize,
    #[serde(flatten)]
    pub(super) captions: Captions<'a>,
    pub(super) prompt: &'a str,
    /// `None` where none came.
    pub(super) reply: Option<&'a str>,
    pub(super) finish_reason: Option<&'a str>,
    /// In the order of `Aspect::ALL`; `None` where the reply holds no judgement.
    pub(super) scores: Option<[f64; 5]>,
    /// Why there is no reply, or no judgement in it.
    pub(super) error: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Captions<'a> {
    prediction: &'a str,
    ground_truth: &'a str,
}

impl<'a> From<Pair<'a>> for Captions<'a> {
    fn from(pair: Pair<'a>) -> Self {
        Self { prediction: pair.prediction, ground_truth: pair.reference }
    }
}

/// A file that only grows.
#[derive(Debug)]
pub(super) struct Transcript {
    path: PathBuf,
    file: Mutex<File>,
}

impl Transcript {
    pub(super) fn open(path: &Path) -> Result<Self, JudgeError> {
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new().append(true).create(true).open(path)
        };
        let file = open().map_err(|error| failure(path, &error))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Adds a line, whole: processes may share a file.
    pub(super) fn record(&self, exchange: &Exchange<'_>) -> Result<(), JudgeError> {
        let mut line = serde_json::to_vec(exchange).map_err(|error| failure(&self.path, &error.into()))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).map_err(|error| failure(&self.path, &error))
    }
}

fn failure(path: &Path, error: &std::io::Error) -> JudgeError {
    JudgeError(format!("the transcript {}: {error}", path.display()))
}
