//! Chat messages as JSON lines: the form `score`, `generate` and `inspect` read.
//!
//! A record is Hugging Face's chat form, one a line: `{"messages": [{"role", "content"}]}`, content a string or a list
//! of parts (`text`, `image`, `video`). Media paths are relative to the file. What a reader would have to ignore
//! silently (an unknown key of a part, a URL) is refused.

mod read;
mod write;

pub use read::{DEFAULT_FPS, parse_line, read_messages};
pub use write::write_messages;

use crate::Message;

/// One record of a messages file.
#[derive(Clone, Debug, PartialEq)]
pub struct MessagesRecord {
    /// Its place in the file, from 0, blank lines not counted.
    pub index: usize,
    /// The conversation.
    pub messages: Vec<Message>,
}
