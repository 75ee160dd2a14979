//! What can be wrong with data, each with the file and row it is about.

use std::path::PathBuf;

/// A problem with a data file, a record or the media it names.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name promises.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A record is wrong.
    #[error("{}, row {row}: {message}", path.display())]
    Row {
        /// The data file.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// An image or video could not be decoded.
    #[error("{}: {message}", path.display())]
    Media {
        /// The media file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}
