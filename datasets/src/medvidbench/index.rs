//! The row index of a data file, kept beside it so that a large file is scanned once.
//!
//! An index belongs to a file by its length, its time of change and the content of its head and tail, and carries a
//! checksum: one that is stale, cut short or foreign is made anew. Where the folder cannot be written, the index goes
//! to the system's temporary folder, with a warning.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use super::scan::{Layout, RowSpan, ScanError, scan};
use crate::{DatasetError, atomic::write_atomically};

const MAGIC: &[u8; 8] = b"mvbidx01";
const HEAD_BYTES: u64 = 64 * 1024;
const HASH_BYTES: usize = 32;
const ROW_BYTES: usize = 16;

/// The rows of one file.
#[derive(Debug)]
pub(super) struct RowIndex {
    /// Length of the file that the rows lie in (for a compressed file: once unpacked).
    pub data_len: u64,
    /// In file order.
    pub rows: Vec<RowSpan>,
}

/// What an index must agree with.
pub(super) type Fingerprint = [u8; HASH_BYTES];

/// Length, time of change, and the content of the first and last 65536 bytes.
pub(super) fn fingerprint(path: &Path, layout: Layout) -> Result<Fingerprint, DatasetError> {
    let read = || -> std::io::Result<Fingerprint> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let changed = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[layout as u8]);
        hasher.update(&metadata.len().to_le_bytes());
        hasher.update(&changed.as_nanos().to_le_bytes());
        std::io::copy(&mut (&mut file).take(HEAD_BYTES), &mut hasher)?;
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(HEAD_BYTES)))?;
        std::io::copy(&mut file.take(HEAD_BYTES), &mut hasher)?;
        Ok(hasher.finalize().into())
    };
    read().map_err(|source| DatasetError::Io { path: path.to_owned(), source })
}

/// Scans a file.
pub(super) fn build(path: &Path, file: &File, layout: Layout) -> Result<RowIndex, DatasetError> {
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let data_len = file.metadata().map_err(io)?.len();
    let rows = scan(file, layout).map_err(|error| match error {
        ScanError::Io(source) => io(source),
        ScanError::Shape(message) => DatasetError::File { path: path.to_owned(), message },
    })?;
    Ok(RowIndex { data_len, rows })
}

/// The stored index, if there is one and it belongs to the file.
pub(super) fn load(path: &Path, fingerprint: &Fingerprint) -> Option<RowIndex> {
    let bytes = std::fs::read(path).ok()?;
    let (body, checksum) = bytes.split_last_chunk::<HASH_BYTES>()?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    let body = body.strip_prefix(MAGIC)?.strip_prefix(fingerprint)?;
    let (data_len, body) = body.split_first_chunk::<8>()?;
    let data_len = u64::from_le_bytes(*data_len);
    let (rows, rest) = body.as_chunks::<ROW_BYTES>();
    let rows: Vec<RowSpan> = rows
        .iter()
        .map(|row| {
            let (offset, len) = row.split_at(8);
            RowSpan {
                offset: u64::from_le_bytes(offset.try_into().expect("half a row is 8 bytes")),
                len: u64::from_le_bytes(len.try_into().expect("half a row is 8 bytes")),
            }
        })
        .collect();
    let inside = |row: &RowSpan| row.offset.checked_add(row.len).is_some_and(|end| end <= data_len);
    (rest.is_empty() && rows.iter().all(inside)).then_some(RowIndex { data_len, rows })
}

/// Writes an index under a temporary name, syncs it, and gives it its name.
pub(super) fn store(path: &Path, index: &RowIndex, fingerprint: &Fingerprint) -> std::io::Result<()> {
    write_atomically(path, |file| {
        let mut hasher = blake3::Hasher::new();
        let mut file = BufWriter::new(file);
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)
        };
        put(MAGIC)?;
        put(fingerprint)?;
        put(&index.data_len.to_le_bytes())?;
        for row in &index.rows {
            put(&row.offset.to_le_bytes())?;
            put(&row.len.to_le_bytes())?;
        }
        file.write_all(hasher.finalize().as_bytes())?;
        file.flush()
    })
}

/// Unpacks a gzip file (of any number of members) to `target`.
pub(super) fn unpack(packed: &Path, target: &mut File) -> std::io::Result<()> {
    let mut reader =
        flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 20, File::open(packed)?));
    std::io::copy(&mut reader, target)?;
    Ok(())
}

/// `name.json` and `idx` make `name.json.idx`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

/// The same file's index where its own folder cannot be written.
pub(super) fn in_temporary_folder(fingerprint: &Fingerprint) -> PathBuf {
    let name = blake3::Hash::from_bytes(*fingerprint).to_hex();
    std::env::temp_dir().join(format!("medgrpo-{}.idx", &name[..32]))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{RowIndex, build, fingerprint, load, store};
    use crate::medvidbench::scan::{Layout, RowSpan};

    #[test]
    fn an_index_is_read_back_only_for_its_own_file_and_only_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (data, path) = (folder.path().join("a.json"), folder.path().join("a.json.idx"));
        std::fs::write(&data, "[1, 22, {}]").unwrap();
        let print = fingerprint(&data, Layout::Array).unwrap();
        let index = build(&data, &std::fs::File::open(&data).unwrap(), Layout::Array).unwrap();
        store(&path, &index, &print).unwrap();
        let read = load(&path, &print).unwrap();
        assert_eq!(read.rows, index.rows);
        assert_eq!((read.data_len, read.rows[1]), (11, RowSpan { offset: 4, len: 2 }));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");

        let whole = std::fs::read(&path).unwrap();
        for num_bytes in [0, 10, whole.len() - 1] {
            std::fs::write(&path, &whole[..num_bytes]).unwrap();
            assert!(load(&path, &print).is_none());
        }
        let mut flipped = whole.clone();
        flipped[60] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(load(&path, &print).is_none());

        std::fs::write(&path, whole).unwrap();
        std::fs::OpenOptions::new().append(true).open(&data).unwrap().write_all(b" ").unwrap();
        assert!(load(&path, &fingerprint(&data, Layout::Array).unwrap()).is_none());
    }

    #[test]
    fn rows_outside_of_the_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.idx");
        let print = [7; 32];
        for row in [RowSpan { offset: 9, len: 2 }, RowSpan { offset: u64::MAX, len: 2 }] {
            store(&path, &RowIndex { data_len: 10, rows: vec![row] }, &print).unwrap();
            assert!(load(&path, &print).is_none());
        }
    }
}
