//! Answers that never look: what a constant is worth, from the training records alone.
//!
//! Per source, because a model that only recognises the source can do the same: the most frequent class and scores; for
//! spans, boxes, events and captions the training answer that agrees best with the others, or the median one where that
//! is better. Sources that training does not have fall back to all sources together.

use std::collections::{BTreeMap, HashMap};

use medgrpo_datasets::{Gold, Segment, Span, TaskKind, TaskSample, TimedBox};

use crate::{
    answer::canonical_answer,
    metric::{box_iou, dvc_f1, rouge_l, span_iou},
};

/// How many training answers the most central one is chosen among; the first ones spread evenly over the list.
const CENTRAL_SAMPLE: usize = 64;

/// One answer per sample of `test`, made of the gold of `train`; empty where training has no record of the task.
///
/// Of a test sample only its task, its source and the times it asks boxes for are looked at.
pub fn constant_baseline(train: &[TaskSample], test: &[TaskSample]) -> Vec<String> {
    let mut groups: BTreeMap<(TaskKind, Option<&str>), Vec<&TaskSample>> = BTreeMap::new();
    for sample in train.iter().filter(|sample| !matches!(sample.gold, Gold::Hidden)) {
        groups.entry((sample.task, Some(sample.source.as_str()))).or_default().push(sample);
        groups.entry((sample.task, None)).or_default().push(sample);
    }
    let constants: BTreeMap<(TaskKind, Option<&str>), Gold> =
        groups.iter().filter_map(|(&key, samples)| Some((key, constant(samples)?))).collect();
    test.iter()
        .map(|sample| {
            let own = constants.get(&(sample.task, Some(sample.source.as_str())));
            let gold = own.or_else(|| constants.get(&(sample.task, None)));
            gold.and_then(|gold| canonical_answer(&at_asked_times(gold, sample))).unwrap_or_default()
        })
        .collect()
}

/// The one box at every time the sample asks for.
fn at_asked_times(gold: &Gold, sample: &TaskSample) -> Gold {
    match (gold, &sample.gold) {
        (Gold::Boxes(constant), Gold::Boxes(asked)) => {
            let boxes = asked.iter().zip(constant.iter().cycle());
            Gold::Boxes(
                boxes.map(|(asked, one)| TimedBox { box_xyxy: one.box_xyxy, ..asked.clone() }).collect(),
            )
        }
        _ => gold.clone(),
    }
}

/// The constant answer of a group, as gold.
fn constant(samples: &[&TaskSample]) -> Option<Gold> {
    Some(match &samples.first()?.gold {
        Gold::Spans(_) => Gold::Spans(best_spans(samples)?),
        Gold::Boxes(_) => Gold::Boxes(vec![best_box(samples)?]),
        Gold::Segments(_) => Gold::Segments(central_events(samples)?),
        Gold::Class(_) => {
            Gold::Class(most_frequent(samples.iter().filter_map(|sample| match &sample.gold {
                Gold::Class(class) => Some(class.clone()),
                _ => None,
            }))?)
        }
        Gold::CvsScores(_) => Gold::CvsScores(majority_scores(samples)),
        Gold::SkillScores(_) => Gold::SkillScores(majority_scores(samples)),
        Gold::Text(_) => Gold::Text(central_text(samples)?),
        Gold::Hidden => return None,
    })
}

/// The lower median.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// The span list that overlaps the others best by the strict rule, the single median span being a candidate too.
fn best_spans(samples: &[&TaskSample]) -> Option<Vec<Span>> {
    let lists: Vec<Vec<Span>> = samples
        .iter()
        .filter_map(|sample| match &sample.gold {
            Gold::Spans(spans) if !spans.is_empty() => Some(spans.clone()),
            _ => None,
        })
        .collect();
    let start_sec = median(lists.iter().flatten().map(|span| span.start_sec).collect())?;
    let end_sec = median(lists.iter().flatten().map(|span| span.end_sec).collect())?.max(start_sec);
    // Half a second of tolerance for points: the fps of the clips differ.
    let overlap = |guess: &Vec<Span>, truth: &Vec<Span>| span_iou::strict(guess, truth, 0.5);
    most_central(lists, Some(vec![Span { start_sec, end_sec }]), overlap)
}

/// The box that overlaps the others best, the median of each corner being a candidate too.
fn best_box(samples: &[&TaskSample]) -> Option<TimedBox> {
    let boxes: Vec<[f64; 4]> = samples
        .iter()
        .flat_map(|sample| match &sample.gold {
            Gold::Boxes(boxes) => boxes.as_slice(),
            _ => &[],
        })
        .map(|timed| timed.box_xyxy)
        .filter(|corners| corners.iter().all(|corner| corner.is_finite()))
        .collect();
    let corner = |index: usize| {
        let middle = median(boxes.iter().map(|corners| corners[index]).collect())?;
        Some((middle * 100.0).round() / 100.0)
    };
    let median_box = [corner(0)?, corner(1)?, corner(2)?, corner(3)?];
    let box_xyxy = most_central(boxes, Some(median_box), |&guess, &truth| box_iou::box_iou(guess, truth))?;
    Some(TimedBox { key: "0".to_owned(), time_sec: 0.0, box_xyxy })
}

/// The value that occurs most; the smallest of those on ties.
fn most_frequent<T: Ord + std::hash::Hash + Clone>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by(|(a, n), (b, m)| n.cmp(m).then_with(|| b.cmp(a))).map(|(value, _)| value)
}

