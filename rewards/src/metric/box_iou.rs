//! Intersection over union of boxes, and the STG score of a record.
//!
//! Official score: boxes are looked up by the requested time with one decimal; a missing or all-zero box takes the last
//! one used, so one box can score on all times. [`strict`] counts a missing box as 0.

use medgrpo_datasets::TimedBox;

use crate::parse::{
    python::one_decimal,
    stg::{Boxes, Entry},
};

/// `max` and `min` that let `NaN` through, as numpy's do.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn smaller(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// Intersection over union of `[x1, y1, x2, y2]`, as the official scorer computes it: areas keep the sign their corners
/// give them, the union is at least 1e-6, and `NaN` in gives `NaN` out.
pub fn box_iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    if a.iter().chain(&b).any(|corner| corner.is_nan()) {
        return f64::NAN;
    }
    let width = larger(smaller(a[2], b[2]) - larger(a[0], b[0]), 0.0);
    let height = larger(smaller(a[3], b[3]) - larger(a[1], b[1]), 0.0);
    let intersection = width * height;
    let area = |c: [f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    intersection / larger(area(a) + area(b) - intersection, 1e-6)
}

/// The official STG score of a record: the mean over gold times, `NaN` if an answer's box holds `NaN`; `None` if no gold box
/// can be scored. Gold boxes that are not finite were malformed in the record: they are passed over.
pub fn official(predicted: &Boxes, gold: &[TimedBox]) -> Option<f64> {
    const ABSENT: [f64; 4] = [0.0; 4];
    let timed: std::collections::HashMap<String, [f64; 4]> = match predicted {
        Boxes::Timed(boxes) => boxes.iter().cloned().collect(),
        Boxes::Listed(boxes) => gold.iter().map(|g| g.key.clone()).zip(boxes.iter().copied()).collect(),
    };
    let (mut last, mut sum, mut count) = (ABSENT, 0.0, 0.0);
    for (index, target) in gold.iter().enumerate() {
        let mut found = timed.get(&one_decimal(target.time_sec)).copied().unwrap_or(ABSENT);
        if found == ABSENT && index > 0 {
            found = last;
        }
        last = found;
        if target.box_xyxy.iter().all(|corner| corner.is_finite()) {
            sum += box_iou(found, target.box_xyxy);
            count += 1.0;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// How far a predicted time may be from a requested one: half a frame period, but at least the 0.05 s that rounding to
/// one decimal moves a time, and never half-way to a neighbouring request.
pub fn tolerance_sec(gold: &[TimedBox], fps: f64) -> f64 {
    let mut times: Vec<f64> = gold.iter().map(|target| target.time_sec).collect();
    times.sort_by(f64::total_cmp);
    let closest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
    let half_frame = if fps > 0.0 && fps.is_finite() { 0.5 / fps } else { 0.5 };
    half_frame.min(0.49 * closest).max(0.05)
}

/// The strict score of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StgScore {
    /// Mean overlap over gold times, absent and malformed boxes 0.
    pub mean_iou: f64,
    /// Share of gold times that a prediction names, whatever its box.
    pub time_recall: f64,
}

/// The mean over gold times of the overlap with the predicted box nearest in time, absent and malformed boxes 0.
///
/// A predicted time belongs to the gold time it is nearest to, if it is within `tolerance_sec` of it; where several
/// belong to one gold time the worst counts, so that a list of guesses never pays. Corners in reverse order are put right.
/// 0 if there is no gold box.
pub fn strict(predicted: &[Entry], gold: &[TimedBox], tolerance_sec: f64) -> f64 {
    strict_score(predicted, gold, tolerance_sec).mean_iou
}

/// [`strict`] with the recall of times.
pub fn strict_score(predicted: &[Entry], gold: &[TimedBox], tolerance_sec: f64) -> StgScore {
    let mut worst: Vec<Option<f64>> = vec![None; gold.len()];
    let mut by_time: Vec<usize> = (0..gold.len()).collect();
    by_time.sort_by(|&a, &b| gold[a].time_sec.total_cmp(&gold[b].time_sec));
    for entry in predicted {
        let after = by_time.partition_point(|&index| gold[index].time_sec < entry.time_sec);
        let distance = |&index: &usize| (gold[index].time_sec - entry.time_sec).abs();
        let nearest = by_time[after.saturating_sub(1)..(after + 1).min(by_time.len())]
            .iter()
            .copied()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        // The margin absorbs binary rounding of times with one decimal.
        let Some(target) = nearest.filter(|index| distance(index) <= tolerance_sec + 1e-9) else {
            continue;
        };
        let iou = entry.box_xyxy.map_or(0.0, |corners| box_iou(in_order(corners), gold[target].box_xyxy));
        let iou = if iou.is_finite() { iou.clamp(0.0, 1.0) } else { 0.0 };
        worst[target] = Some(worst[target].map_or(iou, |known| known.min(iou)));
    }
    if gold.is_empty() {
        return StgScore::default();
    }
    let share = |sum: f64| sum / gold.len() as f64;
    StgScore {
        mean_iou: share(worst.iter().map(|iou| iou.unwrap_or(0.0)).sum()),
        time_recall: share(worst.iter().flatten().count() as f64),
    }
}

/// The box with its smaller corner first; `NaN` stays.
fn in_order([x1, y1, x2, y2]: [f64; 4]) -> [f64; 4] {
    [smaller(x1, x2), smaller(y1, y2), larger(x1, x2), larger(y1, y2)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::stg;

    fn gold(boxes: &[(&str, [f64; 4])]) -> Vec<TimedBox> {
        boxes
            .iter()
            .map(|&(key, box_xyxy)| TimedBox {
                key: key.into(),
                time_sec: key.parse().expect("a number"),
                box_xyxy,
            })
            .collect()
    }

    #[test]
    fn overlap_by_hand() {
        assert_eq!(box_iou([0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0]), 1.0 / 3.0);
        assert_eq!(box_iou([0.0; 4], [0.0; 4]), 0.0);
        assert!(box_iou([f64::NAN, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]).is_nan());
    }

    #[test]
    fn official_inherits_the_last_box_and_strict_does_not() {
        let gold = gold(&[("0", [0.0, 0.0, 2.0, 2.0]), ("8", [0.0, 0.0, 2.0, 2.0])]);
        let text = "0.0 seconds: [0, 0, 2, 2]";
        assert_eq!(official(&stg::parse(text), &gold), Some(1.0));
        assert_eq!(strict(&stg::entries(text), &gold, 0.5), 0.5);
    }

    #[test]
    fn lists_score_only_under_keys_with_one_decimal() {
        let answer = stg::parse("[[0, 0, 2, 2]]");
        assert_eq!(official(&answer, &gold(&[("66", [0.0, 0.0, 2.0, 2.0])])), Some(0.0));
        assert_eq!(official(&answer, &gold(&[("66.0", [0.0, 0.0, 2.0, 2.0])])), Some(1.0));
    }

    #[test]
    fn reversed_corners_are_a_box_and_malformed_boxes_still_name_their_time() {
        let gold = gold(&[("0", [0.0, 0.0, 2.0, 2.0]), ("8", [0.0, 0.0, 2.0, 2.0])]);
        let score = strict_score(&stg::entries("0.0 seconds: [2, 0, 0, 2] 8.0 seconds: [1]"), &gold, 0.5);
        assert_eq!(score, StgScore { mean_iou: 0.5, time_recall: 1.0 });
        assert_eq!(strict(&stg::entries("0.0 seconds: [2, nan, 0, 2]"), &gold, 0.5), 0.0);
    }

    #[test]
    fn several_boxes_for_one_time_count_as_the_worst() {
        let gold = gold(&[("8", [0.0, 0.0, 2.0, 2.0])]);
        let text = "8.0 seconds: [0, 0, 2, 2] 8.0 seconds: [0, 0, 1, 2]";
        assert_eq!(strict(&stg::entries(text), &gold, 0.5), 0.5);
        assert_eq!(strict(&stg::entries("9.0 seconds: [0, 0, 2, 2]"), &gold, 0.5), 0.0);
        assert_eq!(strict(&stg::entries("8.5 seconds: [0, 0, 2, 2]"), &gold, 0.5), 1.0);
    }
}
