//! One training or evaluation sample: what is shown, what is asked, and what is right.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{SourceId, TaskKind};

/// One question about one clip, with its gold answer.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSample {
    /// Row in the file it was read from: the only key (MedVidBench ids repeat).
    pub row: usize,
    /// The record's own id, for people.
    pub id: String,
    /// The dataset it comes from.
    pub source: SourceId,
    /// What is asked for.
    pub task: TaskKind,
    /// The record's `qa_type` as written (`dense_captioning_gpt`); the task key where a format has none.
    pub qa_type: String,
    /// Video the clip was cut from: splits keep all clips of one video together.
    pub video_id: String,
    /// The conversation up to the answer; media stand where they are shown.
    pub prompt: Vec<Message>,
    /// The demonstrated answer; `None` for test records.
    pub answer: Option<String>,
    /// The structured truth that metrics and rewards compare with.
    pub gold: Gold,
    /// Sampling rate of the clip in frames per second: frame `i` is at `i / fps` seconds.
    pub fps: f64,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The name chat templates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// Text and media in the order they are shown.
    pub content: Vec<Content>,
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Words.
    Text(String),
    /// A still image.
    Image(ImageRef),
    /// A clip.
    Video(VideoRef),
}

/// A still image on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRef {
    /// The file.
    pub path: PathBuf,
}

/// A clip on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoRef {
    /// Where the frames come from.
    pub frames: Frames,
    /// A box to draw on one frame, in the frame's own pixels, before any resize (MedVidBench `is_RC`).
    pub region: Option<Region>,
}

/// The frames of a clip.
#[derive(Clone, Debug, PartialEq)]
pub enum Frames {
    /// One image file per sampled frame; used whole.
    Files {
        /// The files in time order; a file may repeat.
        paths: Vec<PathBuf>,
        /// Frames per second of the list.
        fps: f64,
    },
    /// A video file, to be sampled.
    Video {
        /// The file.
        path: PathBuf,
        /// Wished sampling rate in frames per second; `None` for the processor's default.
        fps: Option<f64>,
        /// First second of the clip inside the file.
        start_sec: Option<f64>,
        /// Last second of the clip inside the file.
        end_sec: Option<f64>,
    },
}

/// A box on one frame of a clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Which frame of the list.
    pub frame_index: usize,
    /// Corners `[x1, y1, x2, y2]` in pixels of the original frame.
    pub box_xyxy: [f64; 4],
}

/// The structured truth of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Gold {
    /// TAG: the segments in which the action happens.
    Spans(Vec<Span>),
    /// STG: one box per requested time, in the order of the file.
    Boxes(Vec<TimedBox>),
    /// DVC: the events.
    Segments(Vec<Segment>),
    /// NAP: the class name.
    Class(String),
    /// CVS: scores of 0 to 2 by component (`two_structures`, `cystic_plate`, `hepatocystic_triangle`).
    CvsScores(BTreeMap<String, i64>),
    /// SA: scores of 1 to 5 by aspect name as written in the record.
    SkillScores(BTreeMap<String, i64>),
    /// VS, RC and open questions: the reference text.
    Text(String),
    /// Test records: the truth is held back.
    Hidden,
}

/// A stretch of a clip, in seconds from its start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// First second.
    pub start_sec: f64,
    /// Last second; may equal the first.
    pub end_sec: f64,
}

/// A box at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedBox {
    /// The time as the record writes it (`66`, `66.0`): the official scorer looks predictions up by this text.
    pub key: String,
    /// The same in seconds from the clip's start.
    pub time_sec: f64,
    /// Corners `[x1, y1, x2, y2]` in pixels of the original frame.
    pub box_xyxy: [f64; 4],
}

/// An event with its description.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// When.
    pub span: Span,
    /// What, in words.
    pub caption: String,
}
