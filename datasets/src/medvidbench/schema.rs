//! The MedVidBench record as it is written, in every shape seen in the wild.
//!
//! Only shapes are known here: what a record means is [`convert`](super::convert)'s business. Unknown keys are
//! ignored, because released files carry helpers of their makers (`train`, `n_frames`).

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

/// A string or a number: released files write numbers either way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a string or a number")]
pub enum Scalar {
    /// A JSON number.
    Number(Number),
    /// A JSON string.
    Text(String),
}

impl Scalar {
    /// The value as written, without quotes.
    pub fn to_text(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// The value as a finite number; `None` where it is not one.
    pub fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => number.as_f64(),
            Self::Text(text) => text.trim().parse().ok(),
        }
        .filter(|value: &f64| value.is_finite())
    }
}

/// One record of a MedVidBench file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// `fps$video$start$end` or `video&&start&&end&&fps`; not unique.
    #[serde(default)]
    pub id: Option<Scalar>,
    /// `tal`, `stg`, `dense_captioning_gpt`, …
    pub qa_type: String,
    /// Where the frames are.
    pub video: Media,
    /// The turns, in order.
    pub conversations: Vec<Turn>,
    /// The source dataset.
    #[serde(default)]
    pub data_source: Option<String>,
    /// The source dataset again; used where `data_source` is missing, empty or `Unknown`.
    #[serde(default)]
    pub dataset_name: Option<String>,
    /// Which stretch of which video, and at which rate.
    pub metadata: Metadata,
    /// The numbers of the sampled frames in the source video; strides may be ragged and frames may repeat.
    #[serde(default)]
    pub sampled_video_frames: Option<Vec<Scalar>>,
    /// Whether a box is drawn on one frame.
    #[serde(default, rename = "is_RC")]
    pub is_rc: Option<bool>,
    /// The box.
    #[serde(default, rename = "RC_info")]
    pub rc_info: Option<RegionInfo>,
    /// The structured truth; its shape depends on the task and the source.
    #[serde(default)]
    pub struc_info: Value,
}

/// Where the frames are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of frame files or the path of a video file")]
pub enum Media {
    /// One file per sampled frame (the released data), or a list of one video file.
    List(Vec<String>),
    /// One video file.
    One(String),
}

/// One turn of a record's conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// `human` or `gpt`; `user`, `assistant` and `system` are read too.
    pub from: String,
    /// The text; `<video>` marks the place of the clip.
    pub value: String,
}

/// Which stretch of which video, at which rate. Of the three conventions for the stretch a record uses one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The source video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_id: Option<Scalar>,
    /// Sampling rate in frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<Scalar>,
    /// First frame of the stretch (most sources).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_video_start_frame: Option<Scalar>,
    /// Last frame of the stretch (most sources).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_video_end_frame: Option<Scalar>,
    /// First second of the stretch (NurViD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_video_start_time: Option<Scalar>,
    /// Last second of the stretch (NurViD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_video_end_time: Option<Scalar>,
    /// First frame of the stretch (`Cholec80_CVS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_frame: Option<Scalar>,
    /// Last frame of the stretch (`Cholec80_CVS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_frame: Option<Scalar>,
}

/// Where a clip was cut from its source video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClipRange {
    /// Frame numbers of the source video, both included.
    Frames {
        /// First frame.
        start: f64,
        /// Last frame.
        end: f64,
    },
    /// Seconds of the source video.
    Seconds {
        /// First second.
        start_sec: f64,
        /// Last second.
        end_sec: f64,
    },
}

impl Metadata {
    /// The stretch by whichever convention is used; `None` where the record gives none (or leaves it empty).
    ///
    /// # Errors
    /// A value that is no number, one end without the other, or an end before the start; the message names the key.
    pub fn clip_range(&self) -> Result<Option<ClipRange>, String> {
        let frames =
            bounds("input_video_", "_frame", &self.input_video_start_frame, &self.input_video_end_frame)?;
        let seconds =
            bounds("input_video_", "_time", &self.input_video_start_time, &self.input_video_end_time)?;
        let plain = bounds("", "_frame", &self.start_frame, &self.end_frame)?;
        Ok(frames
            .or(plain)
            .map(|(start, end)| ClipRange::Frames { start, end })
            .or(seconds.map(|(start_sec, end_sec)| ClipRange::Seconds { start_sec, end_sec })))
    }
}

