//! The reward of next-action prediction.
//!
//! The benchmark maps any text to the class with the nearest embedding, so every answer means some class. The reward pays
//! only an answer that names the right class: case, hyphens and a full stop aside, nothing else in it. A share for near
//! classes would be paid to text that lists them all (our choice; the paper trains no reward on this task).

use medgrpo_datasets::{Gold, TaskSample};

use super::{all_unscored, wrong_gold};
use crate::{
    Response, Reward, RewardError, Score,
    parse::next_action::{fold, normalise},
};

/// 1 for the right class, 0 for anything else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NapReward;

impl Reward for NapReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::Class(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "class"));
        };
        let class = |text: &str| fold(&normalise(sample.source.as_str(), text));
        let gold = class(gold);
        if gold.is_empty() {
            return Ok(all_unscored(responses, "the record's class is empty"));
        }
        let score =
            |response: &Response<'_>| Score::metric(f32::from(u8::from(class(response.text) == gold)));
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TaskKind;

    use super::*;
    use crate::task::contract::sample;

    #[test]
    fn spelling_is_forgiven_and_company_is_not() {
        let sample = sample(TaskKind::NextAction, Gold::Class("dissect flap tissue with knife".into()));
        let texts = [
            "Dissect flap tissue with knife.",
            // CoPESD's old name of the same class.
            "dissect flap with knife",
            "lift flap with forceps, dissect flap tissue with knife",
            "",
        ];
        let responses = texts.map(|text| Response { text, num_tokens: 4, truncated: false });
        let scores = NapReward.score_group(&sample, &responses).unwrap();
        assert_eq!(scores, [1.0, 1.0, 0.0, 0.0].map(Score::metric));
    }
}
