//! Reading messages.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::MessagesRecord;
use crate::{Content, DatasetError, Frames, ImageRef, Message, Role, VideoRef};

/// Rate of a list of frames that names none, in frames per second (the reference processor's default).
pub const DEFAULT_FPS: f64 = 2.0;

/// A line longer than this is refused.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// The records of a messages file, one at a time.
///
/// # Errors
/// A file that cannot be opened; then, for each record, a line that is no record: the others stay readable.
pub fn read_messages(
    path: &Path,
) -> Result<impl Iterator<Item = Result<MessagesRecord, DatasetError>> + use<>, DatasetError> {
    let path = path.to_owned();
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let file =
        std::fs::File::open(&path).map_err(|source| DatasetError::Io { path: path.clone(), source })?;
    let mut reader = BufReader::new(file);
    let (mut index, mut ended) = (0, false);
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        while !ended {
            line.clear();
            let num_bytes =
                match std::io::Read::take(&mut reader, MAX_LINE_BYTES).read_until(b'\n', &mut line) {
                    Ok(num_bytes) => num_bytes,
                    Err(source) => {
                        ended = true;
                        return Some(Err(DatasetError::Io { path: path.clone(), source }));
                    }
                };
            if num_bytes == 0 {
                ended = true;
            } else if !line.trim_ascii().is_empty() {
                let row = index;
                index += 1;
                let record = if num_bytes as u64 == MAX_LINE_BYTES {
                    ended = true;
                    Err(format!("the line has more than {MAX_LINE_BYTES} bytes"))
                } else {
                    parse_line(&line, &folder)
                };
                return Some(
                    record
                        .map(|messages| MessagesRecord { index: row, messages })
                        .map_err(|message| DatasetError::Row { path: path.clone(), row, message }),
                );
            }
        }
        None
    }))
}

/// The messages of one line, media paths relative to `folder`.
///
/// # Errors
/// The reason why the line is no record, with the place in it.
pub fn parse_line(line: &[u8], folder: &Path) -> Result<Vec<Message>, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8: byte {} of the line is invalid", error.valid_up_to()))?;
    let record: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| error.to_string())?;
    let list = record
        .get("messages")
        .and_then(Value::as_array)
        .ok_or("expected {\"messages\": [{\"role\": …, \"content\": …}, …]}")?;
    if list.is_empty() {
        return Err("messages is empty".into());
    }
    list.iter()
        .enumerate()
        .map(|(index, value)| message(value, folder).map_err(|reason| format!("messages[{index}]{reason}")))
        .collect()
}

fn message(value: &Value, folder: &Path) -> Result<Message, String> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let given = value.get("role").unwrap_or(&Value::Null);
            return Err(format!(".role is {given}, expected \"system\", \"user\" or \"assistant\""));
        }
    };
    let content = match value.get("content") {
        Some(Value::String(text)) => vec![Content::Text(text.clone())],
        Some(Value::Array(parts)) => parts
            .iter()
            .enumerate()
            .map(|(index, value)| {
                part(value, folder).map_err(|reason| format!(".content[{index}]: {reason}"))
            })
            .collect::<Result<_, String>>()?,
        _ => return Err(".content is missing; expected a string or a list of parts".into()),
    };
    Ok(Message { role, content })
}

fn part(value: &Value, folder: &Path) -> Result<Content, String> {
    let Value::Object(part) = value else {
        return match value {
            Value::String(text) => Ok(Content::Text(text.clone())),
            other => Err(format!("is {other}, expected an object")),
        };
    };
    // As in the reference's template, a part without a type is what its key says.
    let kind = match part.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(format!("type is {other}, expected \"text\", \"image\" or \"video\"")),
        None => {
            ["image", "video", "text"].into_iter().find(|key| part.contains_key(*key)).unwrap_or_default()
        }
    };
    match kind {
        "text" => {
            only(part, &["text"])?;
            let text = part
                .get("text")
                .and_then(Value::as_str)
                .ok_or("a part of type text without a string `text`")?;
            Ok(Content::Text(text.to_owned()))
        }
        "image" => {
            only(part, &["image"])?;
            let file = part
                .get("image")
                .and_then(Value::as_str)
                .ok_or("a part of type image without a path `image`")?;
            Ok(Content::Image(ImageRef { path: local(folder, file)? }))
        }
        "video" => {
            only(part, &["video", "fps", "video_start", "video_end"])?;
            video(part, folder).map(Content::Video)
        }
        "" => Err("has none of the keys text, image and video".into()),
        other => Err(format!("type \"{other}\" is not supported, expected \"text\", \"image\" or \"video\"")),
    }
}

