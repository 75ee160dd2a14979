//! The score of each row by the strict rules: what the official ones should have been.
//!
//! Every row with ground truth counts, and what an answer lacks is wrong. TAG and DVC match one to one and charge for
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
    metric::{box_iou, dvc_f1, next_action, span_iou},
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
    let [any, low, high] =
        [0.0, 0.3, 0.5].map(|threshold| span_iou::strict_above(&spans, gold, tolerance_sec, threshold));
    Scored {
        score: json!({ "iou": any, "iou@0.3": low, "iou@0.5": high }),
        value: Some(any),
        numbers: vec![("tag_iou", any), ("tag_miou_03", low), ("tag_miou_05", high)],
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
    Scored::number("stg_miou", box_iou::strict(&entries, &gold, tolerance_sec), unparsable)
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
    let score = |row: &Row<'_>| {
        let answer = parse::next_action::normalise(dataset, row.text);
        let classes = parse::next_action::classes(dataset, &row.question()).unwrap_or(&seen);
        let gold = gold(row);
        let Some(gold_class) = classes.iter().position(|class| *class == gold) else {
            return Scored::without_gold(answer.is_empty());
        };
        let folded = parse::next_action::fold(&answer);
        let right = folded == parse::next_action::fold(&gold);
        let mut scored = Scored::number("nap_acc", f64::from(u8::from(right)), answer.is_empty());
        scored.unresolved = !classes.iter().any(|class| parse::next_action::fold(class) == folded);
        if embedder.is_some() {
            let nearest = next_action::resolve(&answer, classes, embedder).class() == Some(gold_class);
            scored.numbers.push(("nap_acc_nearest", f64::from(u8::from(nearest))));
        }
        scored
    };
    rows.iter().map(score).collect()
}

/// Every gold score, those that the answer lacks being wrong.
fn complete(answer: Option<&BTreeMap<String, i64>>, gold: &BTreeMap<String, i64>) -> Scored {
    let right = |name: &String, score: &i64| answer.is_some_and(|answer| answer.get(name) == Some(score));
    let exact = gold.iter().map(|(name, score)| (name.clone(), right(name, score))).collect();
    exact_scored(exact, gold.len(), answer.is_none())
}

fn cvs(row: &Row<'_>) -> Scored {
    let answer = parse::cvs::parse_strict(row.text);
    let answer = (!answer.is_empty()).then_some(answer);
    match &row.sample.gold {
        Gold::CvsScores(gold) if !gold.is_empty() => complete(answer.as_ref(), gold),
        _ => Scored::without_gold(answer.is_none()),
    }
}

fn skill(row: &Row<'_>) -> Scored {
    let answer = parse::skill::parse_strict(row.text);
    match &row.sample.gold {
        Gold::SkillScores(gold) if !gold.is_empty() => complete(answer.as_ref(), gold),
        _ => Scored::without_gold(answer.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TimedBox;

    use super::*;
    use crate::{
        leaderboard::{Options, Report, Rules, evaluate_with},
        task::contract::sample,
    };

    /// The same answers by both rules.
    fn both(task: TaskKind, gold: &Gold, answers: &[&str]) -> [Report; 2] {
        let pairs: Vec<_> =
            answers.iter().map(|text| (sample(task, gold.clone()), (*text).to_owned())).collect();
        [Rules::Official, Rules::Strict]
            .map(|rules| evaluate_with(&pairs, &Options { rules, ..Options::default() }))
    }

    fn scores(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
        pairs.iter().map(|&(name, score)| (name.to_owned(), score)).collect()
    }

    #[test]
    fn silence_pays_only_by_the_official_rules() {
        let gold = Gold::CvsScores(scores(&[("two_structures", 1), ("cystic_plate", 0)]));
        let [official, strict] = both(TaskKind::Cvs, &gold, &["Two structures: 1", "", "", ""]);
        assert_eq!((official.overall.cvs_acc, strict.overall.cvs_acc), (Some(1.0), Some(0.125)));
        let event =
            medgrpo_datasets::Segment { span: Span { start_sec: 0.0, end_sec: 9.0 }, caption: "x".into() };
        let [official, strict] =
            both(TaskKind::DenseCaptioning, &Gold::Segments(vec![event]), &["0-9 seconds: x", "nothing"]);
        assert_eq!((official.overall.dvc_f1, strict.overall.dvc_f1), (Some(1.0), Some(0.5)));
        let aspects: Vec<(&str, i64)> = parse::skill::ASPECTS.iter().map(|&aspect| (aspect, 3)).collect();
        let [official, strict] = both(
            TaskKind::SkillAssessment,
            &Gold::SkillScores(scores(&aspects)),
            &["Time and motion: 3/5", ""],
        );
        assert_eq!((official.overall.sa_acc, strict.overall.sa_acc), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn windows_everywhere_pay_only_by_the_official_rules() {
        let gold = Gold::Spans(vec![Span { start_sec: 10.0, end_sec: 20.0 }]);
        let windows: Vec<String> = (0..10).map(|i| format!("{}.0-{}.0", i * 10, i * 10 + 10)).collect();
        let [official, strict] = both(TaskKind::Tag, &gold, &[&windows.join(", ")]);
        assert_eq!((official.overall.tag_miou_05, strict.overall.tag_miou_05), (Some(1.0), Some(0.1)));
    }

    #[test]
    fn points_can_be_right_only_by_the_strict_rules() {
        let gold = Gold::Spans(vec![Span { start_sec: 66.0, end_sec: 66.0 }]);
        let [official, strict] = both(TaskKind::Tag, &gold, &["66.0-66.0 seconds."]);
        assert_eq!((official.overall.tag_miou_03, strict.overall.tag_miou_03), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn one_box_scores_everywhere_only_by_the_official_rules() {
        let at =
            |time_sec: f64| TimedBox { key: time_sec.to_string(), time_sec, box_xyxy: [0.0, 0.0, 4.0, 4.0] };
        let gold = Gold::Boxes(vec![at(0.0), at(8.0), at(16.0), at(24.0)]);
        let [official, strict] = both(TaskKind::Stg, &gold, &["0.0 seconds: [0, 0, 4, 4]"]);
        assert_eq!((official.overall.stg_miou, strict.overall.stg_miou), (Some(1.0), Some(0.25)));
        // A NaN box takes the official number from everybody.
        let [official, strict] = both(TaskKind::Stg, &gold, &["0.0 seconds: [nan, 0, 4, 4]"]);
        assert_eq!((official.overall.stg_miou, strict.overall.stg_miou), (None, Some(0.0)));
    }

    #[test]
    fn spelling_of_a_class_matters_only_to_the_official_rules() {
        let gold = Gold::Class("adjust camera".into());
        let [official, strict] = both(TaskKind::NextAction, &gold, &["Adjust Camera."]);
        assert_eq!((official.overall.nap_acc, strict.overall.nap_acc), (Some(0.0), Some(1.0)));
    }
}
