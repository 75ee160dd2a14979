//! The leaderboard's own files: ground-truth records and a list of predictions, read as the official scorer reads them.
//!
//! Rows are matched by position; ids and the submission's `qa_type` do not matter. A single bad row (a prediction that is
//! not text, a time written as text, an unreadable fps) loses its whole task there, so it does here by the official rules;
//! by the strict ones a bad prediction is an empty answer and a bad record is left out. Both are named in `row_errors`.

use std::collections::BTreeMap;

use medgrpo_datasets::{
    Content, Gold, Message, Role, Segment, SourceId, Span, TaskKind, TaskSample, TimedBox,
};
use serde_json::Value;

use super::{
    evaluate::{Options, evaluate_rows},
    report::{Record, Report, Rules, eval_key},
    rows::Row,
};
use crate::parse;

/// Why two files cannot be compared at all.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The lists have different lengths.
    #[error(
        "{predictions} predictions for {records} ground-truth records: they are matched by position, so there must be one each"
    )]
    Lengths {
        /// Number of ground-truth records.
        records: usize,
        /// Number of predictions.
        predictions: usize,
    },
    /// An entry lacks its answer.
    #[error("prediction {index}: no key `prediction`")]
    NoPrediction {
        /// Its position.
        index: usize,
    },
}

/// The task of a record by the official scorer's rule: most tasks take every `qa_type` that contains their name.
pub fn official_task(qa_type: &str) -> Option<TaskKind> {
    let lower = qa_type.to_lowercase();
    Some(match qa_type {
        "cvs_assessment" => TaskKind::Cvs,
        "skill_assessment" => TaskKind::SkillAssessment,
        _ if lower.contains("dense_caption") || lower.contains("dc") => TaskKind::DenseCaptioning,
        _ if lower.contains("tal") => TaskKind::Tag,
        _ if lower.contains("stg") => TaskKind::Stg,
        _ if lower.contains("next_action") => TaskKind::NextAction,
        _ if lower.contains("video_summary") => TaskKind::VideoSummary,
        _ if lower.contains("region_caption") => TaskKind::RegionCaption,
        _ => return None,
    })
}

/// The samples of ground-truth records as the rules read them; the reason where a record cannot be used. Media are left
/// out.
pub fn samples(records: &[Value], rules: Rules) -> Vec<Result<TaskSample, String>> {
    let read = |(row, record): (usize, &Value)| {
        let qa_type = record["qa_type"].as_str().unwrap_or_default();
        let task =
            official_task(qa_type).ok_or_else(|| format!("no task has the qa_type `{qa_type:.40}`"))?;
        read_record(row, task, record, rules)
    };
    records.iter().enumerate().map(read).collect()
}

/// Evaluates a list of predictions (`{"prediction": …}`) against ground-truth records, by position.
///
/// Records of tasks the benchmark does not know are passed over, as the official scorer does.
pub fn evaluate_records(
    records: &[Value],
    predictions: &[Value],
    options: &Options<'_>,
) -> Result<Report, EvalError> {
    let all: Vec<usize> = (0..records.len()).collect();
    evaluate_some(records, &all, predictions, options)
}

