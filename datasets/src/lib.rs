//! Medical video data: the vocabulary of samples, tasks and sources, and everything that reads or writes it.
//!
//! [`sample`] holds the nouns the other crates share. [`medvidbench`] and [`messages`] read records, [`video`] their
//! pictures; [`clip`] names what is shown; [`usable`], [`split`], [`mix`], [`cursor`] and [`runs`] say which rows are
//! seen, and in which order; [`synth`] renders a practice set. No model and no reward is known here.

mod atomic;
pub mod clip;
pub mod cursor;
pub mod error;
pub mod medvidbench;
pub mod messages;
pub mod mix;
pub mod runs;
pub mod sample;
pub mod split;
pub mod synth;
pub mod task;
pub mod usable;
pub mod video;

pub use clip::ClipId;
pub use cursor::{Cursor, CursorState};
pub use error::DatasetError;
pub use medvidbench::MedVidBenchFile;
pub use messages::{MessagesRecord, read_messages, write_messages};
pub use mix::Mixture;
pub use runs::Runs;
pub use sample::{
    Content, Frames, Gold, ImageRef, Message, Region, Role, Segment, Span, TaskSample, TimedBox, VideoRef,
};
pub use split::{Split, Subset};
pub use task::{SourceId, TaskKind};
pub use usable::{OnBadRow, RowLabel, RowProblem, Usable};

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

/// A shared dataset is a dataset.
impl<D: Dataset + ?Sized> Dataset for std::sync::Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<TaskSample, DatasetError> {
        (**self).get(index)
    }
}
