//! The temporal F1 of dense captioning.
//!
//! Official score: times become whole frames, and at each of three thresholds every pair with an overlap above it marks
//! both its members, many to many; precision and recall are shares of marked events, averaged over the thresholds.

use medgrpo_datasets::Span;

use super::{matching::best_assignment, span_iou::span_iou};

/// An event in frames; ends may come before starts.
pub type FrameSpan = [i64; 2];

/// Overlap must exceed each of these.
const THRESHOLDS: [f64; 3] = [0.3, 0.5, 0.7];

/// The temporal score of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DvcScore {
    /// Share of predicted events that overlap a gold one, mean over thresholds.
    pub precision: f64,
    /// Share of gold events that overlap a predicted one, mean over thresholds.
    pub recall: f64,
    /// Harmonic mean of the two, 0 where both are 0.
    pub f1: f64,
}

impl DvcScore {
    fn new(precision: f64, recall: f64) -> Self {
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Self { precision, recall, f1 }
    }
}

/// `int(seconds * fps)`; `None` where the official scorer fails because the product is not finite.
///
/// Beyond the range of `i64` the scorer's behaviour depends on its numpy version; here the frame saturates.
pub fn frame(seconds: f64, fps: f64) -> Option<i64> {
    let frame = seconds * fps;
    // `as` truncates towards zero and saturates, which is meant.
    frame.is_finite().then_some(frame as i64)
}

fn overlap(a: FrameSpan, b: FrameSpan) -> f64 {
    let [a, b] = [a, b].map(|[x, y]| [x.min(y) as f64, x.max(y) as f64]);
    let intersection = (a[1].min(b[1]) - a[0].max(b[0])).max(0.0);
    let hull = a[1].max(b[1]) - a[0].min(b[0]);
    let lengths = (a[1] - a[0]) + (b[1] - b[0]);
    intersection / (hull.min(lengths) + 1e-8)
}

/// Scores predicted against gold events; `None` if either side is empty, which the official scorer passes over.
pub fn official(predicted: &[FrameSpan], gold: &[FrameSpan]) -> Option<DvcScore> {
    if predicted.is_empty() || gold.is_empty() {
        return None;
    }
    let best = |span: FrameSpan, others: &[FrameSpan]| {
        others.iter().map(|&other| overlap(span, other)).fold(0.0, f64::max)
    };
    let share = |spans: &[FrameSpan], others: &[FrameSpan]| {
        let best: Vec<f64> = spans.iter().map(|&span| best(span, others)).collect();
        let shares = THRESHOLDS
            .map(|threshold| best.iter().filter(|&&iou| iou > threshold).count() as f64 / spans.len() as f64);
        shares.iter().sum::<f64>() / THRESHOLDS.len() as f64
    };
    let (precision, recall) = (share(predicted, gold), share(gold, predicted));
    Some(DvcScore::new(precision, recall))
}

/// The strict score, in seconds: at each threshold a best one-to-one matching of pairs whose overlap reaches it, so one
/// wide event cannot cover many. 0 without a predicted event; `None` without a gold one.
pub fn strict(predicted: &[Span], gold: &[Span]) -> Option<DvcScore> {
    if gold.is_empty() {
        return None;
    }
    if predicted.is_empty() {
        return Some(DvcScore::new(0.0, 0.0));
    }
    let matched_at = |threshold: f64| {
        let reaches = |g: usize, p: usize| f64::from(u8::from(span_iou(gold[g], predicted[p]) >= threshold));
        best_assignment(gold.len(), predicted.len(), reaches)
    };
    let matched = THRESHOLDS.map(matched_at).iter().sum::<f64>() / THRESHOLDS.len() as f64;
    Some(DvcScore::new(matched / predicted.len() as f64, matched / gold.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_strict() {
        // Half overlap: above .3 only.
        let score = official(&[[0, 5]], &[[0, 10]]).expect("both sides have events");
        assert!((score.f1 - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn one_event_may_cover_many() {
        let score = official(&[[0, 10]], &[[0, 9], [0, 10], [1, 10]]).expect("both sides have events");
        assert_eq!((score.precision, score.recall), (1.0, 1.0));
        assert_eq!(official(&[], &[[0, 1]]), None);
        let spans = |pairs: &[(f64, f64)]| -> Vec<Span> {
            pairs.iter().map(|&(start_sec, end_sec)| Span { start_sec, end_sec }).collect()
        };
        let gold = spans(&[(0.0, 9.0), (0.0, 10.0), (1.0, 10.0)]);
        let score = strict(&spans(&[(0.0, 10.0)]), &gold).expect("there is gold");
        assert_eq!((score.precision, score.recall), (1.0, 1.0 / 3.0));
        assert_eq!(strict(&[], &gold).map(|score| score.f1), Some(0.0));
    }

    #[test]
    fn frames_truncate() {
        assert_eq!(frame(9.9, 1.0), Some(9));
        assert_eq!(frame(1.0, 0.5), Some(0));
        assert_eq!(frame(f64::INFINITY, 1.0), None);
        assert_eq!(frame(1e300, 1.0), Some(i64::MAX));
    }
}
