//! Several rewards added with weights: similarity and judge, half and half.

use medgrpo_datasets::TaskSample;

use crate::{Parts, Response, Reward, RewardError, Score};

/// The weighted sum of rewards; the raw metric is the weighted mean of theirs. What one cannot score, the sum cannot:
/// leaving a term out would move the response to another scale than the rest of its group.
pub struct Weighted {
    terms: Vec<(f32, Box<dyn Reward>)>,
}

impl Weighted {
    /// The sum of `weight × reward`.
    pub fn new(terms: Vec<(f32, Box<dyn Reward>)>) -> Self {
        assert!(!terms.is_empty(), "a sum has a term");
        Self { terms }
    }
}

impl Reward for Weighted {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let total: f32 = self.terms.iter().map(|(weight, _)| weight).sum();
        let mut sum = vec![Score::Scored { value: 0.0, raw: 0.0, parts: Parts::new() }; responses.len()];
        for (weight, reward) in &self.terms {
            for (score, other) in sum.iter_mut().zip(reward.score_group(sample, responses)?) {
                match (&mut *score, other) {
                    (
                        Score::Scored { value, raw, parts },
                        Score::Scored { value: term, raw: of_term, parts: more },
                    ) => {
                        *value += weight * term;
                        *raw += weight / total * of_term;
                        parts.extend(more);
                    }
                    (Score::Scored { .. }, unscored) => *score = unscored,
                    (Score::Unscored(_), _) => {}
                }
            }
        }
        Ok(sum)
    }
}
