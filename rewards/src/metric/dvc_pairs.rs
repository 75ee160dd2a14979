//! Which captions the judge compares in dense captioning.
//!
//! Official rule: at each threshold every predicted event takes the gold event it overlaps most, if that reaches the
//! threshold; one gold event may serve several. A well-placed pair is therefore judged at all three thresholds.

use medgrpo_datasets::Span;

/// The overlaps at which pairs are formed.
pub const THRESHOLDS: [f64; 3] = [0.3, 0.5, 0.7];

/// Intersection over the true union; 0 where that has no length.
fn union_iou(a: Span, b: Span) -> f64 {
    let intersection = (a.end_sec.min(b.end_sec) - a.start_sec.max(b.start_sec)).max(0.0);
    let union = (a.end_sec - a.start_sec) + (b.end_sec - b.start_sec) - intersection;
    if union > 0.0 { intersection / union } else { 0.0 }
}

/// Pairs `(predicted index, gold index)` by predicted index, at each of the [`THRESHOLDS`].
pub fn pairs(predicted: &[Span], gold: &[Span]) -> [Vec<(usize, usize)>; 3] {
    let best: Vec<Option<(usize, f64)>> = predicted
        .iter()
        .map(|&span| {
            let overlaps = gold.iter().enumerate().map(|(index, &other)| (index, union_iou(span, other)));
            // The first wins ties.
            overlaps.reduce(|best, next| if next.1 > best.1 { next } else { best })
        })
        .collect();
    THRESHOLDS.map(|threshold| {
        let reaching = |(index, best): (usize, &Option<(usize, f64)>)| {
            best.filter(|&(_, iou)| iou >= threshold).map(|(gold, _)| (index, gold))
        };
        best.iter().enumerate().filter_map(reaching).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gold_event_serves_several_and_the_threshold_is_inclusive() {
        let spans = |pairs: &[(f64, f64)]| -> Vec<Span> {
            pairs.iter().map(|&(start_sec, end_sec)| Span { start_sec, end_sec }).collect()
        };
        let [low, middle, high] =
            pairs(&spans(&[(0.0, 5.0), (0.0, 10.0), (50.0, 60.0)]), &spans(&[(0.0, 10.0), (0.0, 10.0)]));
        assert_eq!(
            (low.as_slice(), middle.as_slice()),
            ([(0, 0), (1, 0)].as_slice(), [(0, 0), (1, 0)].as_slice())
        );
        assert_eq!(high, [(1, 0)]);
    }
}
