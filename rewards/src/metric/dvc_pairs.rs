//! Which captions the judge compares in dense captioning.
//!
//! Official rule: at each threshold every predicted event takes the gold event it overlaps most, if that reaches the
//! threshold; one gold event may serve several. A well-placed pair is therefore judged at all three thresholds.

use medgrpo_datasets::Span;

use super::matching::best_pairs;

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

/// Pairs `(predicted index, gold index)` by the strict rule: one to one, with the greatest total overlap among those that
/// reach the lowest of the [`THRESHOLDS`].
pub fn one_to_one(predicted: &[Span], gold: &[Span]) -> Vec<(usize, usize)> {
    let gain = |p: usize, g: usize| {
        let iou = union_iou(predicted[p], gold[g]);
        if iou >= THRESHOLDS[0] { iou } else { 0.0 }
    };
    let mut pairs = best_pairs(predicted.len(), gold.len(), gain);
    pairs.retain(|&(p, g)| gain(p, g) > 0.0);
    pairs
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

    #[test]
    fn one_to_one_gives_each_gold_event_one_prediction() {
        let span = |(start_sec, end_sec)| Span { start_sec, end_sec };
        let predicted = [(0.0, 10.0), (0.0, 9.0), (20.0, 30.0), (21.0, 29.0)].map(span);
        let gold = [(20.0, 30.0), (0.0, 9.0), (50.0, 60.0)].map(span);
        let mut pairs = one_to_one(&predicted, &gold);
        pairs.sort_unstable();
        assert_eq!(pairs, [(1, 1), (2, 0)]);
        assert_eq!(one_to_one(&[], &gold), []);
    }
}
