//! The reward of the critical view of safety.
//!
//! The share of components scored exactly. No credit for being near: on a scale of three steps on which most of the truth
//! is 0, it would pay "all zero" in nearly every record (our choice; the paper trains no reward on this task). The
//! benchmark leaves out a component that an answer lacks; here it is wrong, and so is one that is given two scores.

use medgrpo_datasets::{Gold, TaskSample};

use super::{all_unscored, wrong_gold};
use crate::{
    Response, Reward, RewardError, Score,
    parse::cvs::{COMPONENTS, parse_strict},
};

/// Share of the components that are exactly right, in `[0, 1]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct CvsReward;

impl Reward for CvsReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::CvsScores(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "scores of the critical view of safety"));
        };
        let gold: Vec<(&str, i64)> =
            COMPONENTS.iter().filter_map(|(key, _)| Some((*key, *gold.get(*key)?))).collect();
        if gold.is_empty() {
            return Ok(all_unscored(responses, "the record scores no component"));
        }
        let score = |response: &Response<'_>| {
            let given = parse_strict(response.text);
            let right = gold.iter().filter(|(key, score)| given.get(*key) == Some(score)).count();
            Score::metric(right as f32 / gold.len() as f32)
        };
        Ok(responses.iter().map(score).collect())
    }
}
