//! The frames of a clip, whatever it is stored as.

use std::{collections::HashMap, path::Path};

use image::RgbImage;
use rayon::prelude::*;

use super::{decode_frames, draw_region, image_size, load_image, probe};
use crate::{DatasetError, Frames, VideoRef};

/// What a plan needs to know of a clip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipInfo {
    /// Number of frames: of the list, or of the whole video file.
    pub num_frames: usize,
    /// Rate of those frames in frames per second.
    pub fps: f64,
    /// Width in pixels (of the list's first frame).
    pub width: u32,
    /// Height in pixels (of the list's first frame).
    pub height: u32,
}

/// Looks at a clip without decoding it. A window (`start_sec`, `end_sec`) is for the caller's plan to apply.
///
/// # Errors
/// Media that cannot be read; an empty list of frames.
pub fn clip_info(clip: &VideoRef) -> Result<ClipInfo, DatasetError> {
    match &clip.frames {
        Frames::Files { paths, fps } => {
            let first = paths.first().ok_or_else(|| DatasetError::Media {
                path: Path::new("").to_owned(),
                message: "the clip's list of frames is empty".into(),
            })?;
            let (width, height) = image_size(first)?;
            Ok(ClipInfo { num_frames: paths.len(), fps: *fps, width, height })
        }
        Frames::Video { path, .. } => {
            let info = probe(path)?;
            Ok(ClipInfo {
                num_frames: info.num_frames,
                fps: info.fps,
                width: info.width,
                height: info.height,
            })
        }
    }
}

/// The frames of a clip at `indices` (places in the list, or frames of the video file), in that order, at their native
/// size and with the region drawn. Files of a list are decoded in parallel, each once however often it is wished.
///
/// # Errors
/// Media that cannot be read; frames of different sizes; a region outside of its frame, or on a frame that is not
/// among `indices`.
///
/// # Panics
/// If an index lies beyond a list of files.
pub fn load_frames(clip: &VideoRef, indices: &[usize]) -> Result<Vec<RgbImage>, DatasetError> {
    let mut frames = match &clip.frames {
        Frames::Files { paths, .. } => {
            let mut slots = HashMap::new();
            let mut unique = Vec::new();
            let slot_of_index: Vec<usize> = indices
                .iter()
                .map(|&index| {
                    *slots.entry(paths[index].as_path()).or_insert_with(|| {
                        unique.push(paths[index].as_path());
                        unique.len() - 1
                    })
                })
                .collect();
            let images = unique.into_par_iter().map(load_image).collect::<Result<Vec<_>, _>>()?;
            spread(images, &slot_of_index)
        }
        Frames::Video { path, .. } => decode_frames(path, indices)?,
    };
    let media = |index: usize, message: String| {
        let path = match &clip.frames {
            Frames::Files { paths, .. } => paths.get(index).cloned().unwrap_or_default(),
            Frames::Video { path, .. } => path.clone(),
        };
        DatasetError::Media { path, message }
    };
    if let Some(first) = frames.first().map(RgbImage::dimensions)
        && let Some(odd) = frames.iter().position(|frame| frame.dimensions() != first)
    {
        let (width, height) = frames[odd].dimensions();
        return Err(media(
            indices[odd],
            format!(
                "the frame has {width}x{height} pixels, but the clip's first has {}x{}",
                first.0, first.1
            ),
        ));
    }
    if let Some(region) = &clip.region {
        // A frame may stand in the list twice; the box is on the place that the record names.
        let at = indices.iter().position(|&index| index == region.frame_index).ok_or_else(|| {
            let message =
                format!("the box is on frame {}, which is not among those wished", region.frame_index);
            media(region.frame_index, message)
        })?;
        draw_region(&mut frames[at], &region.box_xyxy).map_err(|reason| media(indices[at], reason))?;
    }
    Ok(frames)
}

/// Each image at all its places, cloned only where it is needed again.
fn spread(images: Vec<RgbImage>, slot_of_index: &[usize]) -> Vec<RgbImage> {
    let mut last_use = vec![0; images.len()];
    for (at, &slot) in slot_of_index.iter().enumerate() {
        last_use[slot] = at;
    }
    let mut images: Vec<Option<RgbImage>> = images.into_iter().map(Some).collect();
    slot_of_index
        .iter()
        .enumerate()
        .map(|(at, &slot)| {
            let image = if last_use[slot] == at { images[slot].take() } else { images[slot].clone() };
            image.expect("an image is taken at its last use")
        })
        .collect()
}
