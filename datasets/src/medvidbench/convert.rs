//! From a record as written to a [`TaskSample`]: the one place that says what MedVidBench's keys mean.
//!
//! Messages are the reasons alone; the file and the row are added by the reader.

use std::path::{Component, Path, PathBuf};

use super::{
    gold,
    schema::{Media, Record, RegionInfo, Scalar, Turn},
};
use crate::{Content, Frames, Message, Region, Role, SourceId, TaskKind, TaskSample, VideoRef};

/// Where the clip stands in a human turn.
const VIDEO_MARK: &str = "<video>";

/// File names that end so are videos; everything else is a frame.
const VIDEO_EXTENSIONS: [&str; 14] =
    ["mp4", "mkv", "avi", "mov", "webm", "mpg", "mpeg", "m4v", "ts", "m2ts", "wmv", "flv", "ogv", "3gp"];

/// What the record in `row` says, its media under `media_root`.
///
/// # Errors
/// The reason the record cannot be used, with the key at fault.
pub fn convert(record: Record, row: usize, media_root: &Path) -> Result<TaskSample, String> {
    let task = TaskKind::from_qa_type(&record.qa_type)
        .ok_or_else(|| format!("qa_type \"{}\" is none of MedVidBench's tasks", record.qa_type))?;
    let source = source(&record)?;
    let fps = fps(record.metadata.fps.as_ref())?;
    record.metadata.clip_range()?;
    let video_id = video_id(&record)?;
    let region = if record.is_rc.unwrap_or(record.rc_info.is_some()) {
        Some(region(&record)?)
    } else if task == TaskKind::RegionCaption {
        return Err("a region caption without is_RC and RC_info: nothing says which box is meant".into());
    } else {
        None
    };
    let video = VideoRef { frames: frames(&record.video, fps, media_root)?, region };
    if video.region.is_some() && matches!(video.frames, Frames::Video { .. }) {
        return Err("RC_info needs `video` to be a list of frame files: a box is drawn on one of them".into());
    }
    let (prompt, answer) = conversation(&record.conversations, video)?;
    let gold = gold::gold(task, &record.struc_info, answer.as_deref())?;
    Ok(TaskSample {
        row,
        id: record.id.as_ref().map_or_else(|| format!("row {row}"), Scalar::to_text),
        source,
        task,
        qa_type: record.qa_type,
        video_id,
        prompt,
        answer,
        gold,
        fps,
    })
}

fn source(record: &Record) -> Result<SourceId, String> {
    [&record.data_source, &record.dataset_name]
        .into_iter()
        .flatten()
        .find(|name| !name.is_empty() && *name != "Unknown")
        .map(|name| SourceId::from(name.as_str()))
        .ok_or_else(|| "neither data_source nor dataset_name names the source".into())
}

fn fps(value: Option<&Scalar>) -> Result<f64, String> {
    let value = value.ok_or("metadata.fps is missing")?;
    value
        .to_f64()
        .filter(|fps| *fps > 0.0)
        .ok_or_else(|| format!("metadata.fps is \"{}\", expected frames per second above 0", value.to_text()))
}

/// The source video: `metadata.video_id`, else the part of the id that names it (`fps$video$start$end` or
/// `video&&start&&end&&fps`), without the `_partN` that marks a piece of one video.
fn video_id(record: &Record) -> Result<String, String> {
    if let Some(name) = record.metadata.video_id.as_ref().map(Scalar::to_text).filter(|name| !name.is_empty())
    {
        return Ok(name);
    }
    let id = record.id.as_ref().map(Scalar::to_text).unwrap_or_default();
    let name = match id.split_once("&&") {
        Some((name, _)) => name,
        None => id.split('$').nth(1).unwrap_or_default(),
    };
    let name = match name.rsplit_once("_part") {
        Some((whole, part)) if !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        _ => name,
    };
    if name.is_empty() {
        return Err(format!("metadata.video_id is missing and the id \"{id}\" names no video"));
    }
    Ok(name.to_owned())
}

fn frames(media: &Media, fps: f64, media_root: &Path) -> Result<Frames, String> {
    let files = match media {
        Media::List(files) => files.as_slice(),
        Media::One(file) => std::slice::from_ref(file),
    };
    if files.is_empty() {
        return Err("video is an empty list: the clip has no frames".into());
    }
    if let [file] = files
        && is_video(file)
    {
        let path = resolve(media_root, file).map_err(|reason| format!("video: {reason}"))?;
        return Ok(Frames::Video { path, fps: Some(fps), start_sec: None, end_sec: None });
    }
    let paths = files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            if is_video(file) {
                return Err(format!("video[{index}] \"{file}\" is a video file among frames"));
            }
            resolve(media_root, file).map_err(|reason| format!("video[{index}]: {reason}"))
        })
        .collect::<Result<_, String>>()?;
    Ok(Frames::Files { paths, fps })
}

fn is_video(file: &str) -> bool {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    VIDEO_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Joins a path of a data file to the media root.
///
/// # Errors
/// An empty path, one with a NUL, and one that leaves the root (absolute, or by `..`). Symbolic links inside the root
/// are the user's own and are followed.
fn resolve(media_root: &Path, file: &str) -> Result<PathBuf, String> {
    if file.is_empty() || file.contains('\0') {
        return Err(format!("{file:?} is no path"));
    }
    let path = Path::new(file);
    let relative = if path.is_absolute() {
        path.strip_prefix(media_root).map_err(|_| {
            format!("\"{file}\" is absolute and outside the media root {}", media_root.display())
        })?
    } else {
        path
    };
    let mut depth = 0_usize;
    for part in relative.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return Err(format!("\"{file}\" leaves the media root {}", media_root.display())),
        }
    }
    Ok(media_root.join(relative))
}

