//! What can be wrong with a processor's files or inputs, each naming the file and key or the visual.

use std::path::{Path, PathBuf};

/// A processor directory, conversation or picture that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A key is missing, has the wrong type or asks for something that is not implemented.
    #[error("{}: `{key}`: {message}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A picture or video cannot be turned into patches.
    #[error("visual {index} ({kind}): {message}")]
    Visual {
        /// Position among the visuals of the conversation, from 0.
        index: usize,
        /// `image` or `video`.
        kind: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// The messages cannot be turned into tokens, or do not fit the visuals.
    #[error("{0}")]
    Conversation(String),
    /// No frames can be chosen from a video as asked.
    #[error("{0}")]
    Frames(String),
    /// Pixel limits that contradict each other.
    #[error("pixel limits: {0}")]
    Limits(String),
}

impl ProcessorError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(super) fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    pub(super) fn key(path: &Path, key: &str, message: impl Into<String>) -> Self {
        Self::Key { path: path.to_owned(), key: key.to_owned(), message: message.into() }
    }
}
