//! The reward of spatiotemporal grounding.
//!
//! The benchmark's own score lets a missing box inherit the last one and repairs malformed ones. The reward does neither:
//! the mean overlap over the requested times, absent or malformed 0, several boxes for one time counting as the worst.
//! Boxes at times that were not asked for earn and cost nothing, as in the benchmark.

use medgrpo_datasets::{Gold, TaskSample};

use super::{all_unscored, wrong_gold};
use crate::{Response, Reward, RewardError, Score, metric::box_iou, parse};

/// Mean box overlap over the requested times, in `[0, 1]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct StgReward;

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
            return Ok(all_unscored(responses, "the record's list of boxes is empty"));
        }
        let tolerance_sec = box_iou::tolerance_sec(gold, sample.fps);
        let score = |response: &Response<'_>| {
            Score::metric(box_iou::strict(&parse::stg::entries(response.text), gold, tolerance_sec) as f32)
        };
        Ok(responses.iter().map(score).collect())
    }
}
