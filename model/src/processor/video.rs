//! Which frames of a video are looked at, and how large: pure functions of counts, rates and limits.
//!
//! Two rules: qwen-vl-utils' (`vision_process.py`, which Qwen2.5-VL is used with) and transformers' (`sample_frames` of
//! `Qwen2VLVideoProcessor`). They choose different frames. A single frame, which both refuse, is taken as it is.

use std::ops::RangeInclusive;

use super::{PixelRange, ProcessorError};

/// Frames of a video come in pairs.
const FRAME_FACTOR: usize = 2;
/// The rate at which videos are sampled unless told otherwise, frames a second.
pub const DEFAULT_FPS: f64 = 2.0;
/// Fewest frames taken of a long enough video when sampling by rate.
pub const DEFAULT_MIN_FRAMES: usize = 4;
/// Most frames taken when sampling by rate.
pub const DEFAULT_MAX_FRAMES: usize = 768;
/// Upper limit on the pixels of all frames together by qwen-vl-utils' default: 0.9 of 128,000 tokens.
pub const DEFAULT_TOTAL_PIXELS: f64 = 128_000.0 * 28.0 * 28.0 * 0.9;

/// How many frames are wished.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FrameWish {
    /// A rate, with the fewest and most frames it may lead to.
    Fps {
        /// Frames a second.
        fps: f64,
        /// Fewest frames, if the video has as many.
        min_frames: usize,
        /// Most frames.
        max_frames: usize,
    },
    /// A number of frames, rounded to an even one.
    NumFrames(usize),
}

impl Default for FrameWish {
    fn default() -> Self {
        Self::Fps { fps: DEFAULT_FPS, min_frames: DEFAULT_MIN_FRAMES, max_frames: DEFAULT_MAX_FRAMES }
    }
}

/// Whose rule chooses the frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplingRule {
    /// Evenly from the first to the last frame, rounded to the nearest.
    #[default]
    QwenVlUtils,
    /// At even steps from the first frame, rounded down.
    HuggingFace,
}

/// The frames to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct FramePlan {
    /// Frame numbers from 0, ascending; a number can occur twice only in a list of frames.
    pub indices: Vec<usize>,
    /// Rate of the chosen frames, frames a second.
    pub sample_fps: f64,
}

impl FramePlan {
    /// A list of frames, used whole at its own rate.
    pub fn whole(num_frames: usize, fps: f64) -> Self {
        Self { indices: (0..num_frames).collect(), sample_fps: fps }
    }
}

/// Chooses frames among `range` of a video of `video_fps` frames a second; see [`frame_range`].
///
/// # Errors
/// When the rates are no rates, or the wish leads to no frame or to more than there are.
pub fn plan_frames(
    rule: SamplingRule,
    range: RangeInclusive<usize>,
    video_fps: f64,
    wish: FrameWish,
) -> Result<FramePlan, ProcessorError> {
    require_rate("the video's rate", video_fps)?;
    let (start, end) = (*range.start(), *range.end());
    let total = end.checked_sub(start).map_or(0, |last| last.saturating_add(1));
    if total == 0 {
        return Err(ProcessorError::Frames("the video has no frames".to_owned()));
    }
    if total == 1 {
        return Ok(FramePlan { indices: vec![start], sample_fps: video_fps });
    }
    let count = count_frames(rule, total, video_fps, wish)?;
    let indices = match rule {
        SamplingRule::QwenVlUtils => evenly(start, end, count),
        SamplingRule::HuggingFace => stepwise(start, total, count),
    };
    let sample_fps = indices.len() as f64 / total as f64 * video_fps;
    Ok(FramePlan { indices, sample_fps })
}

