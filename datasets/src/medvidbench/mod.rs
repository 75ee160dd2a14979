//! MedVidBench: reading its records, in every shape seen in the wild, from files of any size.
//!
//! [`schema`] is the record as written, [`convert`](convert()) says what it means, [`MedVidBenchFile`] is the file.
//! A record is addressed by its row: ids repeat.

mod answer;
mod check;
mod convert;
mod file;
mod gold;
mod index;
mod recover;
mod scan;
pub mod schema;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Read, Seek},
    ops::Range,
};

pub use check::{MediaCheck, Summary};
pub use convert::convert;
pub use file::{IndexOrigin, MedVidBenchFile};

/// Where the rows of a file are, in file order: one row a line, or else one JSON array.
///
/// [`MedVidBenchFile`] asks this of the files it opens; for what has bytes and no file, such as a fuzz target.
///
/// # Errors
/// A file that cannot be read, or (as invalid data) is no whole array.
#[doc(hidden)]
pub fn row_ranges(file: impl Read + Seek, lines: bool) -> io::Result<Vec<Range<u64>>> {
    let layout = if lines { scan::Layout::Lines } else { scan::Layout::Array };
    let rows = scan::scan(file, layout).map_err(|error| match error {
        scan::ScanError::Io(error) => error,
        scan::ScanError::Shape(reason) => io::Error::new(io::ErrorKind::InvalidData, reason),
    })?;
    Ok(rows.into_iter().map(|row| row.offset..row.offset + row.len).collect())
}