fn video(part: &Map<String, Value>, folder: &Path) -> Result<VideoRef, String> {
    let number = |key: &str, at_least: f64| match part.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_f64()
            .filter(|number| number.is_finite() && *number >= at_least)
            .map(Some)
            .ok_or_else(|| format!("{key} is {value}, expected a number, {at_least} or more")),
    };
    let fps = number("fps", f64::MIN_POSITIVE).map_err(|_| {
        let given = part.get("fps").unwrap_or(&Value::Null);
        format!("fps is {given}, expected frames per second above 0")
    })?;
    let (start_sec, end_sec) = (number("video_start", 0.0)?, number("video_end", 0.0)?);
    let frames = match part.get("video") {
        Some(Value::String(file)) => {
            if let (Some(start), Some(end)) = (start_sec, end_sec)
                && start >= end
            {
                return Err(format!("video_end ({end}) is not after video_start ({start})"));
            }
            Frames::Video { path: local(folder, file)?, fps, start_sec, end_sec }
        }
        Some(Value::Array(files)) => {
            if start_sec.or(end_sec).is_some() {
                return Err(
                    "video_start and video_end belong to a video file; a list of frames is used whole".into(),
                );
            }
            let paths = files
                .iter()
                .map(|file| match file {
                    Value::String(file) => local(folder, file),
                    other => Err(format!("video lists {other}, expected paths of frames")),
                })
                .collect::<Result<Vec<_>, String>>()?;
            if paths.is_empty() {
                return Err("video is an empty list: the clip has no frames".into());
            }
            Frames::Files { paths, fps: fps.unwrap_or(DEFAULT_FPS) }
        }
        _ => return Err("a part of type video without `video`, a path or a list of paths".into()),
    };
    Ok(VideoRef { frames, region: None })
}

fn only(part: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    // Templates and data frames fill absent keys with null.
    match part
        .iter()
        .find(|(key, value)| *key != "type" && !known.contains(&key.as_str()) && !value.is_null())
    {
        Some((key, _)) => {
            Err(format!("the key \"{key}\" is not supported here; known are type, {}", known.join(", ")))
        }
        None => Ok(()),
    }
}

