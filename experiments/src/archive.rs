//! The tokens behind `rollouts.jsonl`: ids, log-probabilities under the policy before its update, and those of another engine
//! that drew them.
//!
//! One line of JSON a group, in the order of `rollouts.jsonl` and with nothing that stands there; the lines of a step are one
//! member of a gzip file. So the file only grows, `zcat` reads it, and it is cut back between two members when a run is resumed.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use medgrpo_trainers::rollout::RolloutGroup;
use serde::{Deserialize, Serialize};

use crate::run_dir::{Position, RunDirError};

/// Its name in a run directory.
pub(crate) const ARCHIVE_FILE: &str = "rollouts-tokens.jsonl.gz";

/// What is archived of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ArchivedGroup {
    #[serde(flatten)]
    pub(crate) at: Position,
    /// Length of the prompt, vision tokens included.
    pub(crate) prompt_tokens: usize,
    /// Tokens of each completion.
    pub(crate) token_ids: Vec<Vec<u32>>,
    /// Log-probability of each of them under the policy before its update; absent for a group that was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_probs: Option<Vec<Vec<f32>>>,
    /// The same as told by the engine that drew them; absent where that was the policy itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sampling_log_probs: Option<Vec<Vec<f32>>>,
}

impl ArchivedGroup {
    pub(crate) fn new(at: Position, group: &RolloutGroup, log_probs: Option<&[Vec<f32>]>) -> Self {
        let completions = &group.completions;
        Self {
            at,
            prompt_tokens: group.prepared.prompt.input_ids.len(),
            token_ids: completions.iter().map(|completion| completion.token_ids.clone()).collect(),
            log_probs: log_probs.map(<[Vec<f32>]>::to_vec),
            sampling_log_probs: completions
                .iter()
                .map(|completion| completion.sampling_log_probs.clone())
                .collect(),
        }
    }
}

/// The archive of a run, to append to.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
}

impl Archive {
    /// Opens the archive cut back to `keep`: later steps, and a last one that was never finished, are dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub(crate) fn open(path: PathBuf, keep: Position) -> Result<Self, RunDirError> {
        let open = || {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let kept = kept_bytes(&file, keep)?;
            if kept < file.metadata()?.len() {
                let file = OpenOptions::new().write(true).open(&path)?;
                file.set_len(kept)?;
                file.sync_all()?;
            }
            Ok(file)
        };
        let file = open().map_err(RunDirError::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends the groups of a step, none of which is nothing. They are handed to the operating system whole.
    ///
    /// # Errors
    ///
    /// If they cannot be written.
    pub(crate) fn append(&mut self, groups: &[ArchivedGroup]) -> Result<(), RunDirError> {
        if groups.is_empty() {
            return Ok(());
        }
        let mut write = || {
            let member = member(groups)?;
            self.file.write_all(&member)
        };
        write().map_err(RunDirError::io(&self.path))
    }

    /// Waits until everything appended is on the disk.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub(crate) fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_all().map_err(RunDirError::io(&self.path))
    }
}

/// A step as one gzip member; the same bytes for the same groups.
fn member(groups: &[ArchivedGroup]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for group in groups {
        serde_json::to_writer(&mut encoder, group)?;
        encoder.write_all(b"\n")?;
    }
    encoder.finish()
}

/// Bytes of the members at the start of `file` that are whole and lie up to `keep`.
fn kept_bytes(file: &File, keep: Position) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut kept = 0;
    loop {
        let text = match next_member(&mut reader) {
            Ok(Some(text)) => text,
            Ok(None) => break,
            // A member that was never finished. Any other error is the disk's, and nothing is cut off for it.
            Err(error) if is_torn(&error) => break,
            Err(error) => return Err(error),
        };
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if !serde_json::from_slice::<Position>(line).is_ok_and(|at| at <= keep) {
            break;
        }
        kept = reader.stream_position()?;
    }
    Ok(kept)
}

fn is_torn(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput)
}

