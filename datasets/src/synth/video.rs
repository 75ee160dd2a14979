//! Renders one video to its files and remembers where every tool was.

use std::{collections::BTreeMap, path::Path};

use super::{
    canvas::Canvas,
    media::{Encoder, VideoWriter, io_error, read_video, write_jpeg},
    scene::Look,
    script::Video,
    source::{SourceSpec, Tool},
};
use crate::DatasetError;

/// Bounds in whole pixels and number of visible pixels of each tool in a frame.
pub(super) type FrameBoxes = BTreeMap<Tool, ([usize; 4], usize)>;

/// Path of a video file relative to the practice set.
pub(super) fn video_path(spec: &SourceSpec, video_id: &str) -> String {
    format!("data/{}/{video_id}.mp4", spec.name)
}

/// Path of a frame relative to the practice set; `native_frame` counts frames of the video file.
pub(super) fn frame_path(spec: &SourceSpec, video_id: &str, native_frame: usize) -> String {
    format!("data/{}/{video_id}/{native_frame:06}.jpg", spec.name)
}

/// The boxes of all tools in a drawn frame.
pub(super) fn frame_boxes(canvas: &Canvas) -> FrameBoxes {
    Tool::ALL.into_iter().filter_map(|tool| Some((tool, canvas.bounds(tool.owner())?))).collect()
}

/// Writes the video file and the sampled frames below `root`; the boxes come by sampled frame of the video.
pub(super) fn render_video(
    root: &Path,
    spec: &SourceSpec,
    video: &Video,
    encoder: Encoder,
) -> Result<Vec<FrameBoxes>, DatasetError> {
    let folder = root.join("data").join(spec.name).join(&video.id);
    std::fs::create_dir_all(&folder).map_err(|e| io_error(&folder, e))?;
    let path = root.join(video_path(spec, &video.id));
    let native_fps = spec.fps * spec.native_stride as f64;
    let mut writer = VideoWriter::start(&path, encoder, spec.width, spec.height, native_fps)?;
    let look = Look::new(spec, video.look_seed);
    let mut boxes = Vec::new();
    for clip in &video.clips {
        for native in 0..clip.num_frames * spec.native_stride {
            let canvas = look.draw(spec, clip, native as f32 / spec.native_stride as f32);
            let rgb = canvas.to_rgb8();
            writer.write(&rgb)?;
            if native % spec.native_stride != 0 {
                continue;
            }
            boxes.push(frame_boxes(&canvas));
            if !spec.frames_from_video {
                let frame = clip.offset * spec.native_stride + native;
                write_jpeg(&root.join(frame_path(spec, &video.id, frame)), &rgb, spec.width, spec.height)?;
            }
        }
    }
    writer.finish()?;
    if spec.frames_from_video {
        let frames = read_video(&path, spec.width, spec.height)?;
        if frames.len() != boxes.len() * spec.native_stride {
            let message = format!(
                "FFmpeg read {} frames back where {} were written; another FFmpeg may help",
                frames.len(),
                boxes.len() * spec.native_stride
            );
            return Err(DatasetError::Media { path, message });
        }
        for (i, rgb) in frames.iter().enumerate().step_by(spec.native_stride) {
            write_jpeg(&root.join(frame_path(spec, &video.id, i)), rgb, spec.width, spec.height)?;
        }
    }
    Ok(boxes)
}
