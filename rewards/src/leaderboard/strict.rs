//! The score of each row by the strict rules: what the official ones should have been.
//!
//! Every row with ground truth counts, and what an answer lacks is wrong (`repairs` shows each repair). TAG and DVC match one to one and charge for
//! misses and surplus; STG inherits no box; NAP compares folded text, with the nearest class reported apart; CVS and SA
//! count missing scores as wrong. Rounding happens once, at the board.

use std::collections::{BTreeMap, BTreeSet};

use medgrpo_datasets::{Gold, Span, TaskKind};
use serde_json::json;

use super::{
    official::{caption, dvc_scored, exact_scored},
    rows::{Row, Scored},
};
use crate::{
    embed::TextEmbedder,
    metric::{
        box_iou, dvc_f1,
        next_action::{self, Resolved},
        scores, span_iou,
    },
    parse,
};

/// Scores the rows of one dataset.
pub(crate) fn score(
    task: TaskKind,
    dataset: &str,
    rows: &[Row<'_>],
    embedder: Option<&dyn TextEmbedder>,
) -> Vec<Scored> {
    let each = |score: fn(&Row<'_>) -> Scored| rows.iter().map(score).collect();
    match task {
        TaskKind::Tag => each(tag),
        TaskKind::Stg => each(stg),
        TaskKind::DenseCaptioning => each(dense_captioning),
        TaskKind::NextAction => next_actions(dataset, rows, embedder),
        TaskKind::Cvs => each(cvs),
        TaskKind::SkillAssessment => each(skill),
        TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => each(caption),
    }
}

/// Half a frame period in seconds.
fn half_frame_sec(fps: f64) -> f64 {
    if fps > 0.0 && fps.is_finite() { 0.5 / fps } else { 0.5 }
}

fn tag(row: &Row<'_>) -> Scored {
    let spans = parse::tag::parse_strict(row.text);
    let gold = match &row.sample.gold {
        Gold::Spans(gold) if !gold.is_empty() => gold,
        _ => return Scored::without_gold(spans.is_empty()),
    };
    let tolerance_sec = half_frame_sec(row.sample.fps);
    let any = span_iou::strict(&spans, gold, tolerance_sec);
    let [low, high] = [0.3, 0.5].map(|threshold| span_iou::strict_at(&spans, gold, tolerance_sec, threshold));
    Scored {
        score: json!({ "iou": any, "iou@0.3": low.mean_iou, "iou@0.5": high.mean_iou }),
        value: Some(any),
        numbers: vec![
            ("tag_iou", any),
            ("tag_miou_03", low.mean_iou),
            ("tag_miou_05", high.mean_iou),
            ("tag_precision_03", low.precision),
            ("tag_precision_05", high.precision),
            ("tag_recall_03", low.recall),
            ("tag_recall_05", high.recall),
            ("tag_f1_03", low.f1()),
            ("tag_f1_05", high.f1()),
        ],
        unparsable: spans.is_empty(),
        ..Scored::default()
    }
}

fn stg(row: &Row<'_>) -> Scored {
    let gold: Vec<_> = match &row.sample.gold {
        Gold::Boxes(gold) => {
            gold.iter().filter(|g| g.box_xyxy.iter().all(|c| c.is_finite())).cloned().collect()
        }
        _ => vec![],
    };
    let times: Vec<f64> = gold.iter().map(|target| target.time_sec).collect();
    let entries = parse::stg::entries_strict(row.text, &times);
    let unparsable = entries.iter().all(|entry| entry.box_xyxy.is_none());
    if gold.is_empty() {
        return Scored::without_gold(unparsable);
    }
    let tolerance_sec = box_iou::tolerance_sec(&gold, row.sample.fps);
    let score = box_iou::strict_score(&entries, &gold, tolerance_sec);
    let mut scored = Scored::number("stg_miou", score.mean_iou, unparsable);
    scored.numbers.push(("stg_time_recall", score.time_recall));
    scored
}

fn dense_captioning(row: &Row<'_>) -> Scored {
    let spans =
        |events: &[medgrpo_datasets::Segment]| events.iter().map(|event| event.span).collect::<Vec<Span>>();
    let predicted = spans(&parse::dvc::parse_strict(row.text));
    let gold = match &row.sample.gold {
        Gold::Segments(gold) => spans(gold),
        _ => vec![],
    };
    match dvc_f1::strict(&predicted, &gold) {
        Some(score) => dvc_scored(&score, predicted.is_empty()),
        None => Scored::without_gold(predicted.is_empty()),
    }
}

fn next_actions(dataset: &str, rows: &[Row<'_>], embedder: Option<&dyn TextEmbedder>) -> Vec<Scored> {
    let gold = |row: &Row<'_>| match &row.sample.gold {
        Gold::Class(class) => parse::next_action::normalise(dataset, class),
        _ => String::new(),
    };
    let seen: BTreeSet<String> = rows.iter().map(gold).filter(|class| !class.is_empty()).collect();
    let seen: Vec<String> = seen.into_iter().collect();
    let majority = most_frequent(rows.iter().map(gold));
    let answers: Vec<String> =
        rows.iter().map(|row| parse::next_action::normalise(dataset, row.text)).collect();
    let classes =
        |row: &Row<'_>| parse::next_action::classes_strict(dataset, &row.question()).unwrap_or(&seen);
    let asked: Vec<(&str, &[String])> =
        rows.iter().zip(&answers).map(|(row, answer)| (answer.as_str(), classes(row))).collect();
    let resolved = next_action::resolve_all(&asked, embedder);
    let score = |((row, (answer, classes)), resolved): ((&Row<'_>, (&str, &[String])), Resolved)| {
        let gold = gold(row);
        let Some(gold_class) = classes.iter().position(|class| *class == gold) else {
            return Scored::without_gold(answer.is_empty());
        };
        let folded = parse::next_action::fold(answer);
        let right = folded == parse::next_action::fold(&gold);
        let mut scored = Scored::number("nap_acc", f64::from(u8::from(right)), answer.is_empty());
        scored.numbers.push(("nap_acc_majority", f64::from(u8::from(majority.as_ref() == Some(&gold)))));
        scored.unresolved = !classes.iter().any(|class| parse::next_action::fold(class) == folded);
        if embedder.is_some() {
            let nearest = resolved.class() == Some(gold_class);
            scored.numbers.push(("nap_acc_nearest", f64::from(u8::from(nearest))));
        }
        scored
    };
    rows.iter().zip(asked).zip(resolved).map(score).collect()
}

/// The label that occurs most among the rows themselves; the smallest of those on ties. What the best constant is worth.
fn most_frequent(labels: impl Iterator<Item = String>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for label in labels.filter(|label| !label.is_empty()) {
        *counts.entry(label).or_default() += 1;
    }
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(label, _)| label)
}

/// Every gold score, those that the answer lacks being wrong; also by gold score, and how far off on the scale.
fn complete(
    answer: Option<&BTreeMap<String, i64>>,
    gold: &BTreeMap<String, i64>,
    distance_name: &'static str,
    [lowest, highest]: [i64; 2],
) -> Scored {
    let right = |name: &String, score: &i64| answer.is_some_and(|answer| answer.get(name) == Some(score));
    let exact = gold.iter().map(|(name, score)| (name.clone(), right(name, score))).collect();
    let mut scored = exact_scored(exact, gold.len(), answer.is_none());
    let distance = scores::mean_distance(answer, gold, lowest, highest);
    scored.numbers.extend(distance.map(|distance| (distance_name, distance)));
    scored.by_class = gold.iter().map(|(name, score)| (name.clone(), *score, right(name, score))).collect();
    scored
}

fn cvs(row: &Row<'_>) -> Scored {
    let answer = parse::cvs::parse_strict(row.text);
    let answer = (!answer.is_empty()).then_some(answer);
    match &row.sample.gold {
        Gold::CvsScores(gold) if !gold.is_empty() => {
            let mut scored = complete(answer.as_ref(), gold, "cvs_mae", [0, 2]);
            let zeros = gold.values().filter(|score| **score == 0).count();
            scored.numbers.push(("cvs_acc_all_zero", zeros as f64 / gold.len() as f64));
            scored
        }
        _ => Scored::without_gold(answer.is_none()),
    }
}

fn skill(row: &Row<'_>) -> Scored {
    let answer = parse::skill::parse_strict(row.text);
    match &row.sample.gold {
        Gold::SkillScores(gold) if !gold.is_empty() => complete(answer.as_ref(), gold, "sa_mae", [1, 5]),
        _ => Scored::without_gold(answer.is_none()),
    }
}
