//! The reward of skill assessment.
//!
//! Per aspect `exact_weight` for the exact score and the rest for nearness, `1 - |difference| / reach` down to 0; the mean
//! over the record's aspects (our choice; the paper trains no reward on this task). The metric is exact agreement, but on
//! five steps agreement alone tells a policy that is off by one no more than one that is off by four. Nearness reaches two
//! steps and no further, because with all four "3/5 everywhere" is paid as much as an answer that is half right. An aspect
//! that is missing, out of range or given two scores earns nothing, so a list of all scores does not pay.

use medgrpo_datasets::{Gold, TaskSample};

use super::{all_unscored, wrong_gold};
use crate::{
    Parts, Response, Reward, RewardError, Score,
    parse::skill::{ASPECTS, by_aspect},
};

/// Agreement over the aspects, in `[0, 1]`; the raw metric is the share that is exactly right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkillReward {
    /// Share of an aspect's worth, in `[0, 1]`, that only the exact score earns; 1 is the benchmark's accuracy.
    pub exact_weight: f64,
    /// The difference from which on nearness is nothing, in steps; at least 1, where only the exact score is near.
    pub reach: u32,
}

impl Default for SkillReward {
    fn default() -> Self {
        Self { exact_weight: 0.5, reach: 2 }
    }
}

impl Reward for SkillReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::SkillScores(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "skill scores"));
        };
        let gold: Vec<(&str, i64)> =
            ASPECTS.iter().filter_map(|aspect| Some((*aspect, *gold.get(*aspect)?))).collect();
        if gold.is_empty() {
            return Ok(all_unscored(responses, "the record scores none of the benchmark's six aspects"));
        }
        let reach = f64::from(self.reach.max(1));
        let exact_weight = self.exact_weight.clamp(0.0, 1.0);
        let score = |response: &Response<'_>| {
            let given = by_aspect(response.text);
            let (mut value, mut right) = (0.0, 0.0);
            for (aspect, score) in &gold {
                let Some(given) = given.get(*aspect) else { continue };
                let exact = f64::from(u8::from(given == score));
                let near = (1.0 - given.abs_diff(*score) as f64 / reach).max(0.0);
                value += exact_weight * exact + (1.0 - exact_weight) * near;
                right += exact;
            }
            let num_aspects = gold.len() as f64;
            Score::Scored {
                value: (value / num_aspects) as f32,
                raw: (right / num_aspects) as f32,
                parts: Parts::new(),
            }
        };
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use medgrpo_datasets::TaskKind;

    use super::*;
    use crate::task::contract::sample;

    #[test]
    fn near_scores_by_hand() {
        let gold = BTreeMap::from([("Time and motion".to_owned(), 4), ("Flow of operation".to_owned(), 2)]);
        let sample = sample(TaskKind::SkillAssessment, Gold::SkillScores(gold));
        let text = "Time and motion: 4/5\nflow of operation: 3/5";
        let response = Response { text, num_tokens: 9, truncated: false };
        let expected = |flow: f32| (1.0 + flow) / 2.0;
        for (exact_weight, reach, flow) in
            [(0.5, 2, 0.25), (0.5, 4, 0.375), (1.0, 2, 0.0), (0.0, 2, 0.5), (0.0, 1, 0.0)]
        {
            let scores = SkillReward { exact_weight, reach }.score_group(&sample, &[response]).unwrap();
            assert_eq!(scores, [Score::Scored { value: expected(flow), raw: 0.5, parts: Parts::new() }]);
        }
    }
}
