//! A MedVidBench file as a [`Dataset`]: opened by an index of its rows, each row read when it is asked for.
//!
//! Memory is bounded by the index (16 bytes a row) and the rows in hand, whatever the file's size. The file is read by
//! position and not mapped, so that a file changed under a running training is an error and not a crash.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    convert,
    index::{self, RowIndex},
    scan::Layout,
    schema::Record,
};
use crate::{Dataset, DatasetError, TaskSample, atomic::write_atomically};

/// A record longer than this is refused: the largest real ones are some hundred kilobytes.
const MAX_ROW_BYTES: u64 = 64 << 20;

/// Where the row index came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexOrigin {
    /// The file was scanned.
    Built,
    /// An index of an earlier opening was used.
    Reused,
}

/// A file of MedVidBench records: `.json` (one array), `.jsonl` (one record a line), or either with `.gz`.
#[derive(Debug)]
pub struct MedVidBenchFile {
    path: PathBuf,
    media_root: PathBuf,
    /// The rows' bytes: the file itself, or the unpacked copy of a compressed one.
    data: File,
    index: RowIndex,
    origin: IndexOrigin,
    index_path: Option<PathBuf>,
}

impl MedVidBenchFile {
    /// Opens a file whose media paths are relative to `media_root` and must stay inside it.
    ///
    /// The first opening scans the file once and leaves `NAME.idx` (for a compressed file also `NAME.unpacked`) beside
    /// it; later ones reuse them. Where they cannot be written, a warning says what happens instead.
    ///
    /// # Errors
    /// A file that cannot be read, or is neither a JSON array nor lines.
    pub fn open(path: impl Into<PathBuf>, media_root: impl Into<PathBuf>) -> Result<Self, DatasetError> {
        let (path, media_root) = (path.into(), media_root.into());
        let io = |source| DatasetError::Io { path: path.clone(), source };
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let (name, packed) = match name.strip_suffix(".gz") {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let lines = name.ends_with(".jsonl") || name.ends_with(".ndjson");
        let layout = if lines { Layout::Lines } else { Layout::Array };
        let metadata = std::fs::metadata(&path).map_err(io)?;
        if !metadata.is_file() {
            let message = "not a file; expected a .json, .jsonl or .json.gz file of records".into();
            return Err(DatasetError::File { path, message });
        }
        let print = index::fingerprint(&path, layout)?;
        let beside = index::beside(&path, "idx");
        let stored = [beside.clone(), index::in_temporary_folder(&print)]
            .into_iter()
            .find_map(|index_path| index::load(&index_path, &print).map(|index| (index_path, index)));
        let unpacked = packed.then(|| index::beside(&path, "unpacked"));

        if let Some((index_path, index)) = stored {
            let data = File::open(unpacked.as_ref().unwrap_or(&path)).ok();
            let same = |file: &File| file.metadata().is_ok_and(|metadata| metadata.len() == index.data_len);
            if let Some(data) = data.filter(same) {
                let index_path = Some(index_path);
                return Ok(Self { path, media_root, data, index, origin: IndexOrigin::Reused, index_path });
            }
        }
        let data = match &unpacked {
            None => File::open(&path).map_err(io)?,
            Some(target) => unpack(&path, target)?,
        };
        let index = index::build(&path, &data, layout)?;
        let index_path = [beside.clone(), index::in_temporary_folder(&print)].into_iter().find(|target| {
            let stored = index::store(target, &index, &print);
            if let Err(error) = &stored {
                tracing::warn!("{}: the row index cannot be kept ({error})", target.display());
            } else if *target != beside {
                tracing::warn!("{}: the row index is kept here instead", target.display());
            }
            stored.is_ok()
        });
        if index_path.is_none() {
            tracing::warn!("{}: will be scanned again when it is next opened", path.display());
        }
        Ok(Self { path, media_root, data, index, origin: IndexOrigin::Built, index_path })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that media paths are relative to.
    pub fn media_root(&self) -> &Path {
        &self.media_root
    }

    /// Whether the file was scanned or an earlier index was used.
    pub fn index_origin(&self) -> IndexOrigin {
        self.origin
    }

    /// Where the index is kept; `None` where it could not be written.
    pub fn index_path(&self) -> Option<&Path> {
        self.index_path.as_deref()
    }

    /// The record in `row` as written.
    ///
    /// # Errors
    /// A row that is no record, and a file that cannot be read.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn record(&self, row: usize) -> Result<Record, DatasetError> {
        let bytes = self.row_bytes(row)?;
        Record::from_slice(&bytes).map_err(|message| self.row_error(row, message))
    }

    /// All rows in file order, bad ones as errors.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Result<TaskSample, DatasetError>)> + '_ {
        (0..self.len()).map(|row| (row, self.get(row)))
    }

    /// The bytes of a row as they stand in the file.
    pub(super) fn row_bytes(&self, row: usize) -> Result<Vec<u8>, DatasetError> {
        let span = self.index.rows[row];
        if span.len > MAX_ROW_BYTES {
            return Err(
                self.row_error(row, format!("the record has {} bytes, more than {MAX_ROW_BYTES}", span.len))
            );
        }
        let mut bytes = vec![0; span.len as usize];
        read_exact_at(&self.data, &mut bytes, span.offset)
            .map_err(|source| DatasetError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    pub(super) fn row_error(&self, row: usize, message: String) -> DatasetError {
        DatasetError::Row { path: self.path.clone(), row, message }
    }
}

impl Dataset for MedVidBenchFile {
    fn len(&self) -> usize {
        self.index.rows.len()
    }

    fn get(&self, index: usize) -> Result<TaskSample, DatasetError> {
        let record = self.record(index)?;
        convert::convert(record, index, &self.media_root).map_err(|message| self.row_error(index, message))
    }
}

/// The unpacked copy beside a compressed file, or a nameless one that lives as long as this opening.
fn unpack(path: &Path, target: &Path) -> Result<File, DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let mut unpack_error = None;
    let stored = write_atomically(target, |file| {
        index::unpack(path, file).map_err(|error| {
            let kind = error.kind();
            unpack_error = Some(error);
            kind.into()
        })
    });
    let not_gzip = |error: &std::io::Error| {
        matches!(
            error.kind(),
            std::io::ErrorKind::InvalidInput
                | std::io::ErrorKind::InvalidData
                | std::io::ErrorKind::UnexpectedEof
        )
    };
    if let Some(error) = unpack_error.filter(not_gzip) {
        let message = format!("not a whole gzip file: {error}");
        return Err(DatasetError::File { path: path.to_owned(), message });
    }
    match stored {
        Ok(()) => File::open(target).map_err(io),
        Err(error) => {
            tracing::warn!(
                "{}: the unpacked copy cannot be kept ({error}); the file is unpacked again at every opening",
                target.display()
            );
            let mut file = tempfile::tempfile().map_err(io)?;
            index::unpack(path, &mut file).map_err(io)?;
            std::io::Seek::rewind(&mut file).map_err(io)?;
            Ok(file)
        }
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            num_bytes => {
                bytes = &mut bytes[num_bytes..];
                offset += num_bytes as u64;
            }
        }
    }
    Ok(())
}
