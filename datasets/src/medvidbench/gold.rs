//! The structured truth of a record: `struc_info` in its four shapes, else the answer where its format is exact.
//!
//! The shapes: a list of items, a list holding one list of items, a list holding one object with the items under a
//! key (`spans`, `bbox_dict`, `dc_segments`, `cvs_scores`, …), and that object bare.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::answer;
use crate::{Gold, Segment, Span, TaskKind, TimedBox};

/// The truth of one record.
///
/// # Errors
/// A truth that is there but wrong; the message names its key.
pub(super) fn gold(task: TaskKind, struc_info: &Value, answer: Option<&str>) -> Result<Gold, String> {
    if matches!(task, TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion) {
        return Ok(answer.map_or(Gold::Hidden, |text| Gold::Text(text.to_owned())));
    }
    let items = items(struc_info)?;
    let structured = match task {
        TaskKind::Tag => spans(&items)?.map(Gold::Spans),
        TaskKind::Stg => boxes(&items)?.map(Gold::Boxes),
        TaskKind::DenseCaptioning => segments(&items)?.map(Gold::Segments),
        TaskKind::Cvs => cvs_scores(&items)?.map(Gold::CvsScores),
        TaskKind::SkillAssessment => skill_scores(&items)?.map(Gold::SkillScores),
        TaskKind::NextAction => answer
            .or_else(|| items.first()?.get("next_action")?.as_str())
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| Gold::Class(name.to_owned())),
        TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => None,
    };
    if let Some(gold) = structured {
        return Ok(gold);
    }
    let Some(text) = answer else { return Ok(Gold::Hidden) };
    let (parsed, format) = match task {
        TaskKind::Tag => (answer::spans(text).map(Gold::Spans), "20.7-55.7, 66.0-70.5 seconds."),
        TaskKind::Stg => (answer::boxes(text).map(Gold::Boxes), "66.0 seconds: [x1, y1, x2, y2] …"),
        TaskKind::DenseCaptioning => {
            (answer::segments(text).map(Gold::Segments), "one \"0.0-10.0 seconds: caption\" a line")
        }
        TaskKind::Cvs => (
            answer::cvs_scores(text).map(Gold::CvsScores),
            "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0",
        ),
        TaskKind::SkillAssessment => {
            (answer::skill_scores(text).map(Gold::SkillScores), "Respect for tissue: 4/5, …")
        }
        _ => return Ok(Gold::Hidden),
    };
    parsed.ok_or_else(|| {
        format!("struc_info holds no truth, and the answer {} is not of the form `{format}`", excerpt(text))
    })
}

/// The objects that hold the truth, whatever they are wrapped in.
fn items(struc_info: &Value) -> Result<Vec<&Map<String, Value>>, String> {
    match struc_info {
        Value::Null => Ok(Vec::new()),
        Value::Object(item) => Ok(if item.is_empty() { Vec::new() } else { vec![item] }),
        Value::Array(list) => {
            let list = match list.as_slice() {
                [Value::Array(inner)] => inner,
                _ => list,
            };
            list.iter()
                .map(|item| {
                    item.as_object()
                        .ok_or_else(|| format!("struc_info holds {}, expected objects", kind(item)))
                })
                .filter(|item| !matches!(item, Ok(item) if item.is_empty()))
                .collect()
        }
        other => Err(format!("struc_info is {}, expected a list", kind(other))),
    }
}

fn spans(items: &[&Map<String, Value>]) -> Result<Option<Vec<Span>>, String> {
    let mut spans = Vec::new();
    for value in items.iter().filter_map(|item| item.get("spans")) {
        let list = value
            .as_array()
            .ok_or_else(|| format!("struc_info spans is {}, expected a list", kind(value)))?;
        for (index, entry) in list.iter().enumerate() {
            let place = format!("struc_info spans[{index}]");
            let entry = entry
                .as_object()
                .ok_or_else(|| format!("{place} is {}, expected start and end", kind(entry)))?;
            spans.push(span(entry, &place)?);
        }
    }
    Ok((!spans.is_empty()).then_some(spans))
}

