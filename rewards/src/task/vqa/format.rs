//! Whether the answer shows its reasoning in the form that was asked for.

use medgrpo_datasets::TaskSample;

use crate::{Response, Reward, RewardError, Score, parse::vqa::tagged};

/// 1 for `<think>…</think><answer>…</answer>` with something in both and nothing around, 0 for anything else (`r_fmt`).
///
/// It looks at no content: pay it beside the accuracy, never alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagsReward;

impl Reward for TagsReward {
    fn score_group(
        &self,
        _sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let score =
            |response: &Response<'_>| Score::metric(f32::from(u8::from(tagged(response.text).is_some())));
        Ok(responses.iter().map(score).collect())
    }
}
