//! Rewards of single tasks, one file each, for group-relative training.
//!
//! The paper names the metric of a task but not how surplus, missing or misplaced answers are charged, nor what the format
//! factor is; each file says what is chosen here and why. A reward's value is its metric in `[0, 1]`; scales and weights are
//! put around it by `compose`.

pub mod cvs;
pub mod dvc;
pub mod format;
pub mod judged;
pub mod nap;
pub mod rouge;
pub mod similarity;
pub mod skill;
pub mod stg;
pub mod tag;
pub mod vqa;

#[cfg(test)]
pub(crate) mod contract;

use medgrpo_datasets::{Gold, Span, TaskSample};

use crate::{Response, RewardError, Score};

/// The error for a sample whose gold is not of the kind a reward needs.
fn wrong_gold(sample: &TaskSample, needed: &str) -> RewardError {
    RewardError::NoReward {
        row: sample.row,
        source_name: sample.source.to_string(),
        task: sample.task.to_string(),
        message: format!(
            "the record holds no {needed}: train on records with ground truth, or leave this task out"
        ),
    }
}

/// The same unscored score for a whole group.
fn all_unscored(responses: &[Response<'_>], reason: &str) -> Vec<Score> {
    vec![Score::Unscored(reason.to_owned()); responses.len()]
}

/// The record's reference text: of captions and of open questions.
fn reference(sample: &TaskSample) -> Result<&str, RewardError> {
    match &sample.gold {
        Gold::Text(text) | Gold::Class(text) => Ok(text),
        _ => Err(wrong_gold(sample, "reference text")),
    }
}

/// Scores a group against the record's reference, both sides on one line. Blank responses are worth 0 and never reach
/// `score`, which gets the reference and the other texts, and gives one score for each; a record with a blank reference is
/// unscored.
fn against_reference(
    sample: &TaskSample,
    responses: &[Response<'_>],
    score: impl FnOnce(&str, &[&str]) -> Result<Vec<Score>, RewardError>,
) -> Result<Vec<Score>, RewardError> {
    let reference = on_one_line(reference(sample)?);
    if reference.is_empty() {
        return Ok(all_unscored(responses, "the record's reference text is empty"));
    }
    let texts: Vec<String> = responses.iter().map(|response| on_one_line(response.text)).collect();
    let written: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    let num_written = written.len();
    let scores = if written.is_empty() { Vec::new() } else { score(&reference, &written)? };
    assert_eq!(scores.len(), num_written, "one score a text");
    let mut scores = scores.into_iter();
    let of = |text: &String| match text.is_empty() {
        true => Score::metric(0.0),
        false => scores.next().expect("one score a text"),
    };
    Ok(texts.iter().map(of).collect())
}

/// The text with every run of blanks as one blank.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Times rounded to 0.1 s, the resolution of the answer format.
fn to_answer_resolution(span: Span) -> Span {
    let round = |sec: f64| (sec * 10.0).round() / 10.0;
    Span { start_sec: round(span.start_sec), end_sec: round(span.end_sec) }
}

/// Half a frame period, the precision a clip allows.
fn half_frame_sec(sample: &TaskSample) -> f64 {
    if sample.fps > 0.0 && sample.fps.is_finite() { 0.5 / sample.fps } else { 0.5 }
}