fn bounds(
    prefix: &str,
    suffix: &str,
    start: &Option<Scalar>,
    end: &Option<Scalar>,
) -> Result<Option<(f64, f64)>, String> {
    let number = |end_name: &str, value: &Option<Scalar>| match value {
        None => Ok(None),
        Some(Scalar::Text(text)) if text.trim().is_empty() => Ok(None),
        Some(value) => value.to_f64().map(Some).ok_or_else(|| {
            format!("metadata.{prefix}{end_name}{suffix} is \"{}\", which is no number", value.to_text())
        }),
    };
    match (number("start", start)?, number("end", end)?) {
        (None, None) => Ok(None),
        (Some(start), Some(end)) if start <= end => Ok(Some((start, end))),
        (Some(start), Some(end)) => Err(format!(
            "metadata.{prefix}end{suffix} ({end}) lies before metadata.{prefix}start{suffix} ({start})"
        )),
        _ => Err(format!("metadata has only one of {prefix}start{suffix} and {prefix}end{suffix}")),
    }
}

/// The box of a region caption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionInfo {
    /// The frame the box is on: a file of `video` (the released data), or a number of `sampled_video_frames`.
    #[serde(default)]
    pub start_frame: Option<Scalar>,
    /// Corners `[x1, y1, x2, y2]` in pixels of the original frame.
    #[serde(default)]
    pub start_frame_bbox: Option<Vec<Scalar>>,
}

impl Record {
    /// Reads one record; the message names the key that is wrong.
    ///
    /// # Errors
    /// Bytes that are no UTF-8, no JSON, or no record.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, String> {
        if let Err(error) = std::str::from_utf8(bytes) {
            return Err(format!("not UTF-8: byte {} of the record is invalid", error.valid_up_to()));
        }
        // Tracking the path costs time, so it is done only for a record that is known to be wrong.
        if let Ok(record) = serde_json::from_slice(bytes) {
            return Ok(record);
        }
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let record = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.into_inner().to_string();
            if path == "." { reason } else { format!("{path}: {reason}") }
        })?;
        reader.end().map_err(|error| error.to_string())?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::{ClipRange, Record};

    fn record(metadata: &str) -> Record {
        let text = format!(
            r#"{{"id": 7, "qa_type": "tal", "video": ["a.jpg"], "conversations": [], "metadata": {metadata}, "train": true}}"#
        );
        Record::from_slice(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_three_conventions_of_the_stretch_and_both_ways_to_write_numbers() {
        let frames =
            record(r#"{"fps": "0.5", "input_video_start_frame": "260", "input_video_end_frame": 546}"#);
        assert_eq!(
            frames.metadata.clip_range().unwrap(),
            Some(ClipRange::Frames { start: 260.0, end: 546.0 })
        );
        let seconds = record(r#"{"fps": 2, "input_video_start_time": 12.5, "input_video_end_time": "90.0"}"#);
        assert_eq!(
            seconds.metadata.clip_range().unwrap(),
            Some(ClipRange::Seconds { start_sec: 12.5, end_sec: 90.0 })
        );
        let plain = record(r#"{"start_frame": "3", "end_frame": "3"}"#);
        assert_eq!(plain.metadata.clip_range().unwrap(), Some(ClipRange::Frames { start: 3.0, end: 3.0 }));
        assert_eq!(record(r#"{"input_video_start_frame": ""}"#).metadata.clip_range().unwrap(), None);
    }

    #[test]
    fn a_wrong_stretch_is_named() {
        let reason =
            |metadata: &str| record(metadata).metadata.clip_range().expect_err("the stretch is wrong");
        assert_eq!(
            reason(r#"{"input_video_start_time": "x", "input_video_end_time": "9"}"#),
            "metadata.input_video_start_time is \"x\", which is no number"
        );
        assert!(reason(r#"{"start_frame": 5, "end_frame": 4}"#).contains("lies before"));
        assert!(reason(r#"{"start_frame": 5}"#).contains("only one"));
    }

    #[test]
    fn a_wrong_record_names_its_key() {
        let reason = |text: &[u8]| Record::from_slice(text).expect_err("the record is wrong");
        let wrong_type = reason(
            br#"{"qa_type": "tal", "video": ["a"], "conversations": [{"from": 3, "value": ""}], "metadata": {}}"#,
        );
        assert!(wrong_type.starts_with("conversations[0].from: invalid type"), "{wrong_type}");
        let fps =
            reason(br#"{"qa_type": "tal", "video": ["a"], "conversations": [], "metadata": {"fps": [1]}}"#);
        assert!(fps.starts_with("metadata.fps: expected a string or a number"), "{fps}");
        assert!(reason(br#"{"video": []}"#).contains("missing field `qa_type`"));
        assert!(reason(b"{\"qa_type\": \"\xff\"}").starts_with("not UTF-8: byte 13"));
        assert!(reason(br#"{"qa_type": "tal""#).contains("EOF"));
        assert!(reason(b"5").contains("invalid type"));
    }
}