/// Evaluates predictions for some rows of the ground truth, which must be there; the report counts rows as the whole does.
pub fn evaluate_some(
    records: &[Value],
    rows: &[usize],
    predictions: &[Value],
    options: &Options<'_>,
) -> Result<Report, EvalError> {
    if rows.len() != predictions.len() {
        return Err(EvalError::Lengths { records: rows.len(), predictions: predictions.len() });
    }
    let answered = rows;
    let strict = options.rules == Rules::Strict;
    let mut lost: BTreeMap<&'static str, String> = BTreeMap::new();
    let mut row_errors = BTreeMap::new();
    let mut rows = Vec::new();
    let mut unread = Vec::new();
    for (&index, entry) in answered.iter().zip(predictions) {
        let record = &records[index];
        let prediction = match entry.get("prediction") {
            Some(prediction) => prediction,
            None if strict => &Value::Null,
            None => return Err(EvalError::NoPrediction { index }),
        };
        let qa_type = record["qa_type"].as_str().unwrap_or_default();
        let Some(task) = official_task(qa_type) else {
            continue;
        };
        let text = prediction_text(task, prediction);
        let sample = read_record(index, task, record, options.rules);
        if let Some(reason) = text.as_ref().err().or(sample.as_ref().err()) {
            row_errors.insert(index, reason.clone());
            if !strict {
                lost.entry(eval_key(task)).or_insert_with(|| format!("row {index}: {reason}"));
            }
        }
        match (sample, text) {
            (Ok(sample), Ok(text)) => rows.push((index, sample, text)),
            (Ok(sample), Err(_)) if strict => rows.push((index, sample, String::new())),
            _ => unread.push(Record {
                index,
                row: index,
                task: task.key(),
                qa_type: qa_type.to_owned(),
                data_source: source(record),
                score: Value::Null,
                value: None,
                caption_score: None,
                n_failed: 0,
                unparsable: false,
            }),
        }
    }
    // The official scorer looks for these tasks by their exact name before it takes what contains it.
    for task in [TaskKind::Tag, TaskKind::Stg, TaskKind::NextAction] {
        let key = eval_key(task);
        let mut of_task = rows.iter().filter(|(_, sample, _)| sample.task == task).peekable();
        if !strict && of_task.peek().is_some() && !of_task.any(|(_, sample, _)| sample.qa_type == key) {
            lost.entry(key).or_insert_with(|| format!("no record has the exact qa_type `{key}`"));
        }
    }
    let rows = rows.iter().map(|(index, sample, text)| Row { index: *index, sample, text }).collect();
    let mut report = evaluate_rows(rows, options, lost);
    report.per_record.extend(unread);
    report.per_record.sort_by_key(|record| record.index);
    report.row_errors = row_errors;
    Ok(report)
}

/// An answer as text; for captions a list counts as its parts joined by blanks.
fn prediction_text(task: TaskKind, prediction: &Value) -> Result<String, String> {
    match (task, prediction) {
        (_, Value::String(text)) => Ok(text.clone()),
        (TaskKind::VideoSummary | TaskKind::RegionCaption, Value::Array(parts)) => {
            let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            Ok(parts.join(" "))
        }
        _ => Err(format!("the prediction is {prediction:.40}, not text")),
    }
}

/// The dataset a record counts under.
fn source(record: &Value) -> String {
    let named = |key: &str| record[key].as_str().filter(|name| !name.is_empty() && *name != "Unknown");
    named("data_source").or_else(|| record["dataset_name"].as_str()).unwrap_or("Unknown").to_owned()
}

/// A record as the official scorer reads it; media are not looked at.
pub(crate) fn read_record(
    row: usize,
    task: TaskKind,
    record: &Value,
    rules: Rules,
) -> Result<TaskSample, String> {
    let turn = |names: [&str; 2]| {
        let turns = record["conversations"].as_array().map_or(&[][..], Vec::as_slice);
        let turn =
            turns.iter().rev().find(|turn| turn["from"].as_str().is_some_and(|from| names.contains(&from)));
        turn.and_then(|turn| turn["value"].as_str()).unwrap_or_default()
    };
    let question = turn(["human", "user"]).replace("<video>\n", "").replace("<video>", "");
    let answer = turn(["gpt", "assistant"]);
    let struc_info = &record["struc_info"];
    let gold = match task {
        TaskKind::Tag => Gold::Spans(match (spans(struc_info)?, rules) {
            (none, Rules::Strict) if none.is_empty() => parse::tag::parse_strict(answer),
            (spans, _) => spans,
        }),
        TaskKind::Stg => Gold::Boxes(boxes(struc_info)?),
        TaskKind::DenseCaptioning => Gold::Segments(events(struc_info)?),
        TaskKind::NextAction => Gold::Class(answer.to_owned()),
        TaskKind::Cvs => Gold::CvsScores(match int_scores(&struc_info[0]["cvs_scores"])? {
            Some(mut scores) => {
                scores.retain(|name, _| parse::cvs::COMPONENTS.iter().any(|(key, _)| key == name));
                scores
            }
            None => parse::cvs::parse(answer),
        }),
        TaskKind::SkillAssessment => Gold::SkillScores(
            int_scores(&struc_info[0]["skill_scores"])?
                .unwrap_or_else(|| parse::skill::parse(answer).aspects),
        ),
        TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => {
            Gold::Text(answer.to_owned())
        }
    };
    Ok(TaskSample {
        row,
        id: record["id"].as_str().unwrap_or_default().to_owned(),
        source: SourceId::from(source(record).as_str()),
        task,
        qa_type: record["qa_type"].as_str().unwrap_or_default().to_owned(),
        video_id: record["metadata"]["video_id"].as_str().unwrap_or_default().to_owned(),
        prompt: vec![Message { role: Role::User, content: vec![Content::Text(question)] }],
        answer: (!answer.is_empty()).then(|| answer.to_owned()),
        gold,
        fps: match &record["metadata"]["fps"] {
            Value::Null => 1.0,
            value => float(value).ok_or_else(|| format!("metadata.fps is {value:.40}, not a number"))?,
        },
    })
}

