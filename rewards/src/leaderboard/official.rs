//! The score of each row by the official rules.
//!
//! Unparsable answers are passed over for DVC, CVS and SA, which raises those averages; the counts tell how many.

use std::collections::{BTreeMap, BTreeSet};

use medgrpo_datasets::{Gold, Segment, TaskKind};
use serde_json::{Value, json};

use super::rows::{Row, Scored};
use crate::{
    embed::TextEmbedder,
    metric::{
        box_iou, dvc_f1,
        next_action::{self, Resolved},
        rouge_l, scores, span_iou,
    },
    parse,
};

/// Scores the rows of one dataset; an error loses the task, as it does in the official scorer.
pub(crate) fn score(
    task: TaskKind,
    dataset: &str,
    rows: &[Row<'_>],
    embedder: Option<&dyn TextEmbedder>,
) -> Result<Vec<Scored>, String> {
    let each = |score: fn(&Row<'_>) -> Scored| Ok(rows.iter().map(score).collect());
    match task {
        TaskKind::Tag => each(tag),
        TaskKind::Stg => each(stg),
        TaskKind::DenseCaptioning => rows.iter().map(dense_captioning).collect(),
        TaskKind::NextAction => Ok(next_actions(dataset, rows, embedder)),
        TaskKind::Cvs => each(|row| {
            let scores = parse::cvs::parse(row.text);
            exact_scores(row, (!scores.is_empty()).then_some(scores))
        }),
        TaskKind::SkillAssessment => each(|row| {
            let answer = parse::skill::parse(row.text);
            exact_scores(row, answer.mean_score.map(|_| answer.aspects))
        }),
        TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => each(caption),
    }
}

/// TAG: every row counts, 0 where there is no gold span or no predicted one.
fn tag(row: &Row<'_>) -> Scored {
    let spans = parse::tag::parse(row.text);
    let gold = match &row.sample.gold {
        Gold::Spans(gold) => gold.as_slice(),
        _ => &[],
    };
    let fps = row.sample.fps;
    let (predicted, scaled_gold) = (span_iou::scaled(&spans, fps), span_iou::scaled(gold, fps));
    let [low, high] = [0.3, 0.5].map(|threshold| span_iou::official(&predicted, &scaled_gold, threshold));
    Scored {
        score: json!({
            "recall@0.3": low.recall, "meanIoU@0.3": low.mean_iou,
            "recall@0.5": high.recall, "meanIoU@0.5": high.mean_iou,
        }),
        value: Some(low.mean_iou),
        numbers: vec![
            ("tag_miou_03", low.mean_iou),
            ("tag_miou_05", high.mean_iou),
            ("tag_recall_03", low.recall),
            ("tag_recall_05", high.recall),
        ],
        unparsable: spans.is_empty(),
        without_gold: gold.is_empty(),
        ..Scored::default()
    }
}

/// STG: rows without a gold box that can be scored are passed over.
fn stg(row: &Row<'_>) -> Scored {
    let boxes = parse::stg::parse(row.text);
    let score = match &row.sample.gold {
        Gold::Boxes(gold) => box_iou::official(&boxes, gold),
        _ => None,
    };
    match score {
        Some(score) => {
            let mut scored = Scored::number("stg_miou", score, boxes.is_empty());
            let reached = [("stg_iou_03", 0.3), ("stg_iou_05", 0.5), ("stg_iou_07", 0.7)];
            let share = |(name, threshold)| (name, f64::from(u8::from(score >= threshold)));
            scored.numbers.extend(reached.map(share));
            scored
        }
        None => Scored::without_gold(boxes.is_empty()),
    }
}

/// DVC: rows without a predicted or a gold event are passed over, yet weigh in the dataset's share.
fn dense_captioning(row: &Row<'_>) -> Result<Scored, String> {
    let mut events = parse::dvc::parse(row.text);
    let unparsable = events.is_empty();
    if parse::dvc::has_overlap(&events) {
        events = parse::dvc::flatten_longest(&events);
    }
    let Gold::Segments(gold) = &row.sample.gold else {
        return Ok(Scored::without_gold(unparsable));
    };
    let frames = |events: &[Segment]| -> Option<Vec<dvc_f1::FrameSpan>> {
        let frame = |sec| dvc_f1::frame(sec, row.sample.fps);
        events.iter().map(|e| Some([frame(e.span.start_sec)?, frame(e.span.end_sec)?])).collect()
    };
    let (Some(predicted), Some(gold)) = (frames(&events), frames(gold)) else {
        return Err(format!("row {}: a time is too large to be a frame number", row.index));
    };
    Ok(match dvc_f1::official(&predicted, &gold) {
        Some(score) => dvc_scored(&score, unparsable),
        None if gold.is_empty() => Scored::without_gold(unparsable),
        None => Scored::skipped(unparsable),
    })
}

/// A row with a temporal score.
pub(crate) fn dvc_scored(score: &dvc_f1::DvcScore, unparsable: bool) -> Scored {
    Scored {
        score: json!({
            "temporal_f1": score.f1, "temporal_precision": score.precision, "temporal_recall": score.recall,
        }),
        value: Some(score.f1),
        numbers: vec![("dvc_f1", score.f1), ("dvc_precision", score.precision), ("dvc_recall", score.recall)],
        unparsable,
        ..Scored::default()
    }
}

/// NAP: rows whose gold class is empty or not in the list are passed over.
fn next_actions(dataset: &str, rows: &[Row<'_>], embedder: Option<&dyn TextEmbedder>) -> Vec<Scored> {
    let gold = |row: &Row<'_>| match &row.sample.gold {
        Gold::Class(class) => parse::next_action::normalise(dataset, class),
        _ => String::new(),
    };
    let seen: BTreeSet<String> = rows.iter().map(gold).filter(|class| !class.is_empty()).collect();
    let seen: Vec<String> = seen.into_iter().collect();
    let answers: Vec<String> =
        rows.iter().map(|row| parse::next_action::normalise(dataset, row.text)).collect();
    let classes = |row: &Row<'_>| parse::next_action::classes(dataset, &row.question()).unwrap_or(&seen);
    let asked: Vec<(&str, &[String])> =
        rows.iter().zip(&answers).map(|(row, answer)| (answer.as_str(), classes(row))).collect();
    let resolved = next_action::resolve_all(&asked, embedder);
    let score = |((row, (answer, classes)), resolved): ((&Row<'_>, (&str, &[String])), Resolved)| {
        let gold = gold(row);
        let Some(gold) = classes.iter().position(|class| *class == gold) else {
            return Scored::without_gold(answer.is_empty());
        };
        let score = if resolved.class() == Some(gold) { 1.0 } else { 0.0 };
        let unresolved = resolved == Resolved::Unresolved;
        Scored { unresolved, ..Scored::number("nap_acc", score, answer.is_empty()) }
    };
    rows.iter().zip(asked).zip(resolved).map(score).collect()
}

/// CVS and SA: the gold scores that the answer gives.
fn exact_scores(row: &Row<'_>, answer: Option<BTreeMap<String, i64>>) -> Scored {
    let gold = match &row.sample.gold {
        Gold::CvsScores(gold) | Gold::SkillScores(gold) if !gold.is_empty() => gold,
        _ => return Scored::without_gold(answer.is_none()),
    };
    let Some(answer) = answer else {
        return Scored { score: json!({}), ..Scored::skipped(true) };
    };
    exact_scored(scores::exact(&answer, gold), gold.len(), false)
}

/// A row with right and wrong scores by name, of `num_gold` in all.
pub(crate) fn exact_scored(exact: BTreeMap<String, bool>, num_gold: usize, unparsable: bool) -> Scored {
    let right = exact.values().filter(|&&right| right).count();
    let score = exact.iter().map(|(name, &right)| (name.clone(), json!(u8::from(right)))).collect();
    Scored {
        score: Value::Object(score),
        value: Some(right as f64 / num_gold as f64),
        exact,
        unparsable,
        ..Scored::default()
    }
}

/// VS, RC and open questions: ROUGE-L, an empty answer counting as 0. The official score of a caption is the judge's, so
/// that place stays null.
pub(crate) fn caption(row: &Row<'_>) -> Scored {
    let unparsable = row.text.trim().is_empty();
    match &row.sample.gold {
        Gold::Text(reference) if !rouge_l::words(reference).is_empty() => {
            let score = Scored::number("rouge_l", rouge_l::rouge_l(row.text, reference), unparsable);
            Scored { score: Value::Null, ..score }
        }
        _ => Scored::without_gold(unparsable),
    }
}
