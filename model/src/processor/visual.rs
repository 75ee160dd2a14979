//! Pictures and videos of a conversation: pixels, sizes alone, and what a size becomes.

use image::RgbImage;

use super::{
    GridThw, ImageProcessorConfig, Patches, PixelRange, ProcessorError, ResizeRule, frame_limits, patches,
};

/// Most frames of one video: a list is held in memory, and no product of sizes may overflow.
const MAX_FRAMES: usize = 1 << 20;

/// One picture or video, decoded.
#[derive(Clone, Debug)]
pub enum Visual {
    /// A still picture.
    Image(RgbImage),
    /// Frames of one size, all of them used.
    Video {
        /// The frames in order.
        frames: Vec<RgbImage>,
        /// Their rate, frames a second.
        sample_fps: f64,
    },
}

/// The size of a [`Visual`], enough to count its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisualSize {
    /// A still picture.
    Image {
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
    /// A video.
    Video {
        /// Frames used.
        num_frames: usize,
        /// Pixels across.
        width: usize,
        /// Pixels down.
        height: usize,
    },
}

impl Visual {
    /// The size; of a video, that of its first frame.
    pub fn size(&self) -> VisualSize {
        let sides = |image: &RgbImage| (image.width() as usize, image.height() as usize);
        match self {
            Self::Image(image) => {
                let (width, height) = sides(image);
                VisualSize::Image { width, height }
            }
            Self::Video { frames, .. } => {
                let (width, height) = frames.first().map_or((0, 0), sides);
                VisualSize::Video { num_frames: frames.len(), width, height }
            }
        }
    }
}

impl VisualSize {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Image { .. } => "image",
            Self::Video { .. } => "video",
        }
    }
}

/// Settings that replace the checkpoint's; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PixelOverrides {
    /// Images smaller than this are enlarged, pixels.
    pub image_min_pixels: Option<u64>,
    /// Images larger than this are shrunk, pixels.
    pub image_max_pixels: Option<u64>,
    /// Frames smaller than this are enlarged, pixels.
    pub video_min_pixels: Option<u64>,
    /// Frames larger than this are shrunk, pixels.
    pub video_max_pixels: Option<u64>,
    /// Budget that all frames of a video share, pixels over frame pairs: see [`frame_limits`].
    pub video_total_pixels: Option<f64>,
    /// Whose rule chooses the size.
    pub resize_rule: Option<ResizeRule>,
}

/// How images and videos of one checkpoint become patches.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct VisualProcessor {
    pub(super) image: ImageProcessorConfig,
    pub(super) video: ImageProcessorConfig,
    video_total_pixels: Option<f64>,
}

/// What a visual of some size becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct VisualPlan {
    pub(super) grid: GridThw,
    pub(super) num_tokens: usize,
    /// `(height, width)` after resizing.
    size: (usize, usize),
}

impl VisualProcessor {
    pub(super) fn new(image: ImageProcessorConfig, video: ImageProcessorConfig) -> Self {
        Self { image, video, video_total_pixels: None }
    }

    pub(super) fn apply(&mut self, overrides: &PixelOverrides) -> Result<(), ProcessorError> {
        let PixelOverrides { image_min_pixels, image_max_pixels, video_min_pixels, video_max_pixels, .. } =
            *overrides;
        for (kind, config, min_pixels, max_pixels) in [
            ("image", &mut self.image, image_min_pixels, image_max_pixels),
            ("video", &mut self.video, video_min_pixels, video_max_pixels),
        ] {
            let limits = PixelRange {
                min_pixels: min_pixels.unwrap_or(config.limits.min_pixels),
                max_pixels: max_pixels.unwrap_or(config.limits.max_pixels),
            };
            let PixelRange { min_pixels, max_pixels } = limits;
            if min_pixels == 0 || min_pixels > max_pixels {
                return Err(ProcessorError::Limits(format!(
                    "{kind}_min_pixels is {min_pixels} and {kind}_max_pixels is {max_pixels}; set both so that the \
                     minimum is at least 1 and not more than the maximum (what is not set comes from the checkpoint)"
                )));
            }
            config.limits = limits;
            config.resize_rule = overrides.resize_rule.unwrap_or(config.resize_rule);
        }
        if let Some(total) = overrides.video_total_pixels {
            if !total.is_finite() || total < 1.0 {
                return Err(ProcessorError::Limits(format!(
                    "video_total_pixels is {total}; it must be at least 1"
                )));
            }
            self.video_total_pixels = Some(total);
        }
        Ok(())
    }

    pub(super) fn plan(&self, index: usize, visual: VisualSize) -> Result<VisualPlan, ProcessorError> {
        let kind = visual.kind();
        let error = |message: String| ProcessorError::Visual { index, kind, message };
        let (config, num_frames, width, height) = match visual {
            VisualSize::Image { width, height } => (&self.image, 1, width, height),
            VisualSize::Video { num_frames, width, height } => (&self.video, num_frames, width, height),
        };
        if num_frames == 0 {
            return Err(error("it has no frames".to_owned()));
        }
        if num_frames > MAX_FRAMES {
            return Err(error(format!("{num_frames} frames are more than {MAX_FRAMES}; sample fewer")));
        }
        let limits = match (visual, self.video_total_pixels) {
            (VisualSize::Video { .. }, Some(total)) => frame_limits(config.limits, total, num_frames),
            _ => config.limits,
        };
        let size = config.resized(height, width, limits).map_err(error)?;
        let grid = patches::grid(config, num_frames, size);
        Ok(VisualPlan { grid, num_tokens: grid.num_tokens(config.merge_size), size })
    }

    /// Appends the visual's patches to those of its kind and its grid time to `second_per_grid_ts`.
    pub(super) fn append(
        &self,
        index: usize,
        visual: &Visual,
        images: &mut Patches,
        videos: &mut Patches,
        second_per_grid_ts: &mut Vec<f32>,
    ) -> Result<(), ProcessorError> {
        let plan = self.plan(index, visual.size())?;
        match visual {
            Visual::Image(image) => {
                images.grids.push(patches::append_patches(
                    &self.image,
                    &[image],
                    plan.size,
                    &mut images.values,
                ));
            }
            Visual::Video { frames, sample_fps } => {
                let error = |message: String| ProcessorError::Visual { index, kind: "video", message };
                if !sample_fps.is_finite() || *sample_fps <= 0.0 {
                    return Err(error(format!(
                        "its rate is {sample_fps}; it must be a positive number of frames a second"
                    )));
                }
                let first = frames[0].dimensions();
                if let Some(at) = frames.iter().position(|frame| frame.dimensions() != first) {
                    let (width, height) = frames[at].dimensions();
                    return Err(error(format!(
                        "frame {at} is {width}x{height} but frame 0 is {}x{}; all frames must have one size",
                        first.0, first.1
                    )));
                }
                let frames: Vec<&RgbImage> = frames.iter().collect();
                videos.grids.push(patches::append_patches(
                    &self.video,
                    &frames,
                    plan.size,
                    &mut videos.values,
                ));
                second_per_grid_ts.push((self.video.temporal_patch_size as f64 / sample_fps) as f32);
            }
        }
        Ok(())
    }
}
