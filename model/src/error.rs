//! What can be wrong with a checkpoint, each naming the file and the key or tensor.

use std::path::PathBuf;

use crate::processor::ProcessorError;

/// A checkpoint or input the model cannot take.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
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
    /// A key of `config.json` is missing, has the wrong type or asks for something that is not implemented.
    #[error("{}: `{key}`: {message}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Dotted path of the key.
        key: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The tensors of a checkpoint do not fit the model.
    #[error("{}: the weights do not fit their configuration:\n{report}", path.display())]
    Tensors {
        /// The checkpoint directory.
        path: PathBuf,
        /// Missing, surplus and wrong-shaped tensors by name.
        report: String,
    },
    /// An adapter that cannot be made as asked.
    #[error("LoRA: `{key}`: {message}")]
    Lora {
        /// The setting.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
    /// The processor's files cannot be read or copied.
    #[error(transparent)]
    Processor(#[from] ProcessorError),
    /// Token ids and vision inputs disagree.
    #[error("{0}")]
    Input(String),
}

impl ModelError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }
}
