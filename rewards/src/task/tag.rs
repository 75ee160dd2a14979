//! The reward of temporal action grounding.
//!
//! The benchmark's own score forgives missed and surplus spans, so a list of windows over the whole clip wins without
//! looking. The reward is strict instead: best one-to-one matching, summed overlap over the larger number of spans.
//! Both sides are first rounded to 0.1 s, the resolution of the answer format, so that the demonstrated answer earns 1.

use medgrpo_datasets::{Gold, Span, TaskSample};

use super::{all_unscored, half_frame_sec, to_answer_resolution, wrong_gold};
use crate::{Parts, Response, Reward, RewardError, Score, metric::span_iou, parse};

/// Strict temporal overlap, in `[0, 1]`; the raw metric is the overlap without the threshold.
///
/// A gold span of no length is met within half a frame period, the precision the clip allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagReward {
    /// Overlaps below it count nothing, as in the benchmark's `TAG_mIoU@t`; 0 counts all.
    pub iou_threshold: f64,
}

fn rounded(spans: &[Span]) -> Vec<Span> {
    spans.iter().copied().map(to_answer_resolution).collect()
}

impl Reward for TagReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::Spans(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "spans"));
        };
        if gold.is_empty() {
            return Ok(all_unscored(responses, "the record's list of spans is empty"));
        }
        let gold = rounded(gold);
        let half_frame_sec = half_frame_sec(sample);
        let score = |response: &Response<'_>| {
            let predicted = rounded(&parse::tag::parse(response.text));
            let iou = span_iou::strict(&predicted, &gold, half_frame_sec) as f32;
            let counted =
                span_iou::strict_above(&predicted, &gold, half_frame_sec, self.iou_threshold) as f32;
            Score::Scored { value: counted, raw: iou, parts: Parts::new() }
        };
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TaskKind;

    use super::*;
    use crate::task::contract::sample;

    #[test]
    fn overlaps_below_the_threshold_are_worth_nothing() {
        let sample = sample(TaskKind::Tag, Gold::Spans(vec![Span { start_sec: 0.0, end_sec: 4.0 }]));
        // 4 s of 8 s, all, 4 s of 16 s.
        let texts = ["0.0-8.0 seconds.", "from 0 to 4 seconds", "0.0-16.0 seconds."];
        let responses = texts.map(|text| Response { text, num_tokens: 5, truncated: false });
        let worth = |iou_threshold: f64| -> Vec<(f32, f32)> {
            let reward = TagReward { iou_threshold };
            let scores = reward.score_group(&sample, &responses).unwrap();
            scores
                .into_iter()
                .map(|score| match score {
                    Score::Scored { value, raw, .. } => (value, raw),
                    Score::Unscored(reason) => panic!("{reason}"),
                })
                .collect()
        };
        assert_eq!(worth(0.0), [(0.5, 0.5), (1.0, 1.0), (0.25, 0.25)]);
        assert_eq!(worth(0.3), [(0.5, 0.5), (1.0, 1.0), (0.0, 0.25)]);
    }
}