/// The text of the next member; `None` at the end.
fn next_member<R: io::Read>(reader: &mut BufReader<R>) -> io::Result<Option<Vec<u8>>> {
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut text = Vec::new();
    GzDecoder::new(reader).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// An archive, step by step.
pub(crate) struct ArchiveReader {
    path: PathBuf,
    reader: BufReader<File>,
    /// Steps read.
    count: usize,
}

impl ArchiveReader {
    /// Opens the archive of a run.
    pub(crate) fn open(run: &Path) -> Result<Self> {
        let path = run.join(ARCHIVE_FILE);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { path, reader: BufReader::new(file), count: 0 })
    }

    /// The groups of the next step; `None` at the end. A run that goes on, or was killed, may end in half a step, which is
    /// left out.
    pub(crate) fn next_step(&mut self) -> Result<Option<Vec<ArchivedGroup>>> {
        self.count += 1;
        let at = || format!("{}, step {} of the file", self.path.display(), self.count);
        let text = match next_member(&mut self.reader) {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error).with_context(at),
        };
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let groups: Vec<ArchivedGroup> =
            lines.map(serde_json::from_slice).collect::<Result<_, _>>().with_context(at)?;
        for group in &groups {
            let lens = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
            let tokens: Vec<usize> = group.token_ids.iter().map(Vec::len).collect();
            let told = [&group.log_probs, &group.sampling_log_probs];
            if told.into_iter().flatten().any(|log_probs| lens(log_probs) != tokens) {
                bail!(
                    "{}: there are not as many log-probabilities as tokens: the file has been changed",
                    at()
                );
            }
        }
        Ok(Some(groups))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn group(stage: usize, step: usize, log_prob: Option<f32>) -> ArchivedGroup {
        ArchivedGroup {
            at: Position { stage, step },
            prompt_tokens: 7,
            token_ids: vec![vec![step as u32, 151_645], vec![3]],
            log_probs: log_prob.map(|log_prob| vec![vec![log_prob, -1.0e-7], vec![-0.1]]),
            // Every other step as if another engine had drawn it.
            sampling_log_probs: step.is_multiple_of(2).then(|| vec![vec![-0.7, -1.0e-6], vec![-0.1]]),
        }
    }

    fn read(run: &Path) -> Vec<Vec<ArchivedGroup>> {
        let mut reader = ArchiveReader::open(run).unwrap();
        std::iter::from_fn(|| reader.next_step().unwrap()).collect()
    }

    #[test]
    fn a_resumed_archive_is_cut_back_and_ends_like_an_unbroken_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE_FILE);
        let at = |stage, step| Position { stage, step };
        let steps: Vec<Vec<ArchivedGroup>> = (1..=5)
            .map(|step| vec![group(1, step, Some(-0.123_456_79)), group(1, step, None)])
            .chain([vec![group(2, 1, Some(-3.5))]])
            .collect();
        let mut archive = Archive::open(path.clone(), at(0, 0)).unwrap();
        steps.iter().for_each(|step| archive.append(step).unwrap());
        archive.append(&[]).unwrap();
        archive.sync().unwrap();
        drop(archive);
        let whole = fs::read(&path).unwrap();
        assert_eq!(read(dir.path()), steps, "every bit of a log-probability comes back");

        for (keep, left) in [(at(1, 3), 3), (at(1, 9), 5), (at(0, 0), 0), (at(2, 1), 6)] {
            fs::write(&path, &whole).unwrap();
            let mut archive = Archive::open(path.clone(), keep).unwrap();
            assert_eq!(read(dir.path()).len(), left, "{keep:?}");
            steps[left..].iter().for_each(|step| archive.append(step).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // A step that was being written when the process died.
        for cut in [1, 9, 30] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(read(dir.path()), steps[..5]);
            drop(Archive::open(path.clone(), at(9, 9)).unwrap());
            assert_eq!(read(dir.path()), steps[..5]);
        }
    }

    #[test]
    fn what_is_no_archive_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE_FILE);
        let refuse = |bytes: &[u8], wanted: &str| {
            fs::write(&path, bytes).unwrap();
            let error = format!("{:#}", ArchiveReader::open(dir.path()).unwrap().next_step().unwrap_err());
            assert!(
                error.contains(ARCHIVE_FILE) && error.contains("step 1") && error.contains(wanted),
                "{error}"
            );
        };
        refuse(b"{\"stage\":1,\"step\":1}\n", "gzip");
        let mut torn = group(1, 1, Some(-1.0));
        torn.log_probs.as_mut().unwrap()[1].pop();
        refuse(&member(&[torn]).unwrap(), "as many log-probabilities as tokens");
        let mut torn = group(1, 2, Some(-1.0));
        torn.sampling_log_probs.as_mut().unwrap().pop();
        refuse(&member(&[torn]).unwrap(), "as many log-probabilities as tokens");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"{\"stage\":1,\"step\":1}\n").unwrap();
        refuse(&encoder.finish().unwrap(), "prompt_tokens");
    }
}
