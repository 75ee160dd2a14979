//! The reward of dense captioning: localisation × caption.
//!
//! The benchmark lets one wide event cover many and asks its judge only about captions of events that overlap. The reward
//! matches one to one: a pair is worth its temporal overlap times the similarity of its captions, the best matching is
//! taken, and its sum is divided by the mean of the two numbers of events. That is the harmonic mean of precision and
//! recall, so missed and surplus events both cost (all of it our choice; the paper trains no reward on this task).
//! Times are rounded to 0.1 s on both sides, as in [`tag`](super::tag). Events of equal times count once, in an answer as
//! in a record: the parser keeps the first.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

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

/// An answer, ready to be compared.
struct Answer {
    predicted: Vec<Segment>,
    meetings: Vec<Meeting>,
}

impl Answer {
    fn new(gold: &[Segment], text: &str, tolerance_sec: f64) -> Self {
        let predicted = to_compare(&parse::dvc::parse(text));
        let mut meetings = Vec::new();
        for (p, event) in predicted.iter().enumerate() {
            for (g, target) in gold.iter().enumerate() {
                let iou = tolerant_iou(target.span, event.span, tolerance_sec);
                if iou > 0.0 {
                    meetings.push(Meeting { gold: g, predicted: p, iou });
                }
            }
        }
        Self { predicted, meetings }
    }

    /// The captions of each pair of events that overlap: the answer's and the record's.
    fn captions<'t>(&'t self, gold: &'t [Segment]) -> impl Iterator<Item = (&'t str, &'t str)> {
        let captions = |meeting: &Meeting| {
            (self.predicted[meeting.predicted].caption.as_str(), gold[meeting.gold].caption.as_str())
        };
        self.meetings.iter().map(captions)
    }
}

/// Vectors of captions, or what is to be told where there is none.
type Vectors<'t> = HashMap<&'t str, Result<Vec<f32>, String>>;

impl DvcReward {
    /// The vectors that comparing all answers of a group takes, asked for at once.
    fn vectors<'t>(&self, answers: &'t [Answer], gold: &'t [Segment]) -> Vectors<'t> {
        let Some(embedder) = &self.embedder else { return Vectors::new() };
        // An empty caption is like no other, and there is nothing to embed.
        let differs = |(text, reference): &(&str, &str)| text != reference && !text.is_empty();
        let texts: BTreeSet<&str> = answers
            .iter()
            .flat_map(|answer| answer.captions(gold))
            .filter(differs)
            .flat_map(|(text, reference)| [text, reference])
            .collect();
        let texts: Vec<&str> = texts.into_iter().collect();
        let vectors = vectors(&**embedder, &texts);
        texts.into_iter().zip(vectors).collect()
    }

    /// How alike two captions are; why that cannot be told otherwise.
    fn similarity(&self, text: &str, reference: &str, vectors: &Vectors<'_>) -> Result<f64, String> {
        if self.embedder.is_none() {
            return Ok(rouge_similarity(text, reference));
        }
        if text == reference {
            return Ok(1.0);
        }
        match (vectors.get(text), vectors.get(reference)) {
            (Some(Ok(text)), Some(Ok(reference))) => Ok(similarity(text, reference)),
            (Some(Err(reason)), _) | (_, Some(Err(reason))) if !text.is_empty() => Err(reason.clone()),
            _ => Ok(0.0),
        }
    }

    /// The value and the raw metric.
    fn worth(&self, gold: &[Segment], answer: &Answer, vectors: &Vectors<'_>) -> Result<(f64, f64), String> {
        let Answer { predicted, meetings } = answer;
        if predicted.is_empty() {
            return Ok((0.0, 0.0));
        }
        let similarities: Vec<f64> = answer
            .captions(gold)
            .map(|(text, reference)| self.similarity(text, reference, vectors))
            .collect::<Result<_, _>>()?;
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
        let answers: Vec<Answer> =
            responses.iter().map(|response| Answer::new(&gold, response.text, tolerance_sec)).collect();
        let vectors = self.vectors(&answers, &gold);
        let score = |answer: &Answer| match self.worth(&gold, answer, &vectors) {
            Ok((value, raw)) => Score::Scored { value: value as f32, raw: raw as f32, parts: Parts::new() },
            Err(reason) => Score::Unscored(reason),
        };
        Ok(answers.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Span, TaskKind};

    use super::*;
    use crate::{
        embed::{Counting, VectorMap},
        task::contract::sample,
    };

    fn worth(reward: &DvcReward, text: &str) -> Score {
        group(reward, &[text]).remove(0)
    }

    fn group(reward: &DvcReward, texts: &[&str]) -> Vec<Score> {
        let event = |start_sec, end_sec, caption: &str| Segment {
            span: Span { start_sec, end_sec },
            caption: caption.into(),
        };
        let gold = vec![event(0.0, 10.0, "the hook cuts"), event(10.0, 20.0, "the clip closes")];
        let sample = sample(TaskKind::DenseCaptioning, Gold::Segments(gold));
        let responses: Vec<Response<'_>> =
            texts.iter().map(|text| Response { text, num_tokens: 1, truncated: false }).collect();
        reward.score_group(&sample, &responses).unwrap()
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

    #[test]
    fn a_group_is_embedded_in_one_call() {
        let texts = [
            "0.0-10.0 seconds: the knife cuts",
            "0.0-10.0 seconds: the hook cuts\n12.0-20.0 seconds: it closes",
            "1.0-9.0 seconds: the knife cuts",
            "no event at all",
            "50.0-60.0 seconds: far away",
        ];
        let counting = Arc::new(Counting::default());
        let embedder: Arc<dyn TextEmbedder> = counting.clone();
        let reward = DvcReward { embedder: Some(embedder), ..DvcReward::default() };
        let together = group(&reward, &texts);
        let asked = ["it closes", "the clip closes", "the hook cuts", "the knife cuts"];
        assert_eq!(counting.asked(), [asked]);
        assert_eq!(together, texts.map(|text| worth(&reward, text)), "the others of a group change no score");
        // Nothing to compare: nothing is asked.
        let num_calls = counting.asked().len();
        group(&reward, &["", "0.0-10.0 seconds: the hook cuts"]);
        assert_eq!(counting.asked().len(), num_calls);
    }
}
