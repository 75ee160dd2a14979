//! ROUGE-L with the reference text as the reward of captions, where there is no embedder.
//!
//! Our choice for runs without a sentence encoder: it sees word order and both missing and surplus words, but knows no
//! synonyms. No paper pays it.

use medgrpo_datasets::TaskSample;

use super::against_reference;
use crate::{Response, Reward, RewardError, Score, metric::rouge_l::rouge_l};

/// ROUGE-L with the reference, in `[0, 1]`; 1 for the reference itself, whatever it is written in.
#[derive(Clone, Copy, Debug, Default)]
pub struct RougeReward;

/// ROUGE-L of two texts on one line each; 1 where they are equal, also without a word that ROUGE sees.
pub(super) fn rouge_similarity(text: &str, reference: &str) -> f64 {
    if text == reference { 1.0 } else { rouge_l(text, reference) }
}

impl Reward for RougeReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        against_reference(sample, responses, |reference, texts| {
            Ok(texts.iter().map(|text| Score::metric(rouge_similarity(text, reference) as f32)).collect())
        })
    }
}