/// Frames of a clip that lasts from `start_sec` to `end_sec`: start rounded up, end rounded down, both inside the video.
///
/// # Errors
/// When there are no frames, the rate or a time is no number, or no frame lies in the clip.
pub fn frame_range(
    total_frames: usize,
    video_fps: f64,
    start_sec: Option<f64>,
    end_sec: Option<f64>,
) -> Result<RangeInclusive<usize>, ProcessorError> {
    require_rate("the video's rate", video_fps)?;
    let Some(last) = total_frames.checked_sub(1) else {
        return Err(ProcessorError::Frames("the video has no frames".to_owned()));
    };
    let duration = total_frames as f64 / video_fps;
    let outside = start_sec.is_some_and(|start| start >= duration) || end_sec.is_some_and(|end| end < 0.0);
    let inside = |name: &str, seconds: f64| {
        let nan = || ProcessorError::Frames(format!("the clip's {name} is not a number"));
        (!seconds.is_nan()).then(|| seconds.clamp(0.0, duration)).ok_or_else(nan)
    };
    let start =
        start_sec.map(|s| inside("start", s)).transpose()?.map_or(0, |s| (s * video_fps).ceil() as usize);
    let end =
        end_sec.map(|s| inside("end", s)).transpose()?.map_or(last, |s| (s * video_fps).floor() as usize);
    let end = end.min(last);
    if start > end || outside {
        return Err(ProcessorError::Frames(format!(
            "no frame lies between {} s and {} s of a video of {duration:.3} s ({total_frames} frames at {video_fps} \
             a second)",
            start_sec.unwrap_or(0.0),
            end_sec.unwrap_or(duration)
        )));
    }
    Ok(start..=end)
}

/// Area of one frame when a video's frames share a budget, by qwen-vl-utils: `total_pixels` over pairs of frames, at most
/// `limits.max_pixels`, and at least 5 % above `limits.min_pixels`.
pub fn frame_limits(limits: PixelRange, total_pixels: f64, num_frames: usize) -> PixelRange {
    let frames = num_frames.div_ceil(FRAME_FACTOR) * FRAME_FACTOR;
    let share = total_pixels / frames.max(1) as f64 * FRAME_FACTOR as f64;
    let floor = (limits.min_pixels as f64 * 1.05) as u64;
    let max_pixels = (limits.max_pixels as f64).min(share) as u64;
    PixelRange { max_pixels: max_pixels.max(floor), ..limits }
}

fn require_rate(what: &str, fps: f64) -> Result<(), ProcessorError> {
    if fps.is_finite() && fps > 0.0 {
        return Ok(());
    }
    Err(ProcessorError::Frames(format!("{what} is {fps}; it must be a positive number of frames a second")))
}

fn count_frames(
    rule: SamplingRule,
    total: usize,
    video_fps: f64,
    wish: FrameWish,
) -> Result<usize, ProcessorError> {
    let floor_even = |frames: usize| frames / FRAME_FACTOR * FRAME_FACTOR;
    let count = match wish {
        FrameWish::NumFrames(frames) => {
            let pairs = (frames as f64 / FRAME_FACTOR as f64).round_ties_even() as usize;
            pairs.saturating_mul(FRAME_FACTOR)
        }
        FrameWish::Fps { fps, min_frames, max_frames } => {
            require_rate("the wished rate", fps)?;
            let (least, most) = match rule {
                SamplingRule::QwenVlUtils => {
                    (min_frames.div_ceil(FRAME_FACTOR) * FRAME_FACTOR, floor_even(max_frames))
                }
                SamplingRule::HuggingFace => (min_frames, floor_even(max_frames.min(total))),
            };
            let wished =
                (total as f64 / video_fps * fps).max(least as f64).min(most as f64).min(total as f64);
            floor_even(wished as usize)
        }
    };
    if !(FRAME_FACTOR..=total).contains(&count) {
        return Err(ProcessorError::Frames(format!(
            "{count} frames cannot be taken of {total} at {video_fps} a second with {wish:?}; change the wished rate or \
             number of frames"
        )));
    }
    Ok(count)
}

/// `count` numbers from `start` to `end`, rounded half to even, in the float32 arithmetic of torch.linspace: steps are
/// counted from the nearer end.
fn evenly(start: usize, end: usize, count: usize) -> Vec<usize> {
    let (first, last) = (start as f32, end as f32);
    let step = (last - first) / (count - 1) as f32;
    let at = |index: usize| {
        if index < count / 2 { first + step * index as f32 } else { last - step * (count - index - 1) as f32 }
    };
    (0..count).map(|index| (at(index).round_ties_even() as usize).clamp(start, end)).collect()
}

