//! The similarity of captions and open answers with the reference text.
//!
//! The paper's caption reward is half such a similarity and half the judge's. Cosines below 0 count as 0, so that the
//! value is in `[0, 1]` like every metric (our choice).

use std::sync::Arc;

use medgrpo_datasets::TaskSample;

use super::against_reference;
use crate::{
    Response, Reward, RewardError, Score,
    embed::{TextEmbedder, cosine},
};

/// Cosine of the embeddings of an answer and the reference, in `[0, 1]`. Empty text is worth 0; a text that the embedder
/// has no vector for is unscored.
#[derive(Clone)]
pub struct SimilarityReward {
    /// Turns both texts into vectors.
    pub embedder: Arc<dyn TextEmbedder>,
}

/// The vectors of texts that are compared with one another, in order, asked for in one call.
///
/// # Errors
///
/// What is to be told of the response, if the embedder has no vector for a text.
pub(super) fn vectors(embedder: &dyn TextEmbedder, texts: &[&str]) -> Vec<Result<Vec<f32>, String>> {
    let missing = |text: &str| {
        let start: String = text.chars().take(60).collect();
        format!("the embedder has no vector for {start:?}")
    };
    if texts.is_empty() {
        return Vec::new();
    }
    let vectors = embedder.embed_all(texts);
    texts.iter().zip(vectors).map(|(text, vector)| vector.ok_or_else(|| missing(text))).collect()
}

/// The cosine, 0 where it is negative or no number.
pub(super) fn similarity(a: &[f32], b: &[f32]) -> f64 {
    let cosine = cosine(a, b);
    if cosine.is_finite() { cosine.clamp(0.0, 1.0) } else { 0.0 }
}

impl Reward for SimilarityReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        against_reference(sample, responses, |reference, texts| {
            let together: Vec<&str> = [reference].into_iter().chain(texts.iter().copied()).collect();
            let mut of_texts = vectors(&*self.embedder, &together);
            let of_reference = of_texts.remove(0);
            let score = |(text, vector): (&&str, Result<Vec<f32>, String>)| {
                if *text == reference {
                    return Score::metric(1.0);
                }
                match (vector, &of_reference) {
                    (Ok(vector), Ok(of_reference)) => Score::metric(similarity(&vector, of_reference) as f32),
                    (Err(reason), _) => Score::Unscored(reason),
                    (_, Err(reason)) => Score::Unscored(reason.clone()),
                }
            };
            Ok(texts.iter().zip(of_texts).map(score).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, TaskKind};

    use super::*;
    use crate::{embed::VectorMap, task::contract::sample};

    #[test]
    fn cosines_by_hand_and_no_vector_is_no_zero() {
        let vectors = [("a", vec![1.0, 0.0]), ("b", vec![0.6, 0.8]), ("c", vec![-1.0, 0.0])];
        let vectors = vectors.map(|(text, vector)| (text.to_owned(), vector));
        let reward = SimilarityReward { embedder: Arc::new(VectorMap::from_iter(vectors)) };
        let sample = sample(TaskKind::RegionCaption, Gold::Text(" a\n".into()));
        let texts = ["a", "b", "c", " \n", "unknown"];
        let responses = texts.map(|text| Response { text, num_tokens: 1, truncated: false });
        let scores = reward.score_group(&sample, &responses).unwrap();
        for (score, expected) in scores.iter().zip([1.0, 0.6, 0.0, 0.0]) {
            assert!(
                matches!(score, Score::Scored { value, .. } if (value - expected).abs() < 1e-6),
                "{score:?}"
            );
        }
        assert!(matches!(&scores[4], Score::Unscored(reason) if reason.contains("unknown")));
    }
}
