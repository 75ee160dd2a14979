//! Which samples show the same, told without opening a file.
//!
//! `video_id` is not enough: one video has many clips, and a box drawn on a frame makes other pixels of the same files.
//! So what is shown is named by the media themselves, as a record gives them.

use crate::{Content, Frames, TaskSample, VideoRef};

/// Names what a sample shows: equal for the same frame files, or the same stretch of one video file, at the same rate
/// and with the same box drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClipId(pub(crate) u128);

impl TaskSample {
    /// What it shows; `None` for words alone.
    pub fn clip(&self) -> Option<ClipId> {
        // Gathered, because BLAKE3 is many times slower on a hundred short paths than on one long text.
        let mut told = Vec::new();
        for content in self.prompt.iter().flat_map(|message| &message.content) {
            match content {
                Content::Text(_) => {}
                Content::Image(image) => put(&mut told, b"image", image.path.as_os_str().as_encoded_bytes()),
                Content::Video(clip) => put_video(&mut told, clip),
            }
        }
        let hash = blake3::hash(&told);
        let head = hash.as_bytes().first_chunk::<16>().expect("a hash has 32 bytes");
        (!told.is_empty()).then(|| ClipId(u128::from_le_bytes(*head)))
    }
}

fn put_video(told: &mut Vec<u8>, clip: &VideoRef) {
    match &clip.frames {
        Frames::Files { paths, fps } => {
            for path in paths {
                put(told, b"frame", path.as_os_str().as_encoded_bytes());
            }
            put_numbers(told, b"fps", &[*fps]);
        }
        Frames::Video { path, fps, start_sec, end_sec } => {
            put(told, b"video", path.as_os_str().as_encoded_bytes());
            for (name, value) in [(&b"fps"[..], fps), (b"start", start_sec), (b"end", end_sec)] {
                put_numbers(told, name, value.as_slice());
            }
        }
    }
    if let Some(region) = &clip.region {
        put(told, b"box on", &(region.frame_index as u64).to_le_bytes());
        put_numbers(told, b"box", &region.box_xyxy);
    }
}

/// The lengths keep what stands in different places apart.
fn put(told: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for bytes in [name, value] {
        told.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        told.extend_from_slice(bytes);
    }
}

fn put_numbers(told: &mut Vec<u8>, name: &[u8], values: &[f64]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    put(told, name, &bytes);
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::ClipId;
    use crate::{Content, Dataset, Frames, ImageRef, Region, VideoRef, usable::tests::one_row};

    fn clip(content: Vec<Content>) -> Option<ClipId> {
        let mut sample = one_row().get(0).unwrap();
        sample.prompt[0].content.extend(content);
        sample.clip()
    }

    fn frames(names: &[&str], fps: f64, region: Option<Region>) -> Content {
        let paths = names.iter().map(PathBuf::from).collect();
        Content::Video(VideoRef { frames: Frames::Files { paths, fps }, region })
    }

    fn video(name: &str, fps: Option<f64>, start_sec: Option<f64>, end_sec: Option<f64>) -> Content {
        let frames = Frames::Video { path: name.into(), fps, start_sec, end_sec };
        Content::Video(VideoRef { frames, region: None })
    }

    #[test]
    fn whatever_changes_the_pixels_changes_the_name_and_words_do_not() {
        let drawn = |frame_index, x1| Some(Region { frame_index, box_xyxy: [x1, 2.0, 3.0, 4.0] });
        let shown = [
            vec![frames(&["v/1.jpg", "v/2.jpg"], 1.0, None)],
            vec![frames(&["v/2.jpg", "v/1.jpg"], 1.0, None)],
            vec![frames(&["v/1.jpgv/2.jpg"], 1.0, None)],
            vec![frames(&["v/1.jpg", "v/2.jpg"], 2.0, None)],
            vec![frames(&["v/1.jpg", "v/2.jpg"], 1.0, drawn(0, 1.0))],
            vec![frames(&["v/1.jpg", "v/2.jpg"], 1.0, drawn(1, 1.0))],
            vec![frames(&["v/1.jpg", "v/2.jpg"], 1.0, drawn(1, 1.5))],
            vec![video("v.mp4", None, None, None)],
            vec![video("w.mp4", None, None, None)],
            vec![video("v.mp4", Some(1.0), None, None)],
            vec![video("v.mp4", None, Some(1.0), None)],
            vec![video("v.mp4", None, None, Some(1.0))],
            vec![Content::Image(ImageRef { path: "v.mp4".into() })],
            vec![frames(&["v/1.jpg"], 1.0, None), frames(&["v/2.jpg"], 1.0, None)],
        ];
        let names: Vec<ClipId> = shown.iter().map(|content| clip(content.clone()).unwrap()).collect();
        for (at, (content, name)) in shown.iter().zip(&names).enumerate() {
            assert!(!names[..at].contains(name), "{content:?}");
            let mut asked = content.clone();
            asked.push(Content::Text("another question".into()));
            assert_eq!(clip(asked), Some(*name));
        }
        assert_eq!(clip(Vec::new()), None);
    }
}
