//! A sample for a model behind an API: frames as JPEGs of the official size, their times in words.
//!
//! Models of ours learn of time from positions; others are told. Boxes are meant in pixels of the original frames, which
//! such a model does not see, so their size is told as well.

use anyhow::Result;
use image::{RgbImage, codecs::jpeg::JpegEncoder};
use medgrpo_datasets::{
    Content, Frames, Role, TaskSample, VideoRef,
    video::{clip_info, load_frames, load_image},
};
use medgrpo_model::processor::{PixelRange, ResizeRule, resize_bicubic, smart_resize};
use medgrpo_trainers::prepare::VideoSampling;
use rayon::prelude::*;

/// Sides of what is sent are multiples of this, as in the official inference.
const SIDE_FACTOR: usize = 28;
/// High enough that a thin line, such as the drawn box, stays clean.
const JPEG_QUALITY: u8 = 90;

/// A turn of the conversation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) role: Role,
    pub(super) parts: Vec<Part>,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Text(String),
    Jpeg(Vec<u8>),
}

/// The conversation of a sample; media within `limits`.
///
/// # Errors
/// Media that cannot be read or brought to size.
pub(super) fn turns(sample: &TaskSample, limits: PixelRange) -> Result<Vec<Turn>, String> {
    let turns = sample.prompt.iter().map(|message| {
        let mut parts = Vec::new();
        for content in &message.content {
            match content {
                Content::Text(text) => parts.push(Part::Text(text.clone())),
                Content::Image(image) => {
                    let image = load_image(&image.path).map_err(|error| error.to_string())?;
                    parts.push(Part::Jpeg(jpeg(&image, limits)?));
                }
                Content::Video(clip) => parts.extend(clip_parts(clip, limits)?),
            }
        }
        Ok(Turn { role: message.role, parts })
    });
    turns.collect()
}

fn clip_parts(clip: &VideoRef, limits: PixelRange) -> Result<Vec<Part>, String> {
    let info = clip_info(clip).map_err(|error| error.to_string())?;
    let plan = VideoSampling::default().plan(clip, &info).map_err(|error| error.to_string())?;
    let frames = load_frames(clip, &plan.indices).map_err(|error| error.to_string())?;
    let jpegs: Vec<Vec<u8>> =
        frames.par_iter().map(|frame| jpeg(frame, limits)).collect::<Result<_, String>>()?;
    let start_sec = match &clip.frames {
        Frames::Files { .. } => 0.0,
        Frames::Video { start_sec, .. } => start_sec.unwrap_or(0.0),
    };
    let time = |index: usize| seconds(index as f64 / info.fps - start_sec);
    let mut intro = format!(
        "A video clip follows as {} frames ({} a second). Before each frame stands its time in seconds from the start of \
         the clip. The original frames have {} x {} pixels; give boxes in those pixels.",
        jpegs.len(),
        plan.sample_fps,
        info.width,
        info.height
    );
    if let Some(region) = &clip.region {
        intro.push_str(&format!(
            " A green box is drawn on the frame at {} seconds.",
            time(region.frame_index)
        ));
    }
    let mut parts = vec![Part::Text(intro)];
    for (index, jpeg) in plan.indices.into_iter().zip(jpegs) {
        parts.push(Part::Text(format!("{} seconds:", time(index))));
        parts.push(Part::Jpeg(jpeg));
    }
    Ok(parts)
}

/// A time with one digit after the point, as the answers have it, or two where it needs them.
fn seconds(time_sec: f64) -> String {
    let one_digit = (time_sec * 10.0 - (time_sec * 10.0).round()).abs() < 1e-6;
    // Not "-0.0".
    let time_sec = if time_sec.abs() < 1e-6 { 0.0 } else { time_sec };
    if one_digit { format!("{time_sec:.1}") } else { format!("{time_sec:.2}") }
}

fn jpeg(image: &RgbImage, limits: PixelRange) -> Result<Vec<u8>, String> {
    let (height, width) = (image.height() as usize, image.width() as usize);
    let (height, width) = smart_resize(ResizeRule::QwenVlUtils, height, width, SIDE_FACTOR, limits)?;
    let resized = resize_bicubic(image, height, width);
    let mut bytes = Vec::new();
    resized
        .write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, Message, Region, SourceId, TaskKind};

    use super::*;

    const OFFICIAL: PixelRange = PixelRange { min_pixels: 6_272, max_pixels: 37_632 };

    #[test]
    fn frames_come_with_their_times_at_the_official_size() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3).map(|frame| folder.path().join(format!("{frame}.png"))).collect();
        for path in &paths {
            RgbImage::from_pixel(640, 360, [120, 60, 60].into()).save(path).unwrap();
        }
        let clip = VideoRef {
            frames: Frames::Files { paths, fps: 0.3 },
            region: Some(Region { frame_index: 1, box_xyxy: [100.0, 100.0, 500.0, 300.0] }),
        };
        let content = vec![Content::Video(clip), Content::Text("What is in the box?".to_owned())];
        let sample = TaskSample {
            row: 0,
            id: String::new(),
            source: SourceId::from("AVOS"),
            task: TaskKind::RegionCaption,
            qa_type: "region_caption_gpt".to_owned(),
            video_id: "v".to_owned(),
            prompt: vec![Message { role: Role::User, content }],
            answer: None,
            gold: Gold::Hidden,
            fps: 0.3,
        };
        let turns = turns(&sample, OFFICIAL).unwrap();
        assert_eq!(turns.len(), 1);
        let texts: Vec<&str> = turns[0]
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Jpeg(_) => None,
            })
            .collect();
        assert!(texts[0].contains("3 frames (0.3 a second)"), "{}", texts[0]);
        assert!(texts[0].contains("640 x 360") && texts[0].contains("frame at 3.33 seconds"), "{}", texts[0]);
        assert_eq!(texts[1..], ["0.0 seconds:", "3.33 seconds:", "6.67 seconds:", "What is in the box?"]);
        let frames: Vec<RgbImage> = turns[0]
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Jpeg(bytes) => Some(image::load_from_memory(bytes).unwrap().into_rgb8()),
                Part::Text(_) => None,
            })
            .collect();
        // beta = sqrt(640 * 360 / 37632) = 2.474: 145.5 -> 140, 258.7 -> 252.
        assert_eq!(frames.iter().map(RgbImage::dimensions).collect::<Vec<_>>(), [(252, 140); 3]);
        let green =
            |frame: &RgbImage| frame.pixels().filter(|pixel| pixel.0[1] > 140 && pixel.0[0] < 110).count();
        assert_eq!(frames.iter().map(|frame| green(frame) > 50).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn times_have_one_digit_unless_they_need_two() {
        assert_eq!([0.0, -1e-9, 4.0, 2.5, 10.0 / 3.0].map(seconds), ["0.0", "0.0", "4.0", "2.5", "3.33"]);
    }
}
