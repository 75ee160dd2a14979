//! Temporal intersection over union, and the TAG score of a record.
//!
//! Official score: each gold span in turn takes the unused predicted one with the highest overlap; the score is the mean
//! over those that reach the threshold, so neither missed nor surplus spans cost anything. [`strict`] charges for both.

use medgrpo_datasets::Span;

use super::matching::best_assignment;

/// Overlap over hull, 0 where the hull has no length. For spans that meet, the hull is the union.
pub fn span_iou(a: Span, b: Span) -> f64 {
    let hull = a.end_sec.max(b.end_sec) - a.start_sec.min(b.start_sec);
    if hull <= 0.0 {
        return 0.0;
    }
    let iou = (a.end_sec.min(b.end_sec) - a.start_sec.max(b.start_sec)).max(0.0) / hull;
    if iou.is_nan() { 0.0 } else { iou }
}

/// The official TAG score of a record at one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TagScore {
    /// Mean overlap of the matched gold spans; 0 if none.
    pub mean_iou: f64,
    /// Matched over all gold spans; 0 if there are none.
    pub recall: f64,
    /// Matched over all predicted spans; 0 if there are none.
    pub precision: f64,
}

impl TagScore {
    /// Harmonic mean of precision and recall.
    pub fn f1(&self) -> f64 {
        let sum = self.precision + self.recall;
        if sum > 0.0 { 2.0 * self.precision * self.recall / sum } else { 0.0 }
    }
}

/// Scores predicted against gold spans at a threshold in (0, 1].
///
/// Times are in any unit: the official scorer multiplies both sides by the clip's fps first, which [`scaled`] does.
pub fn official(predicted: &[Span], gold: &[Span], threshold: f64) -> TagScore {
    let mut used = vec![false; predicted.len()];
    let (mut sum, mut matched) = (0.0, 0.0);
    for &gold_span in gold {
        let mut best = (None, 0.0);
        for (index, &span) in predicted.iter().enumerate() {
            let iou = span_iou(gold_span, span);
            if !used[index] && iou > best.1 {
                best = (Some(index), iou);
            }
        }
        if let (Some(index), iou) = best
            && iou >= threshold
        {
            used[index] = true;
            sum += iou;
            matched += 1.0;
        }
    }
    let share = |of: usize| if of == 0 { 0.0 } else { matched / of as f64 };
    TagScore {
        mean_iou: if matched > 0.0 { sum / matched } else { 0.0 },
        recall: share(gold.len()),
        precision: share(predicted.len()),
    }
}

/// The spans with both times multiplied.
pub fn scaled(spans: &[Span], factor: f64) -> Vec<Span> {
    spans.iter().map(|s| Span { start_sec: s.start_sec * factor, end_sec: s.end_sec * factor }).collect()
}

/// The overlap of a predicted with a gold span, 0 where the predicted one ends before it starts.
///
/// A gold span shorter than `2 * tolerance_sec` counts as a point: it and the predicted one are widened by the tolerance on
/// both sides, because a point overlaps nothing.
pub fn tolerant_iou(gold: Span, predicted: Span, tolerance_sec: f64) -> f64 {
    let widened =
        |s: Span| Span { start_sec: s.start_sec - tolerance_sec, end_sec: s.end_sec + tolerance_sec };
    if predicted.end_sec < predicted.start_sec {
        0.0
    } else if gold.end_sec - gold.start_sec < 2.0 * tolerance_sec {
        span_iou(widened(gold), widened(predicted))
    } else {
        span_iou(gold, predicted)
    }
}

/// [`tolerant_iou`] under the best one-to-one matching, summed and divided by the larger number of spans. 0 if there is no
/// gold span.
pub fn strict(predicted: &[Span], gold: &[Span], tolerance_sec: f64) -> f64 {
    strict_above(predicted, gold, tolerance_sec, 0.0)
}

