//! The reward of dense captioning: localisation × caption.
//!
//! The benchmark lets one wide event cover many and asks its judge only about captions of events that overlap. The reward
//! matches one to one: a pair is worth its temporal overlap times the similarity of its captions, the best matching is
//! taken, and its sum is divided by the mean of the two numbers of events. That is the harmonic mean of precision and
//! recall, so missed and surplus events both cost (all of it our choice; the paper trains no reward on this task).
//! Times are rounded to 0.1 s on both sides, as in [`tag`](super::tag). Events of equal times count once, in an answer as
//! in a record: the parser keeps the first.

use std::{collections::HashSet, sync::Arc};

use medgrpo_datasets::{Gold, Segment, TaskSample};

use super::{
    all_unscored, half_frame_sec, on_one_line, rouge::rouge_similarity, similarity::similarity,
    similarity::vectors, to_answer_resolution, wrong_gold,
};
use crate::{
    Parts, Response, Reward, RewardError, Score,
    embed::TextEmbedder,
    metric::{matching::best_assignment, span_iou::tolerant_iou},
    parse,
};

/// Soft F1 of matched events, in `[0, 1]`; the raw metric is the same without the threshold.
#[derive(Clone)]
pub struct DvcReward {
    /// What tells how alike two captions are: the cosine of their vectors; ROUGE-L without one.
    pub embedder: Option<Arc<dyn TextEmbedder>>,
    /// How much of a pair's worth hangs on its captions, in `[0, 1]`: overlap × (1 - weight + weight × similarity).
    ///
    /// 1 by default, a plain product: right times without words earn nothing then.
    pub caption_weight: f64,
    /// Overlaps below it count nothing; 0 by default, because the overlap is a factor already.
    pub iou_threshold: f64,
}

impl Default for DvcReward {
    fn default() -> Self {
        Self { embedder: None, caption_weight: 1.0, iou_threshold: 0.0 }
    }
}

/// Events with rounded times and captions on one line; of equal times the first.
fn to_compare(events: &[Segment]) -> Vec<Segment> {
    let mut seen = HashSet::new();
    let rounded = |event: &Segment| Segment {
        span: to_answer_resolution(event.span),
        caption: on_one_line(&event.caption),
    };
    events
        .iter()
        .map(rounded)
        .filter(|event| seen.insert((event.span.start_sec.to_bits(), event.span.end_sec.to_bits())))
        .collect()
}

/// An overlapping pair of events.
struct Meeting {
    gold: usize,
    predicted: usize,
    iou: f64,
}

impl DvcReward {
    /// Similarities of the captions of `meetings`, in order; why there is none otherwise.
    fn similarities(
        &self,
        meetings: &[Meeting],
        gold: &[Segment],
        predicted: &[Segment],
    ) -> Result<Vec<f64>, String> {
        let captions = |meeting: &Meeting| {
            (predicted[meeting.predicted].caption.as_str(), gold[meeting.gold].caption.as_str())
        };
        let Some(embedder) = &self.embedder else {
            let similarity = |meeting: &Meeting| {
                let (text, reference) = captions(meeting);
                rouge_similarity(text, reference)
            };
            return Ok(meetings.iter().map(similarity).collect());
        };
        // An empty caption is like no other, and there is nothing to embed.
        let differs = |(text, reference): &(&str, &str)| text != reference && !text.is_empty();
        let mut texts: Vec<&str> = meetings
            .iter()
            .map(captions)
            .filter(differs)
            .flat_map(|(text, reference)| [text, reference])
            .collect();
        texts.sort_unstable();
        texts.dedup();
        let vectors = vectors(&**embedder, &texts).into_iter().collect::<Result<Vec<_>, String>>()?;
        let vector = |text: &str| texts.binary_search(&text).ok().map(|index| vectors[index].as_slice());
        let similarity = |meeting: &Meeting| {
            let (text, reference) = captions(meeting);
            match (vector(text), vector(reference)) {
                _ if text == reference => 1.0,
                (Some(text), Some(reference)) => similarity(text, reference),
                _ => 0.0,
            }
        };
        Ok(meetings.iter().map(similarity).collect())
    }

