//! How an experiment turns samples into what the model sees; `check` counts tokens with the same object.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use medgrpo_model::processor::{PixelOverrides, Processor};
use medgrpo_trainers::prepare::{SamplePreparer, VideoSampling};

use crate::config::resolved::Experiment;

/// The processor of the checkpoint `dir` under the experiment's `[video]` and `[data]` settings.
pub(crate) fn preparer(experiment: &Experiment, dir: &Path) -> Result<SamplePreparer> {
    let video = &experiment.video;
    let overrides = PixelOverrides {
        video_min_pixels: video.min_pixels.map(|pixels| pixels as u64),
        video_max_pixels: video.max_pixels.map(|pixels| pixels as u64),
        ..PixelOverrides::default()
    };
    let defaults = VideoSampling::default();
    Ok(SamplePreparer {
        processor: Arc::new(Processor::from_dir(dir)?.with_overrides(&overrides)?),
        sampling: VideoSampling {
            fps: video.fps.unwrap_or(defaults.fps),
            max_frames: video.max_frames.unwrap_or(defaults.max_frames),
        },
        max_prompt_tokens: Some(experiment.data.max_prompt_tokens),
    })
}
