//! Whether an expert model finds the reasoning sound.

use std::sync::Arc;

use medgrpo_datasets::TaskSample;

use crate::{
    Response, Reward, RewardError, Score,
    judge::Judge,
    parse::vqa::tagged,
    task::{against_reference, judged::judge_all, on_one_line},
};

/// 1 where the expert is content, 0 where not (`r_sem`).
///
/// The paper asks a medical language model whether the reasoning follows clinical logic, yes or no. Here the expert is a
/// [`Judge`], who compares thought and answer with the reference, and yes is a judgement of at least `threshold` (ours).
/// Empty text is worth 0; what could not be judged is unscored.
#[derive(Clone)]
pub struct SemanticAlignmentReward {
    /// The expert.
    pub expert: Arc<dyn Judge>,
    /// The least judgement, from 0 (all ones) to 1 (all fives), that counts as a yes.
    pub threshold: f64,
}

impl SemanticAlignmentReward {
    /// With a yes from 0.5 on, the middle of the judge's scale.
    pub fn new(expert: Arc<dyn Judge>) -> Self {
        Self { expert, threshold: 0.5 }
    }
}

impl Reward for SemanticAlignmentReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        against_reference(sample, responses, |reference, texts| {
            // The tags are no part of what is judged.
            let untagged: Vec<String> = texts
                .iter()
                .map(|text| {
                    tagged(text).map_or_else(|| (*text).to_owned(), |t| format!("{} {}", t.thought, t.answer))
                })
                .map(|text| on_one_line(&text))
                .collect();
            let untagged: Vec<&str> = untagged.iter().map(String::as_str).collect();
            let judged = judge_all(&*self.expert, reference, &untagged)?;
            let score = |judged: Result<f64, String>| match judged {
                Ok(value) => Score::metric(f32::from(u8::from(value >= self.threshold))),
                Err(reason) => Score::Unscored(format!("not judged: {reason}")),
            };
            Ok(judged.into_iter().map(score).collect())
        })
    }
}