fn boxes(items: &[&Map<String, Value>]) -> Result<Option<Vec<TimedBox>>, String> {
    let [item, more @ ..] = items else { return Ok(None) };
    if !more.is_empty() {
        return Err(format!("struc_info holds {} items, but stg asks for one object", items.len()));
    }
    let map = match item.get("bbox_dict") {
        Some(Value::Object(map)) => map,
        Some(other) => return Err(format!("struc_info bbox_dict is {}, expected an object", kind(other))),
        // The bare shape: times are the item's own keys.
        None if item.keys().all(|key| time(key).is_some()) => item,
        None => return Ok(None),
    };
    let boxes = map
        .iter()
        .map(|(key, value)| {
            let time_sec = time(key)
                .ok_or_else(|| format!("struc_info bbox_dict has the key \"{key}\", expected seconds"))?;
            let box_xyxy =
                corners(value).map_err(|reason| format!("struc_info bbox_dict[\"{key}\"] {reason}"))?;
            Ok(TimedBox { key: key.clone(), time_sec, box_xyxy })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok((!boxes.is_empty()).then_some(boxes))
}

fn time(key: &str) -> Option<f64> {
    key.trim().parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0)
}

/// Four corners in pixels: finite, not negative, and with an area.
pub(super) fn corners(value: &Value) -> Result<[f64; 4], String> {
    let list = value.as_array().ok_or_else(|| format!("is {}, expected [x1, y1, x2, y2]", kind(value)))?;
    let numbers: Option<Vec<f64>> = list.iter().map(number).collect();
    let corners: [f64; 4] = numbers
        .and_then(|numbers| numbers.try_into().ok())
        .ok_or_else(|| format!("is {value}, expected four numbers [x1, y1, x2, y2]"))?;
    let [x1, y1, x2, y2] = corners;
    if x1 < 0.0 || y1 < 0.0 {
        return Err(format!("is {value}, which lies outside the frame"));
    }
    if x1 >= x2 || y1 >= y2 {
        return Err(format!("is {value}, which has no area: expected x1 < x2 and y1 < y2"));
    }
    Ok(corners)
}

fn segments(items: &[&Map<String, Value>]) -> Result<Option<Vec<Segment>>, String> {
    let mut segments = Vec::new();
    for item in items {
        match item.get("dc_segments") {
            Some(Value::Array(list)) => {
                for (index, entry) in list.iter().enumerate() {
                    let place = format!("struc_info dc_segments[{index}]");
                    let entry = entry
                        .as_object()
                        .ok_or_else(|| format!("{place} is {}, expected an event", kind(entry)))?;
                    segments.push(segment(entry, &place)?);
                }
            }
            Some(other) => return Err(format!("struc_info dc_segments is {}, expected a list", kind(other))),
            None => segments.push(segment(item, &format!("struc_info event {}", segments.len()))?),
        }
    }
    Ok((!segments.is_empty()).then_some(segments))
}

fn segment(item: &Map<String, Value>, place: &str) -> Result<Segment, String> {
    let caption = item.get("caption").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if caption.is_empty() {
        return Err(format!("{place} has no caption"));
    }
    Ok(Segment { span: span(item, place)?, caption: caption.to_owned() })
}

fn span(item: &Map<String, Value>, place: &str) -> Result<Span, String> {
    let seconds = |key: &str| match item.get(key) {
        None => Err(format!("{place} has no {key}")),
        Some(value) => number(value)
            .filter(|&seconds| seconds >= 0.0)
            .ok_or_else(|| format!("{place}.{key} is {value}, expected seconds from the clip's start")),
    };
    let (start_sec, end_sec) = (seconds("start")?, seconds("end")?);
    if end_sec < start_sec {
        return Err(format!("{place} ends ({end_sec}) before it starts ({start_sec})"));
    }
    Ok(Span { start_sec, end_sec })
}

fn cvs_scores(items: &[&Map<String, Value>]) -> Result<Option<BTreeMap<String, i64>>, String> {
    let Some(scores) = items.iter().find_map(|item| item.get("cvs_scores")) else { return Ok(None) };
    let scores = scores
        .as_object()
        .ok_or_else(|| format!("struc_info cvs_scores is {}, expected an object", kind(scores)))?;
    answer::CVS_COMPONENTS
        .into_iter()
        .map(|(_, key)| {
            let value = scores.get(key).ok_or_else(|| format!("struc_info cvs_scores has no {key}"))?;
            Ok((
                key.to_owned(),
                score(value, 0, 2).map_err(|reason| format!("struc_info cvs_scores.{key} {reason}"))?,
            ))
        })
        .collect::<Result<_, String>>()
        .map(Some)
}

fn skill_scores(items: &[&Map<String, Value>]) -> Result<Option<BTreeMap<String, i64>>, String> {
    let Some(scores) = items.iter().find_map(|item| item.get("skill_scores")) else { return Ok(None) };
    let scores = scores
        .as_object()
        .ok_or_else(|| format!("struc_info skill_scores is {}, expected an object", kind(scores)))?;
    if scores.is_empty() {
        return Ok(None);
    }
    scores
        .iter()
        .map(|(aspect, value)| {
            let score = score(value, 1, 5)
                .map_err(|reason| format!("struc_info skill_scores[\"{aspect}\"] {reason}"))?;
            Ok((aspect.clone(), score))
        })
        .collect::<Result<_, String>>()
        .map(Some)
}

fn score(value: &Value, low: i64, high: i64) -> Result<i64, String> {
    number(value)
        .filter(|score| score.fract() == 0.0 && (low as f64..=high as f64).contains(score))
        .map(|score| score as i64)
        .ok_or_else(|| format!("is {value}, expected a whole number from {low} to {high}"))
}

/// A finite number, written as one or as a string.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|value| value.is_finite())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The first words of a text in quotes, for messages.
fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::gold;
    use crate::{Gold, TaskKind};

    fn read(task: TaskKind, struc_info: &Value) -> Gold {
        gold(task, struc_info, None).unwrap()
    }

    fn reason(task: TaskKind, struc_info: &Value) -> String {
        gold(task, struc_info, Some("?")).expect_err("the truth is wrong")
    }

    #[test]
    fn tag_takes_the_spans_of_all_items() {
        let Gold::Spans(spans) = read(
            TaskKind::Tag,
            &json!([{"action": "cut", "spans": [{"start": 1, "end": 2.5}]}, {"spans": [{"start": "4", "end": 4}]}]),
        ) else {
            panic!("spans")
        };
        let seconds: Vec<_> = spans.iter().map(|span| (span.start_sec, span.end_sec)).collect();
        assert_eq!(seconds, [(1.0, 2.5), (4.0, 4.0)]);
        assert!(
            reason(TaskKind::Tag, &json!([{"spans": [{"start": 3, "end": 2}]}]))
                .contains("spans[0] ends (2)")
        );
        assert!(reason(TaskKind::Tag, &json!([{"spans": [{"start": 3}]}])).contains("has no end"));
    }

    #[test]
    fn stg_reads_the_listed_the_bare_and_the_flat_shape_in_file_order() {
        let map = json!({"74": [1, 2, 3, 4], "66.0": ["1", 2, 3, 4]});
        for shape in
            [json!([{"start": 66, "bbox_dict": map}]), json!({"bbox_dict": map}), json!([map]), json!(map)]
        {
            let Gold::Boxes(boxes) = read(TaskKind::Stg, &shape) else { panic!("boxes") };
            let keys: Vec<_> = boxes.iter().map(|timed| (timed.key.as_str(), timed.time_sec)).collect();
            assert_eq!(keys, [("74", 74.0), ("66.0", 66.0)]);
            assert_eq!(boxes[1].box_xyxy, [1.0, 2.0, 3.0, 4.0]);
        }
        assert!(reason(TaskKind::Stg, &json!([{"bbox_dict": {"6": [1, 2, 3]}}])).contains("four numbers"));
        assert!(reason(TaskKind::Stg, &json!([{"bbox_dict": {"6": [5, 2, 3, 4]}}])).contains("no area"));
        assert!(
            reason(TaskKind::Stg, &json!([{"bbox_dict": {"6": [-1, 2, 3, 4]}}]))
                .contains("outside the frame")
        );
        assert!(reason(TaskKind::Stg, &json!([{"bbox_dict": {"x": [1, 2, 3, 4]}}])).contains("key \"x\""));
    }

    #[test]
    fn dvc_reads_all_four_shapes() {
        let events =
            json!([{"start": 0, "end": 2, "caption": "One."}, {"start": 2, "end": 5, "caption": "Two."}]);
        for shape in [
            json!([events]),
            events.clone(),
            json!([{"dc_segments": events}]),
            json!({"dc_segments": events}),
        ] {
            let Gold::Segments(segments) = read(TaskKind::DenseCaptioning, &shape) else {
                panic!("segments")
            };
            assert_eq!(segments.len(), 2);
            assert_eq!((segments[1].span.end_sec, segments[1].caption.as_str()), (5.0, "Two."));
        }
        assert!(reason(TaskKind::DenseCaptioning, &json!([{"start": 0, "end": 1}])).contains("no caption"));
    }

    #[test]
    fn scores_must_be_in_range() {
        let cvs = json!([{"cvs_scores": {"two_structures": 1, "cystic_plate": "0", "hepatocystic_triangle": 2.0, "total": 3}}]);
        let Gold::CvsScores(scores) = read(TaskKind::Cvs, &cvs) else { panic!("scores") };
        assert_eq!(scores.into_values().collect::<Vec<_>>(), [0, 2, 1], "by key, without the total");
        assert!(
            reason(TaskKind::Cvs, &json!([{"cvs_scores": {"two_structures": 3}}])).contains("from 0 to 2")
        );
        let Gold::SkillScores(scores) = read(
            TaskKind::SkillAssessment,
            &json!([{"skill_level": "N", "skill_scores": {"Time and motion": 5}}]),
        ) else {
            panic!("scores")
        };
        assert_eq!(scores["Time and motion"], 5);
        assert!(
            reason(TaskKind::SkillAssessment, &json!([{"skill_scores": {"a": 0}}])).contains("from 1 to 5")
        );
    }

    #[test]
    fn an_empty_struc_info_falls_back_to_the_answer() {
        let empty = json!([]);
        assert_eq!(gold(TaskKind::NextAction, &empty, Some(" tying ")).unwrap(), Gold::Class("tying".into()));
        assert_eq!(
            read(TaskKind::NextAction, &json!([{"list": ["a"], "next_action": "a"}])),
            Gold::Class("a".into())
        );
        assert!(
            matches!(gold(TaskKind::Tag, &empty, Some("1.0-2.0 seconds.")).unwrap(), Gold::Spans(spans) if spans.len() == 1)
        );
        assert!(matches!(
            gold(TaskKind::Stg, &Value::Null, Some("6 seconds: [1, 2, 3, 4]")).unwrap(),
            Gold::Boxes(_)
        ));
        assert_eq!(
            gold(TaskKind::VideoSummary, &json!([{"note": ""}]), Some("Text.")).unwrap(),
            Gold::Text("Text.".into())
        );
        let reason = gold(TaskKind::Tag, &empty, Some("when it bleeds")).expect_err("no format");
        assert!(reason.contains("\"when it bleeds\" is not of the form"), "{reason}");
        for task in TaskKind::BENCHMARK {
            assert_eq!(gold(task, &empty, None).unwrap(), Gold::Hidden, "{task}");
        }
    }

    #[test]
    fn a_struc_info_of_another_kind_is_refused() {
        assert!(reason(TaskKind::Tag, &json!("x")).contains("struc_info is a string"));
        assert!(reason(TaskKind::Tag, &json!([3])).contains("struc_info holds a number"));
    }
}
