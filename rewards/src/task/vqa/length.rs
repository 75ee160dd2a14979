//! Paying length: the paper's negative result, kept to be measured against.
//!
//! Both break the laws of the other rewards on purpose. The extended chain pays any long text whatever it says; the
//! correctness-weighted one pays a right answer more the longer it is, so the shortest right answer earns little. The
//! paper finds that both lower accuracy. Lengths are in tokens.

use medgrpo_datasets::TaskSample;

use super::accuracy::Truth;
use crate::{Response, Reward, RewardError, Score, task::all_unscored};

/// `min(1, |o| / L)` of an answer of `num_tokens`; 0 for blank text, however many tokens it took.
fn length_share(response: &Response<'_>, full_length: usize) -> f32 {
    if response.text.trim().is_empty() {
        return 0.0;
    }
    (response.num_tokens as f32 / full_length.max(1) as f32).min(1.0)
}

/// The Extended Chain Reward, `r_ECR = min(1, |o| / L)` (assumed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedChainReward {
    /// `L`, the length in tokens from which on the reward is whole.
    pub full_length: usize,
}

/// The Correctness-Weighted Length Reward, `r_CWR = [correct] · min(1, |o| / L)` (assumed); the raw metric is the
/// correctness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorrectLengthReward {
    /// `L`, the length in tokens from which on the reward is whole.
    pub full_length: usize,
}

/// `L` is not stated; a reasoned answer to a multiple-choice question takes about this many tokens.
const FULL_LENGTH: usize = 256;

impl Default for ExtendedChainReward {
    fn default() -> Self {
        Self { full_length: FULL_LENGTH }
    }
}

impl Default for CorrectLengthReward {
    fn default() -> Self {
        Self { full_length: FULL_LENGTH }
    }
}

impl Reward for ExtendedChainReward {
    fn score_group(
        &self,
        _sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        Ok(responses.iter().map(|response| Score::metric(length_share(response, self.full_length))).collect())
    }
}

impl Reward for CorrectLengthReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Some(truth) = Truth::of(sample)? else {
            return Ok(all_unscored(responses, "the record's reference text is empty"));
        };
        let score = |response: &Response<'_>| {
            let correct = f32::from(u8::from(truth.is_met(response.text)));
            Score::Scored {
                value: correct * length_share(response, self.full_length),
                raw: correct,
                parts: Vec::new(),
            }
        };
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, TaskKind};

    use super::*;
    use crate::task::contract::sample;

    #[test]
    fn lengths_by_hand() {
        let sample = sample(TaskKind::OpenQuestion, Gold::Text("yes".into()));
        let long = "<think>Because.</think><answer>yes</answer>";
        let cases = [("yes", 5, 0.25, 0.25), ("no", 5, 0.25, 0.0), (long, 40, 1.0, 1.0), (" ", 40, 0.0, 0.0)];
        for (text, num_tokens, chain, correct) in cases {
            let response = [Response { text, num_tokens, truncated: false }];
            let value = |reward: &dyn Reward| match reward.score_group(&sample, &response).unwrap()[..] {
                [Score::Scored { value, .. }] => value,
                _ => panic!("one score was due"),
            };
            assert_eq!(value(&ExtendedChainReward { full_length: 20 }), chain, "{text}");
            assert_eq!(value(&CorrectLengthReward { full_length: 20 }), correct, "{text}");
        }
    }
}
