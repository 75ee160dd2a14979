//! Pictures and videos from disk as RGB frames.
//!
//! The processor plans which frames it wants from a [`ClipInfo`]; [`load_frames`] gives them at their native size.
//! No resizing is done here. Video files go through the system's `ffmpeg` and `ffprobe`.

mod decode;
mod ffmpeg;
mod frames;
mod image;
mod probe;
mod region;
#[cfg(test)]
mod tests;

pub use decode::decode_frames;
pub use frames::{ClipInfo, clip_info, load_frames};
pub use image::{image_size, load_image};
pub use probe::{VideoInfo, probe};
pub use region::{REGION_COLOR_RGB, box_is_inside, draw_region};