/// The box and the frame it is on: `RC_info`, else the truth's own `start_frame` and `start_frame_bbox`.
fn region(record: &Record) -> Result<Region, String> {
    let item = match &record.struc_info {
        serde_json::Value::Array(list) => list.first(),
        other => Some(other),
    };
    // The truth may stand bare or under `struc_info` beside the question.
    let inner = item.map(|item| item.get("struc_info").unwrap_or(item));
    let info = inner.and_then(|inner| serde_json::from_value::<RegionInfo>(inner.clone()).ok());
    let given = record.rc_info.as_ref();
    let corners = given
        .and_then(|info| info.start_frame_bbox.as_ref())
        .or_else(|| info.as_ref()?.start_frame_bbox.as_ref())
        .ok_or("is_RC is set, but RC_info.start_frame_bbox is missing")?;
    let corners = serde_json::to_value(corners).map_err(|error| error.to_string())?;
    let box_xyxy = gold::corners(&corners).map_err(|reason| format!("RC_info.start_frame_bbox {reason}"))?;
    let starts = [
        given.and_then(|info| info.start_frame.as_ref()),
        info.as_ref().and_then(|info| info.start_frame.as_ref()),
    ];
    let frame_index = starts.into_iter().flatten().find_map(|start| frame_index(record, start)).ok_or_else(
        || match starts[0].or(starts[1]) {
            Some(start) => format!("RC_info.start_frame \"{}\" is no frame of the clip", start.to_text()),
            None => "is_RC is set, but RC_info.start_frame is missing".into(),
        },
    )?;
    Ok(Region { frame_index, box_xyxy })
}

/// The first frame of the list that `start` names: a file of `video` (the same path, else the same folder and file
/// name, because releases differ in their leading folders), or a number of `sampled_video_frames`.
fn frame_index(record: &Record, start: &Scalar) -> Option<usize> {
    let Media::List(files) = &record.video else { return None };
    let name = start.to_text();
    if let Some(number) = start.to_f64() {
        let numbers = record.sampled_video_frames.as_ref()?;
        return numbers
            .iter()
            .position(|frame| frame.to_f64() == Some(number))
            .filter(|&index| index < files.len());
    }
    let tail = |file: &str| {
        let mut parts = file.rsplit('/').map(str::to_owned);
        (parts.next(), parts.next())
    };
    let exact = files.iter().position(|file| *file == name);
    exact.or_else(|| {
        let wished = tail(&name);
        files.iter().position(|file| tail(file) == wished)
    })
}

/// The turns up to the answer, and the answer.
fn conversation(turns: &[Turn], video: VideoRef) -> Result<(Vec<Message>, Option<String>), String> {
    let (turns, answer) = match turns.split_last() {
        Some((last, before)) if role(last)? == Role::Assistant => {
            (before, Some(last.value.clone()).filter(|text| !text.trim().is_empty()))
        }
        _ => (turns, None),
    };
    let marks: usize = turns
        .iter()
        .filter(|turn| matches!(role(turn), Ok(Role::User)))
        .map(|turn| turn.value.matches(VIDEO_MARK).count())
        .sum();
    if marks > 1 {
        return Err(format!(
            "conversations mark the clip {marks} times with {VIDEO_MARK}, but `video` holds one clip"
        ));
    }
    // Without a mark the clip comes first, as in the benchmark's own inference.
    let mut video = Some(video);
    let mut prompt = Vec::with_capacity(turns.len());
    for (index, turn) in turns.iter().enumerate() {
        let role = role(turn).map_err(|reason| format!("conversations[{index}]: {reason}"))?;
        let mut content = Vec::with_capacity(2);
        let push_text = |content: &mut Vec<Content>, text: &str| {
            if !text.is_empty() {
                content.push(Content::Text(text.to_owned()));
            }
        };
        match turn.value.split_once(VIDEO_MARK) {
            Some((before, after)) if role == Role::User => {
                push_text(&mut content, before);
                content.extend(video.take().map(Content::Video));
                push_text(&mut content, after.strip_prefix('\n').unwrap_or(after));
            }
            _ => {
                if role == Role::User && marks == 0 {
                    content.extend(video.take().map(Content::Video));
                }
                push_text(&mut content, &turn.value);
            }
        }
        if !content.iter().any(|part| matches!(part, Content::Text(text) if !text.trim().is_empty())) {
            return Err(format!("conversations[{index}] has no text"));
        }
        prompt.push(Message { role, content });
    }
    match prompt.last() {
        Some(last) if last.role == Role::User => Ok((prompt, answer)),
        Some(_) => Err("conversations: the turn before the answer is not the human's".into()),
        None => Err("conversations hold no question".into()),
    }
}

fn role(turn: &Turn) -> Result<Role, String> {
    match turn.from.as_str() {
        "human" | "user" => Ok(Role::User),
        "gpt" | "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        other => Err(format!("from is \"{other}\", expected human or gpt")),
    }
}
