//! Answers on their way to the result: kept as soon as they are there, in whatever order; the result appears whole.
//!
//! `NAME.partial` is appended to and read again by the next run; `NAME` is written at the end, in the rows' order. A
//! lock on the partial file, which dies with its holder, keeps two processes apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions, TryLockError},
    io::{ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    line::{Prediction, whole_lines},
    settings::{Meta, beside},
};
use crate::run_dir::write_atomic;

/// The answers of one run to its rows.
pub(super) struct Ledger {
    out: PathBuf,
    rows: BTreeSet<usize>,
    answers: BTreeMap<usize, Prediction>,
    /// `None` before the first is kept.
    partial: Option<File>,
}

impl Ledger {
    /// Looks at what is in `out` already. Nothing is written.
    ///
    /// # Errors
    /// If `out` was made with other settings or by something else.
    pub(super) fn look(out: &Path, meta: &Meta, rows: &[usize]) -> Result<Self> {
        match Meta::read(out)? {
            Some(begun) => begun.require_same(meta, out)?,
            None if out.exists() => {
                bail!(
                    "{} is there already and not a result to go on with: choose another --out",
                    out.display()
                )
            }
            None => {}
        }
        let mut ledger = Self {
            out: out.to_owned(),
            rows: rows.iter().copied().collect(),
            answers: BTreeMap::new(),
            partial: None,
        };
        if out.exists() {
            let bytes = fs::read(out).with_context(|| out.display().to_string())?;
            ledger.take(whole_lines(&bytes).0, out)?;
        }
        Ok(ledger)
    }