    /// The value and the raw metric.
    fn worth(&self, gold: &[Segment], text: &str, tolerance_sec: f64) -> Result<(f64, f64), String> {
        let predicted = to_compare(&parse::dvc::parse(text));
        if predicted.is_empty() {
            return Ok((0.0, 0.0));
        }
        let mut meetings = Vec::new();
        for (p, event) in predicted.iter().enumerate() {
            for (g, target) in gold.iter().enumerate() {
                let iou = tolerant_iou(target.span, event.span, tolerance_sec);
                if iou > 0.0 {
                    meetings.push(Meeting { gold: g, predicted: p, iou });
                }
            }
        }
        let similarities = self.similarities(&meetings, gold, &predicted)?;
        let weight = self.caption_weight.clamp(0.0, 1.0);
        let f1_above = |threshold: f64| {
            let mut gains = vec![0.0; gold.len() * predicted.len()];
            for (meeting, similarity) in meetings.iter().zip(&similarities) {
                if meeting.iou >= threshold {
                    gains[meeting.gold * predicted.len() + meeting.predicted] =
                        meeting.iou * (1.0 - weight + weight * similarity);
                }
            }
            let total = best_assignment(gold.len(), predicted.len(), |g, p| gains[g * predicted.len() + p]);
            2.0 * total / (gold.len() + predicted.len()) as f64
        };
        Ok((f1_above(self.iou_threshold), f1_above(0.0)))
    }
}

impl Reward for DvcReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::Segments(gold) = &sample.gold else {
            return Err(wrong_gold(sample, "events"));
        };
        if gold.is_empty() {
            return Ok(all_unscored(responses, "the record's list of events is empty"));
        }
        let gold = to_compare(gold);
        let tolerance_sec = half_frame_sec(sample);
        let score = |response: &Response<'_>| match self.worth(&gold, response.text, tolerance_sec) {
            Ok((value, raw)) => Score::Scored { value: value as f32, raw: raw as f32, parts: Parts::new() },
            Err(reason) => Score::Unscored(reason),
        };
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Span, TaskKind};

    use super::*;
    use crate::{embed::VectorMap, task::contract::sample};

    fn worth(reward: &DvcReward, text: &str) -> Score {
        let event = |start_sec, end_sec, caption: &str| Segment {
            span: Span { start_sec, end_sec },
            caption: caption.into(),
        };
        let gold = vec![event(0.0, 10.0, "the hook cuts"), event(10.0, 20.0, "the clip closes")];
        let sample = sample(TaskKind::DenseCaptioning, Gold::Segments(gold));
        let response = Response { text, num_tokens: 1, truncated: false };
        reward.score_group(&sample, &[response]).unwrap().remove(0)
    }

    fn value(reward: &DvcReward, text: &str) -> f32 {
        match worth(reward, text) {
            Score::Scored { value, .. } => value,
            Score::Unscored(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn the_soft_f1_by_hand() {
        let reward = DvcReward::default();
        // One of two events, right: 2 · 1 / (2 + 1).
        assert!((value(&reward, "0.0-10.0 seconds: the hook cuts") - 2.0 / 3.0).abs() < 1e-6);
        // Half of its time: 2 · 0.5 / 3.
        assert!((value(&reward, "0.0-5.0 seconds: the hook cuts") - 1.0 / 3.0).abs() < 1e-6);
        // The right time with another's words, 1 of 3 shared in order: ROUGE-L 1/3.
        let swapped = "0.0-10.0 seconds: the clip closes\n10.0-20.0 seconds: the hook cuts";
        assert!((value(&reward, swapped) - 1.0 / 3.0).abs() < 1e-6);
        let times_only = DvcReward { caption_weight: 0.0, ..DvcReward::default() };
        assert!((value(&times_only, swapped) - 1.0).abs() < 1e-6);
        // One wide event covers both, and is matched with one of them, at half.
        assert!((value(&times_only, "0.0-20.0 seconds: x") - 1.0 / 3.0).abs() < 1e-6);
        let strict = DvcReward { iou_threshold: 0.7, ..times_only };
        assert_eq!(
            worth(&strict, "0.0-20.0 seconds: x"),
            Score::Scored { value: 0.0, raw: 1.0 / 3.0, parts: Parts::new() }
        );
    }

    #[test]
    fn captions_by_their_vectors() {
        let vectors = [("the hook cuts", [1.0, 0.0]), ("the knife cuts", [0.8, 0.6])];
        let vectors = VectorMap::from_iter(vectors.map(|(text, vector)| (text.to_owned(), vector.to_vec())));
        let reward = DvcReward { embedder: Some(Arc::new(vectors)), ..DvcReward::default() };
        assert!((value(&reward, "0.0-10.0 seconds: the knife cuts") - 0.8 * 2.0 / 3.0).abs() < 1e-6);
        assert!(matches!(worth(&reward, "0.0-10.0 seconds: unknown"), Score::Unscored(_)));
        // Where nothing overlaps no vector is needed.
        assert_eq!(value(&reward, "50.0-60.0 seconds: unknown"), 0.0);
    }
}