/// Python's `float()` of a JSON value.
fn float(value: &Value) -> Option<f64> {
    value.as_str().map_or_else(|| value.as_f64(), parse::python::parse_float)
}

fn spans(struc_info: &Value) -> Result<Vec<Span>, String> {
    let mut spans = Vec::new();
    for span in
        struc_info.as_array().into_iter().flatten().filter_map(|item| item["spans"].as_array()).flatten()
    {
        let second = |key: &str| {
            span[key]
                .as_f64()
                .ok_or_else(|| format!("struc_info: `{key}` of a span is {:.40}, not a number", span[key]))
        };
        spans.push(Span { start_sec: second("start")?, end_sec: second("end")? });
    }
    Ok(spans)
}

fn boxes(struc_info: &Value) -> Result<Vec<TimedBox>, String> {
    let item = if struc_info.is_array() { &struc_info[0] } else { struc_info };
    let boxes = item.get("bbox_dict").unwrap_or(item);
    let read = |(key, value): (&String, &Value)| {
        let time_sec = parse::python::parse_float(key)
            .ok_or_else(|| format!("struc_info: the key `{key:.40}` of a box is not a time"))?;
        let corners: Option<Vec<f64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        // A malformed box still takes its turn among the times; NaN marks it as not to be scored.
        let box_xyxy = corners.and_then(|corners| corners.try_into().ok()).unwrap_or([f64::NAN; 4]);
        Ok(TimedBox { key: key.clone(), time_sec, box_xyxy })
    };
    boxes.as_object().into_iter().flatten().map(read).collect()
}

fn events(struc_info: &Value) -> Result<Vec<Segment>, String> {
    let list =
        [&struc_info[0], &struc_info[0]["dc_segments"], struc_info].into_iter().find_map(Value::as_array);
    let mut events = Vec::new();
    for event in list.into_iter().flatten() {
        let (Some(start), Some(end), Some(caption)) =
            (event.get("start"), event.get("end"), event.get("caption"))
        else {
            continue;
        };
        let second = |value| float(value).ok_or_else(|| format!("struc_info: {value:.40} is not a time"));
        let caption = caption.as_str().map_or_else(|| caption.to_string(), str::to_owned);
        events.push(Segment { span: Span { start_sec: second(start)?, end_sec: second(end)? }, caption });
    }
    Ok(events)
}