    /// Begins to keep answers, after those that an earlier run kept; a line that it had not finished is dropped.
    ///
    /// # Errors
    /// If another process is at it, or the files cannot be written.
    pub(super) fn begin(&mut self, meta: &Meta) -> Result<()> {
        let path = self.partial_path();
        let told = || path.display().to_string();
        let open = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = open.with_context(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}: another process is writing to it", path.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(told),
        }
        meta.write(&self.out)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(told)?;
        let (answers, num_bytes) = whole_lines(&bytes);
        if num_bytes < bytes.len() {
            file.set_len(num_bytes as u64).and_then(|()| file.sync_all()).with_context(told)?;
        }
        self.take(answers, &path)?;
        self.partial = Some(file);
        Ok(())
    }

    fn take(&mut self, answers: Vec<Prediction>, path: &Path) -> Result<()> {
        for answer in answers {
            if !self.rows.contains(&answer.index) {
                bail!("{}: row {} is none of this run's: choose another --out", path.display(), answer.index);
            }
            self.answers.entry(answer.index).or_insert(answer);
        }
        Ok(())
    }

    fn partial_path(&self) -> PathBuf {
        beside(&self.out, ".partial")
    }

    /// Whether `row` has its answer.
    pub(super) fn has(&self, row: usize) -> bool {
        self.answers.contains_key(&row)
    }

    /// Rows with an answer.
    pub(super) fn num_done(&self) -> usize {
        self.answers.len()
    }

    /// Rows without an answer.
    pub(super) fn num_left(&self) -> usize {
        self.rows.len() - self.answers.len()
    }

    /// Number of answers that end for `reason`.
    pub(super) fn count(&self, reason: &str) -> usize {
        self.answers.values().filter(|answer| answer.finish_reason == reason).count()
    }

    /// Keeps answers: they are on the disk when this returns. Rows that have one keep it.
    pub(super) fn add(&mut self, answers: Vec<Prediction>) -> Result<()> {
        let fresh: Vec<Prediction> =
            answers.into_iter().filter(|answer| !self.answers.contains_key(&answer.index)).collect();
        let lines: Vec<u8> = fresh.iter().flat_map(Prediction::to_line).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let path = self.partial_path();
        let file = self.partial.as_mut().context("answers are kept from `begin` on")?;
        let written = file.write_all(&lines).and_then(|()| file.sync_data());
        written.with_context(|| {
            format!("{}: run the same command again to go on once this is mended", path.display())
        })?;
        self.answers.extend(fresh.into_iter().map(|answer| (answer.index, answer)));
        Ok(())
    }

    /// Writes the result in the order of the rows.
    ///
    /// # Panics
    /// If a row has no answer.
    pub(super) fn finish(self) -> Result<()> {
        assert_eq!(self.num_left(), 0, "a result is written when it is whole");
        if self.partial.is_some() {
            let lines: Vec<u8> = self.answers.values().flat_map(Prediction::to_line).collect();
            write_atomic(&self.out, &lines)?;
        }
        // Also one that a run left which ended between these two steps.
        let partial = self.partial_path();
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| partial.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::line::{read_predictions, tests::prediction};

    fn meta(shots: usize) -> Meta {
        Meta {
            settings: BTreeMap::from([("shots".to_owned(), shots.into())]),
            shard: "0/1".to_owned(),
            num_rows: 3,
            notes: BTreeMap::new(),
        }
    }

    fn open(out: &Path, meta: &Meta, rows: &[usize]) -> Result<Ledger> {
        let mut ledger = Ledger::look(out, meta, rows)?;
        if ledger.num_left() > 0 {
            ledger.begin(meta)?;
        }
        Ok(ledger)
    }

    #[test]
    fn what_was_kept_is_there_again_whatever_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (out, rows) = (dir.path().join("p.jsonl"), [0, 2, 5]);
        let partial = dir.path().join("p.jsonl.partial");
        let mut ledger = open(&out, &meta(0), &rows).unwrap();
        ledger.add(vec![prediction(5), prediction(0)]).unwrap();
        let error = open(&out, &meta(0), &rows).err().unwrap().to_string();
        assert!(error.contains("another process"), "{error}");
        drop(ledger);
        let kept = fs::read(&partial).unwrap();
        for cut in 0..=kept.len() {
            fs::write(&partial, &kept[..cut]).unwrap();
            let ledger = open(&out, &meta(0), &rows).unwrap();
            let num_lines = kept[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!((ledger.num_done(), ledger.num_left()), (num_lines, 3 - num_lines));
        }
        assert!(!out.exists());
        fs::write(&partial, &kept).unwrap();
        let mut ledger = open(&out, &meta(0), &rows).unwrap();
        assert!(ledger.has(5) && ledger.has(0) && !ledger.has(2));
        let other = Prediction { prediction: "another".to_owned(), ..prediction(5) };
        ledger.add(vec![prediction(2), other]).unwrap();
        ledger.finish().unwrap();
        assert_eq!(read_predictions(&out).unwrap(), rows.map(prediction), "in order, the first answers kept");
        assert!(!partial.exists());
        // A result that lost its end is gone on with as well.
        let whole = fs::read(&out).unwrap();
        fs::write(&out, &whole[..whole.len() - 2]).unwrap();
        let mut ledger = open(&out, &meta(0), &rows).unwrap();
        assert_eq!(ledger.num_left(), 1);
        ledger.add(vec![prediction(5)]).unwrap();
        ledger.finish().unwrap();
        assert_eq!(fs::read(&out).unwrap(), whole);
        open(&out, &meta(0), &rows).unwrap().finish().unwrap();
        assert_eq!(fs::read(&out).unwrap(), whole);
    }

    #[test]
    fn foreign_files_and_other_settings_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("thesis.tex");
        fs::write(&foreign, "x").unwrap();
        let error = open(&foreign, &meta(0), &[0]).err().unwrap().to_string();
        assert!(error.contains("thesis.tex is there already"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made");
        let out = dir.path().join("p.jsonl");
        open(&out, &meta(0), &[0]).unwrap().add(vec![prediction(0)]).unwrap();
        let error = open(&out, &meta(1), &[0]).err().unwrap().to_string();
        assert!(error.contains("shots: 0, now 1"), "{error}");
        let error = open(&out, &meta(0), &[1]).err().unwrap().to_string();
        assert!(error.contains("row 0 is none of this run's"), "{error}");
    }
}