/// Every `total / count`-th frame from `start`, rounded down. As many as torch.arange gives: where the step is no exact
/// number that can be one more than `count`; the reference then names a frame past the end, here it is the last one.
fn stepwise(start: usize, total: usize, count: usize) -> Vec<usize> {
    let step = total as f64 / count as f64;
    let steps = (total as f64 / step).ceil() as usize;
    (0..steps).map(|index| start + ((index as f64 * step) as usize).min(total - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(range: RangeInclusive<usize>, wish: FrameWish) -> Result<FramePlan, ProcessorError> {
        plan_frames(SamplingRule::QwenVlUtils, range, 30.0, wish)
    }

    #[test]
    fn ten_seconds_at_two_a_second_are_twenty_frames_from_first_to_last() {
        let plan = plan(0..=299, FrameWish::default()).unwrap();
        assert_eq!(plan.indices.len(), 20);
        assert_eq!(plan.indices[..3], [0, 16, 31]);
        assert_eq!(plan.indices[19], 299);
        assert_eq!(plan.sample_fps, 2.0);
    }

    #[test]
    fn halves_round_to_even_and_three_frames_give_two() {
        // 0, 2.5 -> 2, 5: four of six frames at 0, 1.67, 3.33, 5.
        assert_eq!(plan(0..=5, FrameWish::NumFrames(4)).unwrap().indices, [0, 2, 3, 5]);
        assert_eq!(plan(0..=2, FrameWish::default()).unwrap().indices, [0, 2]);
        let steps = plan_frames(SamplingRule::HuggingFace, 0..=2, 1.0, FrameWish::NumFrames(2)).unwrap();
        assert_eq!(steps.indices, [0, 1]);
    }

    #[test]
    fn one_frame_is_taken_as_it_is() {
        let one = plan(7..=7, FrameWish::default()).unwrap();
        assert_eq!(one, FramePlan { indices: vec![7], sample_fps: 30.0 });
    }

    #[test]
    fn clips_round_inwards_and_stay_inside_the_video() {
        assert_eq!(frame_range(300, 30.0, Some(1.01), Some(2.99)).unwrap(), 31..=89);
        assert_eq!(frame_range(300, 30.0, Some(-5.0), Some(99.0)).unwrap(), 0..=299);
        assert_eq!(frame_range(300, 30.0, Some(1.0), Some(1.0)).unwrap(), 30..=30);
        for (start, end) in [(1.01, 1.02), (2.0, 1.0), (-3.0, -1.0), (10.0, 12.0), (f64::NAN, 1.0)] {
            assert!(frame_range(300, 30.0, Some(start), Some(end)).is_err(), "{start} to {end}");
        }
    }

    #[test]
    fn a_budget_is_shared_by_pairs_of_frames() {
        let limits = PixelRange { min_pixels: 100_352, max_pixels: 602_112 };
        assert_eq!(frame_limits(limits, 1e12, 16).max_pixels, 602_112);
        assert_eq!(frame_limits(limits, 1_600_000.0, 16).max_pixels, 200_000);
        assert_eq!(frame_limits(limits, 1_600_000.0, 15).max_pixels, 200_000);
        // Never below 5 % above the minimum.
        assert_eq!(frame_limits(limits, 1.0, 16).max_pixels, 105_369);
    }

    #[test]
    fn what_is_no_rate_or_leads_to_no_frames_is_refused() {
        for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(frame_range(10, fps, None, None).is_err());
            assert!(plan_frames(SamplingRule::QwenVlUtils, 0..=9, fps, FrameWish::default()).is_err());
            let wish = FrameWish::Fps { fps, min_frames: 4, max_frames: 8 };
            assert!(plan(0..=9, wish).is_err());
        }
        assert!(frame_range(0, 30.0, None, None).is_err());
        for wish in [
            FrameWish::NumFrames(0),
            FrameWish::NumFrames(1),
            FrameWish::NumFrames(12),
            FrameWish::NumFrames(usize::MAX),
            FrameWish::Fps { fps: 2.0, min_frames: 4, max_frames: 1 },
        ] {
            assert!(plan(0..=9, wish).is_err(), "{wish:?}");
        }
        let most = FrameWish::Fps { fps: f64::MAX, min_frames: 4, max_frames: 768 };
        assert_eq!(plan(0..=9, most).unwrap().indices.len(), 10);
    }
}
