//! The text of a right answer in the benchmark's exact formats.
//!
//! What demonstrations look like, what constant baselines answer, and what every reward must give its maximum to.

use std::collections::BTreeMap;

use medgrpo_datasets::{Gold, Segment, Span, TimedBox};

use crate::parse::{cvs, python, skill};

/// The canonical answer for a gold value; `None` where there is none to give: the truth is held back or empty.
pub fn canonical_answer(gold: &Gold) -> Option<String> {
    let text = match gold {
        Gold::Spans(spans) => spans_answer(spans),
        Gold::Boxes(boxes) => boxes_answer(boxes),
        Gold::Segments(events) => events_answer(events),
        Gold::Class(text) | Gold::Text(text) => text.clone(),
        Gold::CvsScores(scores) => cvs_answer(scores),
        Gold::SkillScores(scores) => skill_answer(scores),
        Gold::Hidden => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// `20.7-55.7, 66.0-66.0 seconds.`
fn spans_answer(spans: &[Span]) -> String {
    if spans.is_empty() {
        return String::new();
    }
    let spans: Vec<String> = spans.iter().map(|s| format!("{:.1}-{:.1}", s.start_sec, s.end_sec)).collect();
    format!("{} seconds.", spans.join(", "))
}

/// `66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: […]`
fn boxes_answer(boxes: &[TimedBox]) -> String {
    let boxes: Vec<String> = boxes
        .iter()
        .map(|b| format!("{:.1} seconds: [{}]", b.time_sec, b.box_xyxy.map(python::repr).join(", ")))
        .collect();
    boxes.join(" ")
}

/// `0.0-10.0 seconds: …`, one event a line.
fn events_answer(events: &[Segment]) -> String {
    let lines: Vec<String> = events
        .iter()
        .map(|event| {
            let words: Vec<&str> = event.caption.split_whitespace().collect();
            format!("{:.1}-{:.1} seconds: {}", event.span.start_sec, event.span.end_sec, words.join(" "))
        })
        .collect();
    lines.join("\n")
}

/// `Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0`; other keys of a record (`total`) are no part of it.
fn cvs_answer(scores: &BTreeMap<String, i64>) -> String {
    let parts: Vec<String> = cvs::COMPONENTS
        .iter()
        .filter_map(|(key, name)| {
            let (first, rest) = name.split_at(1);
            scores.get(*key).map(|score| format!("{}{rest}: {score}", first.to_uppercase()))
        })
        .collect();
    parts.join(", ")
}

/// `Respect for tissue: 4/5, …`, the benchmark's aspects first and in its order.
fn skill_answer(scores: &BTreeMap<String, i64>) -> String {
    let known = skill::ASPECTS.iter().filter_map(|aspect| scores.get_key_value(*aspect));
    let others = scores.iter().filter(|(aspect, _)| !skill::ASPECTS.contains(&aspect.as_str()));
    let parts: Vec<String> =
        known.chain(others).map(|(aspect, score)| format!("{aspect}: {score}/5")).collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
        pairs.iter().map(|&(name, score)| (name.to_owned(), score)).collect()
    }

    #[test]
    fn formats_are_the_benchmarks() {
        let span = |start_sec, end_sec| Span { start_sec, end_sec };
        let cases = [
            (Gold::Spans(vec![span(66.0, 66.0), span(124.04, 126.0)]), "66.0-66.0, 124.0-126.0 seconds."),
            (
                Gold::Boxes(vec![
                    TimedBox {
                        key: "66".into(),
                        time_sec: 66.0,
                        box_xyxy: [117.54, 339.56, 626.88, 1005.62],
                    },
                    TimedBox { key: "74".into(), time_sec: 74.0, box_xyxy: [104.48, 313.44, 587.7, 1005.0] },
                ]),
                "66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: [104.48, 313.44, 587.7, 1005.0]",
            ),
            (
                Gold::Segments(vec![
                    Segment { span: span(0.0, 10.0), caption: "suturing: The\nneedle".into() },
                    Segment { span: span(10.0, 12.5), caption: "x".into() },
                ]),
                "0.0-10.0 seconds: suturing: The needle\n10.0-12.5 seconds: x",
            ),
            (Gold::Class("tying".into()), "tying"),
            (
                Gold::CvsScores(scores(&[
                    ("hepatocystic_triangle", 2),
                    ("cystic_plate", 1),
                    ("two_structures", 0),
                    ("total", 3),
                ])),
                "Two structures: 0, Cystic plate: 1, Hepatocystic triangle: 2",
            ),
            (
                Gold::SkillScores(scores(&[("Time and motion", 3), ("Respect for tissue", 4), ("Extra", 1)])),
                "Respect for tissue: 4/5, Time and motion: 3/5, Extra: 1/5",
            ),
        ];
        for (gold, text) in cases {
            assert_eq!(canonical_answer(&gold).as_deref(), Some(text));
        }
        assert_eq!(canonical_answer(&Gold::Hidden), None);
        assert_eq!(canonical_answer(&Gold::Spans(vec![])), None);
    }
}