/// Integer scores by name; `None` where the record has none.
fn int_scores(value: &Value) -> Result<Option<BTreeMap<String, i64>>, String> {
    let Some(scores) = value.as_object().filter(|scores| !scores.is_empty()) else {
        return Ok(None);
    };
    let read = |(name, score): (&String, &Value)| {
        let score = score
            .as_i64()
            .ok_or_else(|| format!("struc_info: the score of `{name}` is {score:.40}, not an integer"))?;
        Ok((name.clone(), score))
    };
    scores.iter().map(read).collect::<Result<_, String>>().map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(qa_type: &str, struc_info: &Value) -> Value {
        json!({
            "qa_type": qa_type, "data_source": "", "dataset_name": "AVOS", "metadata": {"fps": "0.5"},
            "conversations": [{"from": "human", "value": "<video>\nWhen?"}, {"from": "gpt", "value": "1.0-2.0 seconds."}],
            "struc_info": struc_info,
        })
    }

    #[test]
    fn one_bad_row_loses_its_task_and_no_other() {
        let tag = record("tal", &json!([{"spans": [{"start": 1.0, "end": 2.0}]}]));
        let bad = record("tal", &json!([{"spans": [{"start": "1.0", "end": 2.0}]}]));
        let caption = record("video_summary_gpt", &json!([]));
        let answer = json!({"prediction": "1.0-2.0 seconds."});
        let good = evaluate_records(
            &[tag.clone(), caption.clone()],
            &[answer.clone(), answer.clone()],
            &Options::default(),
        )
        .expect("equal lengths");
        assert_eq!((good.overall.tag_miou_03, good.captions.vs_rouge_l), (Some(1.0), Some(1.0)));
        assert_eq!(good.per_record[0].data_source, "AVOS");
        let answers = [answer.clone(), answer.clone(), answer];
        let records = [tag, bad, caption];
        let lost = evaluate_records(&records, &answers, &Options::default()).expect("equal lengths");
        assert_eq!((lost.overall.tag_miou_03, lost.captions.vs_rouge_l), (None, Some(1.0)));
        assert!(lost.task_errors["tal"].contains("row 1"), "{:?}", lost.task_errors);
        assert_eq!(lost.leaderboard_3dp.tag_miou_03, Some(0.0));
        assert_eq!(lost.per_record.len(), 3);
        let strict = Options { rules: Rules::Strict, ..Options::default() };
        let kept = evaluate_records(&records, &answers, &strict).expect("equal lengths");
        assert_eq!(kept.overall.tag_miou_03, Some(1.0));
        assert!(kept.row_errors[&1].contains("not a number"), "{:?}", kept.row_errors);
    }

    #[test]
    fn answers_that_are_not_text_lose_their_task() {
        let tag = record("tal", &json!([]));
        let report = evaluate_records(&[tag], &[json!({"prediction": null})], &Options::default())
            .expect("equal lengths");
        assert!(report.task_errors["tal"].contains("null"));
        let error =
            evaluate_records(&[record("tal", &json!([]))], &[json!({"answer": ""})], &Options::default());
        assert!(matches!(error, Err(EvalError::NoPrediction { index: 0 })));
        assert!(matches!(
            evaluate_records(&[], &[json!({})], &Options::default()),
            Err(EvalError::Lengths { .. })
        ));
    }

    #[test]
    fn a_time_beyond_any_frame_loses_dense_captioning() {
        let dense = record("dense_captioning_gpt", &json!([[{"start": 0, "end": 5, "caption": "x"}]]));
        let text = format!("0-{} seconds: x", "9".repeat(310));
        let report = evaluate_records(&[dense], &[json!({ "prediction": text })], &Options::default())
            .expect("equal lengths");
        assert_eq!(report.overall.dvc_f1, None);
        assert!(report.task_errors["dvc"].contains("too large"));
    }

    #[test]
    fn a_box_of_nan_loses_stg() {
        let stg = record("stg", &json!([{"bbox_dict": {"1.0": [0, 0, 1, 1]}}]));
        let report = evaluate_records(
            &[stg],
            &[json!({"prediction": "1.0 seconds: [nan, 0, 1, 1]"})],
            &Options::default(),
        )
        .expect("equal lengths");
        assert_eq!(report.overall.stg_miou, None);
        assert!(report.task_errors["stg"].contains("NaN"));
    }
}
