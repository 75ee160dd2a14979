//! The reward of spatiotemporal grounding.
//!
//! The benchmark's own score lets a missing box inherit the last one and repairs malformed ones. The reward does neither:
//! the mean overlap over the requested times, absent or malformed 0, several boxes for one time counting as the worst.
//! Boxes at times that were not asked for earn and cost nothing, as in the benchmark.

use medgrpo_datasets::{Gold, TaskSample, TimedBox};

use super::{
    format::{FormatFactor, is_canonical_boxes},
    wrong_gold,
};
use crate::{Response, Reward, RewardError, Score, metric::box_iou, parse};

/// Mean box overlap over the requested times, times the format factor. Parts: `iou`, `format`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StgReward {
    /// What an answer outside the canonical format is multiplied by.
    pub format: FormatFactor,
}

/// How far a predicted time may be from a requested one: half a frame period, but at least the 0.05 s that rounding to
/// one decimal moves a time, and never half-way to a neighbouring request.
fn tolerance_sec(gold: &[TimedBox], fps: f64) -> f64 {
    let mut times: Vec<f64> = gold.iter().map(|target| target.time_sec).collect();
    times.sort_by(f64::total_cmp);
    let closest = times
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(f64::INFINITY, f64::min);
    let half_frame = if fps > 0.0 && fps.is_finite() {
        0.5 / fps
    } else {
        0.5
    };
    half_frame.min(0.49 * closest).max(0.05)
}

impl Reward for StgReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::Boxes(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "boxes"));
        };
        if gold.is_empty() {
            let reason = "the record's list of boxes is empty".to_owned();
            return Ok(vec![Score::Unscored(reason); responses.len()]);
        }
        let tolerance_sec = tolerance_sec(gold, sample.fps);
        let score = |response: &Response<'_>| {
            let iou = box_iou::strict(&parse::stg::entries(response.text), gold, tolerance_sec) as f32;
            let format = self.format.of(is_canonical_boxes(response.text));
            Score::Scored {
                value: iou * format,
                raw: iou,
                parts: vec![("iou", iou), ("format", format)],
            }
        };
        Ok(responses.iter().map(score).collect())
    }
}
