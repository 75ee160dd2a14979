//! Writing messages.

use std::{io::Write, path::Path};

use serde_json::{Value, json};

use crate::{Content, DatasetError, Frames, Message, atomic::write_atomically};

/// Writes conversations as a messages file, one a line; media paths become relative to its folder where they lie in it.
/// The file appears whole or not at all.
///
/// # Errors
/// A file that cannot be written, a path that is not UTF-8, and a clip with a drawn box, which the format cannot say.
pub fn write_messages<'a>(
    path: &Path,
    conversations: impl IntoIterator<Item = &'a [Message]>,
) -> Result<(), DatasetError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut wrong = None;
    let written = write_atomically(path, |file| {
        let mut file = std::io::BufWriter::new(file);
        for (row, messages) in conversations.into_iter().enumerate() {
            let messages = messages.iter().map(|message| {
                let content: Vec<Value> = message
                    .content
                    .iter()
                    .map(|part| part_value(part, folder))
                    .collect::<Result<_, String>>()?;
                Ok(json!({"role": message.role.as_str(), "content": content}))
            });
            match messages.collect::<Result<Vec<Value>, String>>() {
                Ok(messages) => {
                    serde_json::to_writer(&mut file, &json!({"messages": messages}))?;
                    file.write_all(b"\n")?;
                }
                Err(message) => {
                    wrong = Some(DatasetError::Row { path: path.to_owned(), row, message });
                    return Err(std::io::ErrorKind::InvalidInput.into());
                }
            }
        }
        file.flush()
    });
    match wrong {
        Some(error) => Err(error),
        None => written.map_err(|source| DatasetError::Io { path: path.to_owned(), source }),
    }
}

fn part_value(part: &Content, folder: &Path) -> Result<Value, String> {
    let text = |path: &Path| {
        let path = path.strip_prefix(folder).unwrap_or(path);
        path.to_str().map(str::to_owned).ok_or_else(|| format!("the path {} is not UTF-8", path.display()))
    };
    Ok(match part {
        Content::Text(words) => json!({"type": "text", "text": words}),
        Content::Image(image) => json!({"type": "image", "image": text(&image.path)?}),
        Content::Video(clip) => {
            if clip.region.is_some() {
                return Err("a clip with a drawn box cannot be written as messages".into());
            }
            let mut part = json!({"type": "video"});
            match &clip.frames {
                Frames::Files { paths, fps } => {
                    part["video"] = paths.iter().map(|path| text(path)).collect::<Result<Value, String>>()?;
                    part["fps"] = json!(fps);
                }
                Frames::Video { path, fps, start_sec, end_sec } => {
                    part["video"] = json!(text(path)?);
                    for (key, value) in [("fps", fps), ("video_start", start_sec), ("video_end", end_sec)] {
                        if let Some(value) = value {
                            part[key] = json!(value);
                        }
                    }
                }
            }
            part
        }
    })
}

#[cfg(test)]
mod tests {
    use super::write_messages;
    use crate::{Content, Frames, ImageRef, Message, Region, Role, VideoRef, read_messages};

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.jsonl");
        let at = |name: &str| folder.path().join(name);
        let video = |frames| Content::Video(VideoRef { frames, region: None });
        let conversation = vec![
            Message {
                role: Role::User,
                content: vec![
                    Content::Image(ImageRef { path: at("a.png") }),
                    video(Frames::Files { paths: vec![at("f/0.jpg"), at("f/0.jpg")], fps: 0.5 }),
                    video(Frames::Video {
                        path: "/b.mp4".into(),
                        fps: Some(2.0),
                        start_sec: None,
                        end_sec: Some(3.5),
                    }),
                    Content::Text("Line\nbreak \u{2028} \"quote\"".into()),
                ],
            },
            Message { role: Role::Assistant, content: vec![Content::Text(String::new())] },
        ];
        write_messages(&path, [conversation.as_slice(), &conversation[1..]]).unwrap();
        let read: Vec<_> = read_messages(&path).unwrap().map(|record| record.unwrap().messages).collect();
        assert_eq!(read, [conversation.clone(), conversation[1..].to_vec()]);
        assert!(!std::fs::read_to_string(&path).unwrap().contains(folder.path().to_str().unwrap()));

        let frames = Frames::Files { paths: vec![at("0.jpg")], fps: 1.0 };
        let region = Some(Region { frame_index: 0, box_xyxy: [0.0, 0.0, 1.0, 1.0] });
        let drawn =
            [Message { role: Role::User, content: vec![Content::Video(VideoRef { frames, region })] }];
        let error = write_messages(&path, [drawn.as_slice()]).unwrap_err().to_string();
        assert!(error.contains("row 0: a clip with a drawn box"), "{error}");
        assert_eq!(read_messages(&path).unwrap().count(), 2, "the old file stays");
    }
}