fn local(folder: &Path, file: &str) -> Result<PathBuf, String> {
    let file = file.strip_prefix("file://").unwrap_or(file);
    if file.is_empty() || file.contains('\0') {
        return Err(format!("{file:?} is no path"));
    }
    if file.starts_with("data:") || file.contains("://") {
        return Err(format!(
            "{:?} is no path; media must be files",
            file.chars().take(40).collect::<String>()
        ));
    }
    Ok(folder.join(file))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::read_messages;
    use crate::{Content, DatasetError, Frames, ImageRef, MessagesRecord, Role, VideoRef};

    fn read(text: impl AsRef<[u8]>) -> (PathBuf, Vec<Result<MessagesRecord, DatasetError>>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        std::fs::write(&path, text).unwrap();
        (folder.path().to_owned(), read_messages(&path).unwrap().collect())
    }

    #[test]
    fn all_forms_of_content() {
        let (folder, records) = read(concat!(
            r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "image", "image": "a.png"}, {"image": "/b.png"}, {"type": "text", "text": "?"}]}, {"role": "assistant", "content": [{"text": "!"}]}]}"#,
            "\n\n",
            r#"{"messages": [{"role": "user", "content": [{"type": "video", "video": ["f/0.jpg", "f/1.jpg"], "fps": 1}, {"type": "video", "video": "file:///c.mp4", "video_start": 1.5, "video_end": 9}, {"type": "video", "video": ["f/0.jpg"], "fps": null}]}], "id": 5}"#,
        ));
        let records: Vec<_> = records.into_iter().map(Result::unwrap).collect();
        assert_eq!(records.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 1]);
        let first = &records[0].messages;
        assert_eq!(
            first.iter().map(|message| message.role).collect::<Vec<_>>(),
            [Role::System, Role::User, Role::Assistant]
        );
        assert_eq!(first[0].content, [Content::Text("Be brief.".into())]);
        assert_eq!(first[1].content[0], Content::Image(ImageRef { path: folder.join("a.png") }));
        assert_eq!(first[1].content[1], Content::Image(ImageRef { path: "/b.png".into() }));
        let video = |frames| Content::Video(VideoRef { frames, region: None });
        let second = &records[1].messages[0].content;
        let paths = vec![folder.join("f/0.jpg"), folder.join("f/1.jpg")];
        assert_eq!(second[0], video(Frames::Files { paths: paths.clone(), fps: 1.0 }));
        let window =
            Frames::Video { path: "/c.mp4".into(), fps: None, start_sec: Some(1.5), end_sec: Some(9.0) };
        assert_eq!(second[1], video(window));
        assert_eq!(second[2], video(Frames::Files { paths: paths[..1].to_vec(), fps: 2.0 }));
    }

    #[test]
    fn a_wrong_line_is_named_and_the_others_are_read() {
        let part = |part: &str| {
            format!("{{\"messages\": [{{\"role\": \"user\", \"content\": [{part}]}}]}}\n").into_bytes()
        };
        let lines: [(Vec<u8>, &str); 14] = [
            (b"{\n".to_vec(), "EOF"),
            (b"{\"messages\": \"\xff\"}\n".to_vec(), "not UTF-8"),
            (b"{\"messages\": []}\n".to_vec(), "messages is empty"),
            (
                b"{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}\n".to_vec(),
                "messages[0].role is \"tool\"",
            ),
            (b"{\"messages\": [{\"role\": \"user\"}]}\n".to_vec(), "messages[0].content is missing"),
            (
                part(r#"{"type": "image_url", "image_url": {"url": "x"}}"#),
                "content[0]: type \"image_url\" is not supported",
            ),
            (part(r#"{"type": "image", "image": "https://x/y.png"}"#), "media must be files"),
            (
                part(r#"{"type": "image", "image": "a.png", "max_pixels": 5}"#),
                "\"max_pixels\" is not supported",
            ),
            (part(r#"{"type": "video", "video": [], "fps": 2}"#), "no frames"),
            (part(r#"{"type": "video", "video": ["a"], "fps": 0}"#), "fps is 0"),
            (part(r#"{"type": "video", "video": ["a"], "fps": "abc"}"#), "fps is \"abc\""),
            (part(r#"{"type": "video", "video": "a", "video_start": 3, "video_end": 3}"#), "not after"),
            (part(r#"{"type": "text"}"#), "without a string `text`"),
            (part("{}"), "none of the keys"),
        ];
        let mut text: Vec<u8> = lines.iter().flat_map(|(line, _)| line.clone()).collect();
        text.extend(part(r#"{"type": "text", "text": "last"}"#));
        let (_, records) = read(text);
        assert_eq!(records.len(), lines.len() + 1);
        for (row, (record, (_, wanted))) in records.iter().zip(&lines).enumerate() {
            let error = record.as_ref().expect_err("the line is wrong").to_string();
            assert!(error.contains(&format!("m.jsonl, row {row}: ")) && error.contains(wanted), "{error}");
        }
        assert_eq!(records.last().unwrap().as_ref().unwrap().index, lines.len());
    }
}