/// [`strict`] in which overlaps below the threshold count nothing.
pub fn strict_above(predicted: &[Span], gold: &[Span], tolerance_sec: f64, threshold: f64) -> f64 {
    if gold.is_empty() || predicted.is_empty() {
        return 0.0;
    }
    let counted = |g: usize, p: usize| {
        Some(tolerant_iou(gold[g], predicted[p], tolerance_sec))
            .filter(|iou| *iou >= threshold)
            .unwrap_or(0.0)
    };
    best_assignment(gold.len(), predicted.len(), counted) / gold.len().max(predicted.len()) as f64
}

/// Precision, recall and F1 at a threshold in (0, 1] under the one-to-one matching that reaches it most often, with
/// [`strict_above`] as the mean overlap.
pub fn strict_at(predicted: &[Span], gold: &[Span], tolerance_sec: f64, threshold: f64) -> TagScore {
    let reaches = |g: usize, p: usize| {
        f64::from(u8::from(tolerant_iou(gold[g], predicted[p], tolerance_sec) >= threshold))
    };
    let matched = best_assignment(gold.len(), predicted.len(), reaches);
    let share = |of: usize| if of == 0 { 0.0 } else { matched / of as f64 };
    TagScore {
        mean_iou: strict_above(predicted, gold, tolerance_sec, threshold),
        recall: share(gold.len()),
        precision: share(predicted.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(f64, f64)]) -> Vec<Span> {
        pairs.iter().map(|&(start_sec, end_sec)| Span { start_sec, end_sec }).collect()
    }

    #[test]
    fn overlap_by_hand() {
        let [a, b, point] =
            [(0.0, 10.0), (5.0, 15.0), (3.0, 3.0)].map(|(start_sec, end_sec)| Span { start_sec, end_sec });
        assert_eq!(span_iou(a, b), 1.0 / 3.0);
        assert_eq!(span_iou(point, point), 0.0);
        let endless = Span { start_sec: 1.0, end_sec: f64::INFINITY };
        assert_eq!(span_iou(endless, endless), 0.0);
    }

    #[test]
    fn official_forgives_misses_and_surplus() {
        let gold = spans(&[(0.0, 10.0), (20.0, 30.0)]);
        let predicted = spans(&[(0.0, 10.0), (50.0, 60.0), (70.0, 80.0)]);
        let score = official(&predicted, &gold, 0.3);
        assert_eq!((score.mean_iou, score.recall, score.precision), (1.0, 0.5, 1.0 / 3.0));
        assert_eq!(strict(&predicted, &gold, 0.5), 1.0 / 3.0);
    }

    #[test]
    fn official_takes_gold_in_order_and_strict_does_not() {
        let gold = spans(&[(0.0, 10.0), (0.0, 6.0)]);
        let predicted = spans(&[(0.0, 6.0), (0.0, 30.0)]);
        // First come: gold 0 takes 0-6 (.6) and leaves gold 1 with 0-30 (.2).
        assert_eq!(official(&predicted, &gold, 0.3).mean_iou, 0.6);
        assert!((strict(&predicted, &gold, 0.5) - (1.0 + 1.0 / 3.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn points_match_within_the_tolerance() {
        let gold = spans(&[(66.0, 66.0)]);
        assert_eq!(strict(&gold, &gold, 0.25), 1.0);
        assert!((strict(&spans(&[(66.1, 66.1)]), &gold, 0.25) - 0.4 / 0.6).abs() < 1e-9);
        assert_eq!(strict(&spans(&[(67.0, 67.0)]), &gold, 0.25), 0.0);
    }

    #[test]
    fn precision_and_recall_count_matched_pairs() {
        let gold = spans(&[(0.0, 10.0), (20.0, 30.0)]);
        let score = strict_at(&spans(&[(0.0, 10.0), (1.0, 9.0), (22.0, 30.0)]), &gold, 0.5, 0.5);
        assert_eq!((score.precision, score.recall), (2.0 / 3.0, 1.0));
        assert!((score.f1() - 0.8).abs() < 1e-12);
        assert_eq!(strict_at(&[], &gold, 0.5, 0.5), TagScore::default());
    }

    #[test]
    fn reversed_predictions_earn_nothing() {
        assert_eq!(strict(&spans(&[(9.0, 1.0)]), &spans(&[(1.0, 9.0)]), 0.5), 0.0);
    }
}