fn majority_scores(samples: &[&TaskSample]) -> BTreeMap<String, i64> {
    let mut by_name: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for sample in samples {
        if let Gold::CvsScores(scores) | Gold::SkillScores(scores) = &sample.gold {
            for (name, &score) in scores {
                by_name.entry(name).or_default().push(score);
            }
        }
    }
    let majority = by_name
        .into_iter()
        .filter_map(|(name, scores)| Some((name.to_owned(), most_frequent(scores.into_iter())?)));
    majority.collect()
}

/// The item that agrees best, on average, with the others of an evenly spread sample; `extra` is a candidate that is not
/// one of them, and wins ties.
fn most_central<T>(items: Vec<T>, extra: Option<T>, agreement: impl Fn(&T, &T) -> f64) -> Option<T> {
    let stride = items.len().div_ceil(CENTRAL_SAMPLE).max(1);
    let mut sample: Vec<T> = items.into_iter().step_by(stride).collect();
    let mean_over = |candidate: &T, itself: Option<usize>| {
        let others = sample.iter().enumerate().filter(|&(index, _)| Some(index) != itself);
        let (sum, count) = others
            .fold((0.0, 0.0), |(sum, count), (_, other)| (sum + agreement(candidate, other), count + 1.0));
        if count > 0.0 { sum / count } else { 0.0 }
    };
    let mut best: Option<(usize, f64)> = None;
    for (index, candidate) in sample.iter().enumerate() {
        let mean = mean_over(candidate, Some(index));
        if best.is_none_or(|(_, highest)| mean > highest) {
            best = Some((index, mean));
        }
    }
    let (index, mean) = best?;
    match extra {
        Some(extra) if mean_over(&extra, None) >= mean => Some(extra),
        _ => Some(sample.swap_remove(index)),
    }
}

fn central_text(samples: &[&TaskSample]) -> Option<String> {
    let texts = samples.iter().filter_map(|sample| match &sample.gold {
        Gold::Text(text) => Some((text, rouge_l::words(text))),
        _ => None,
    });
    let central = most_central(texts.collect(), None, |(_, a), (_, b)| rouge_l::rouge_l_of_words(a, b))?;
    Some(central.0.clone())
}

fn central_events(samples: &[&TaskSample]) -> Option<Vec<Segment>> {
    // A tenth of a second is a frame here: clips of one source may differ in fps.
    let frames = |events: &[Segment]| -> Option<Vec<dvc_f1::FrameSpan>> {
        let frame = |sec| dvc_f1::frame(sec, 10.0);
        events.iter().map(|e| Some([frame(e.span.start_sec)?, frame(e.span.end_sec)?])).collect()
    };
    let lists = samples.iter().filter_map(|sample| match &sample.gold {
        Gold::Segments(events) => Some((events, frames(events)?)),
        _ => None,
    });
    let central = most_central(lists.collect(), None, |(_, a), (_, b)| {
        dvc_f1::official(a, b).map_or(0.0, |score| score.f1)
    })?;
    Some(central.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::contract::sample;

    fn from(source: &str, task: TaskKind, gold: Gold) -> TaskSample {
        TaskSample { source: source.into(), ..sample(task, gold) }
    }

    fn span(start_sec: f64, end_sec: f64) -> Span {
        Span { start_sec, end_sec }
    }

    #[test]
    fn spans_are_constants_of_the_source_and_fall_back_to_all() {
        let train: Vec<TaskSample> = [("A", 1.0, 4.0), ("A", 2.0, 6.0), ("A", 9.0, 9.5), ("B", 50.0, 60.0)]
            .map(|(source, start, end)| from(source, TaskKind::Tag, Gold::Spans(vec![span(start, end)])))
            .to_vec();
        let test = [from("A", TaskKind::Tag, Gold::Hidden), from("C", TaskKind::Tag, Gold::Hidden)];
        assert_eq!(constant_baseline(&train, &test), ["2.0-6.0 seconds.", "2.0-6.0 seconds."]);
        let other = [from("B", TaskKind::Tag, Gold::Hidden), from("B", TaskKind::Cvs, Gold::Hidden)];
        assert_eq!(constant_baseline(&train, &other), ["50.0-60.0 seconds.", ""]);
    }

    #[test]
    fn boxes_stand_at_the_asked_times_and_never_copy_the_test_box() {
        let boxes = |time_sec: f64, corner: f64| {
            Gold::Boxes(vec![TimedBox { key: time_sec.to_string(), time_sec, box_xyxy: [corner; 4] }])
        };
        let train = [from("A", TaskKind::Stg, boxes(1.0, 5.0))];
        let test = [from("A", TaskKind::Stg, boxes(8.0, 77.0))];
        assert_eq!(constant_baseline(&train, &test), ["8.0 seconds: [5.0, 5.0, 5.0, 5.0]"]);
    }

    #[test]
    fn majorities_and_central_answers() {
        let class = |name: &str| from("A", TaskKind::NextAction, Gold::Class(name.into()));
        let text = |words: &str| from("A", TaskKind::VideoSummary, Gold::Text(words.into()));
        let scores = |n| from("A", TaskKind::Cvs, Gold::CvsScores([("cystic_plate".to_owned(), n)].into()));
        let train = [
            class("tying"),
            class("cutting"),
            class("tying"),
            text("the hook cuts the flap"),
            text("gauze"),
            text("the hook cuts the duct"),
            text("a hook cuts"),
            scores(0),
            scores(2),
            scores(0),
        ];
        let test = [class("x"), text("y"), scores(1)];
        assert_eq!(constant_baseline(&train, &test), ["tying", "the hook cuts the flap", "Cystic plate: 0"]);
    }
}
