//! Medical video data: the vocabulary of samples, tasks and sources, and everything that reads or writes it.
//!
//! [`sample`] holds the nouns the other crates share.
//! No model and no reward is known here.

pub mod error;
pub mod sample;
pub mod task;

pub use error::DatasetError;
pub use sample::{Content, Frames, Gold, ImageRef, Message, Region, Role, Segment, Span, TaskSample, TimedBox, VideoRef};
pub use task::{SourceId, TaskKind};

/// A collection of samples addressed by row.
///
/// An index out of range is a bug of the caller and panics; a bad row or unreadable file is an error.
pub trait Dataset: Send + Sync {
    /// Number of rows, bad ones included.
    fn len(&self) -> usize;

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample in row `index`.
    fn get(&self, index: usize) -> Result<TaskSample, DatasetError>;
}
