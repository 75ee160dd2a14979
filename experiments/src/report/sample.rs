//! One sample with its answers, made ready for the page: frames with boxes, spans on a time line, texts.

use std::io::Cursor;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use image::{
    ExtendedColorType, ImageEncoder as _, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType,
};
use medgrpo_datasets::Span;
use serde::Serialize;

use super::ReportError;

/// A sample as the page shows it.
#[derive(Clone, Debug, Default)]
pub struct SampleCard {
    /// What and where from (`STG · CholecTrack20 · row 17`).
    pub title: String,
    /// The question.
    pub question: String,
    /// The demonstrated answer, or whatever says best what is right.
    pub gold_answer: String,
    /// Length of the clip in seconds: the width of the time line. `None` shows none.
    pub duration_sec: Option<f64>,
    /// TAG: the true spans.
    pub gold_spans: Vec<Span>,
    /// Frames to show; for STG those that have a true box.
    pub frames: Vec<Frame>,
    /// The answers.
    pub answers: Vec<Answer>,
}

/// A frame of the clip.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its time in seconds from the clip's start.
    pub time_sec: f64,
    /// The picture, of any size.
    pub image: RgbImage,
    /// Width and height in pixels of the frame that boxes refer to.
    pub box_size: (u32, u32),
    /// STG: the true box `[x1, y1, x2, y2]`.
    pub gold_box: Option<[f64; 4]>,
}

/// An answer to the question.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Whose (`base`, `grpo`, `completion 3`).
    pub label: String,
    /// Its text.
    pub text: String,
    /// The reward, if it was scored.
    pub reward: Option<f64>,
    /// The task's raw metric, if it was scored.
    pub raw: Option<f64>,
    /// Whether it was cut off for lack of budget.
    pub truncated: bool,
    /// What else is to be said of it (the judge's scores); empty shows nothing.
    pub note: String,
    /// TAG: its spans.
    pub spans: Vec<Span>,
    /// STG: its boxes.
    pub boxes: Vec<BoxAt>,
}

/// A box of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxAt {
    /// Time in seconds from the clip's start.
    pub time_sec: f64,
    /// Corners `[x1, y1, x2, y2]` in pixels of the frame that the question is about.
    pub box_xyxy: [f64; 4],
}

/// Frames are shown this wide at most.
const FRAME_WIDTH: u32 = 360;
const JPEG_QUALITY: u8 = 82;
/// Texts of models are shown up to this many characters.
const MAX_TEXT: usize = 1500;
/// A box belongs to a frame if their times differ by no more: answers carry one decimal.
const SAME_TIME_SEC: f64 = 0.051;

/// A card in the template's terms.
#[derive(Serialize)]
pub(super) struct CardView {
    title: String,
    question: String,
    gold_answer: String,
    frames: Vec<FrameView>,
    /// Whether there is a time line.
    has_timeline: bool,
    duration: String,
    gold_bars: Vec<Bar>,
    answers: Vec<AnswerView>,
}

#[derive(Serialize)]
struct FrameView {
    time: String,
    data_uri: String,
    width: u32,
    height: u32,
    /// Width of lines in pixels of the frame, so that they look alike at every resolution.
    stroke: f64,
    gold: Option<Rect>,
    predicted: Vec<PredictedRect>,
}

#[derive(Serialize)]
struct Rect {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

#[derive(Serialize)]
struct PredictedRect {
    rect: Rect,
    label: String,
    is_best: bool,
}

#[derive(Serialize)]
struct AnswerView {
    label: String,
    text: String,
    score: String,
    /// From 0 to 1, for the colour of the score; empty where there is none.
    goodness: Option<f64>,
    truncated: bool,
    note: String,
    is_best: bool,
    bars: Vec<Bar>,
}

/// A span as a share of the time line.
#[derive(Serialize)]
struct Bar {
    left_percent: f64,
    width_percent: f64,
    label: String,
}

impl CardView {
    pub(super) fn new(card: &SampleCard) -> Result<Self, ReportError> {
        let best = best_answer(&card.answers);
        let duration = card.duration_sec.filter(|duration| duration.is_finite() && *duration > 0.0);
        let has_spans =
            !card.gold_spans.is_empty() || card.answers.iter().any(|answer| !answer.spans.is_empty());
        let bars = |spans: &[Span]| -> Vec<Bar> {
            let Some(duration) = duration else {
                return Vec::new();
            };
            spans.iter().filter_map(|span| bar(span, duration)).collect()
        };
        let answer_view = |(index, answer): (usize, &Answer)| AnswerView {
            label: answer.label.clone(),
            text: shown(&answer.text),
            score: score_text(answer),
            goodness: answer.reward.filter(|reward| reward.is_finite()).map(|reward| reward.clamp(0.0, 1.0)),
            truncated: answer.truncated,
            note: answer.note.clone(),
            is_best: best == Some(index),
            bars: bars(&answer.spans),
        };
        Ok(Self {
            title: card.title.clone(),
            question: shown(&card.question),
            gold_answer: shown(&card.gold_answer),
            frames: card
                .frames
                .iter()
                .map(|frame| FrameView::new(frame, card, best))
                .collect::<Result<_, _>>()?,
            has_timeline: duration.is_some() && has_spans,
            duration: duration.map_or_else(String::new, |duration| format!("{duration:.1} s")),
            gold_bars: bars(&card.gold_spans),
            answers: card.answers.iter().enumerate().map(answer_view).collect(),
        })
    }
}

impl FrameView {
    fn new(frame: &Frame, card: &SampleCard, best: Option<usize>) -> Result<Self, ReportError> {
        let (width, height) = (frame.box_size.0.max(1), frame.box_size.1.max(1));
        let rect = |corners: &[f64; 4]| rect_inside(corners, f64::from(width), f64::from(height));
        let mut predicted = Vec::new();
        for (index, answer) in card.answers.iter().enumerate() {
            let boxes =
                answer.boxes.iter().filter(|found| (found.time_sec - frame.time_sec).abs() <= SAME_TIME_SEC);
            predicted.extend(boxes.filter_map(|found| {
                let is_best = best == Some(index);
                Some(PredictedRect { rect: rect(&found.box_xyxy)?, label: answer.label.clone(), is_best })
            }));
        }
        // The best goes on top of the others.
        predicted.sort_by_key(|predicted| predicted.is_best);
        Ok(Self {
            time: format!("{:.1} s", frame.time_sec),
            data_uri: jpeg_data_uri(&frame.image)?,
            width,
            height,
            stroke: f64::from(width) / 130.0,
            gold: frame.gold_box.as_ref().and_then(rect),
            predicted,
        })
    }
}

/// The answer with the highest reward; the last one if none was scored.
fn best_answer(answers: &[Answer]) -> Option<usize> {
    let reward = |index: &usize| {
        answers[*index].reward.filter(|reward| reward.is_finite()).unwrap_or(f64::NEG_INFINITY)
    };
    (0..answers.len()).max_by(|left, right| reward(left).total_cmp(&reward(right)))
}

/// The part of a box that lies in the frame; `None` if there is none, or the numbers are no numbers.
fn rect_inside(corners: &[f64; 4], width: f64, height: f64) -> Option<Rect> {
    if corners.iter().any(|corner| !corner.is_finite()) {
        return None;
    }
    let [x1, y1, x2, y2] = *corners;
    let (left, right) = (x1.min(x2).clamp(0.0, width), x1.max(x2).clamp(0.0, width));
    let (top, bottom) = (y1.min(y2).clamp(0.0, height), y1.max(y2).clamp(0.0, height));
    (right > left && bottom > top).then_some(Rect {
        x: left,
        y: top,
        width: right - left,
        height: bottom - top,
    })
}

/// The part of a span that lies in the clip; a point in time keeps a visible width.
fn bar(span: &Span, duration: f64) -> Option<Bar> {
    if !span.start_sec.is_finite() || !span.end_sec.is_finite() {
        return None;
    }
    let start = span.start_sec.min(span.end_sec).clamp(0.0, duration);
    let end = span.start_sec.max(span.end_sec).clamp(0.0, duration);
    Some(Bar {
        left_percent: (100.0 * start / duration).min(99.5),
        width_percent: (100.0 * (end - start) / duration).max(0.5),
        label: format!("{:.1}–{:.1} s", span.start_sec, span.end_sec),
    })
}

fn score_text(answer: &Answer) -> String {
    match (answer.reward, answer.raw) {
        (Some(reward), Some(raw)) if (reward - raw).abs() > 5e-4 => {
            format!("reward {reward:.3}, metric {raw:.3}")
        }
        (Some(reward), _) => format!("reward {reward:.3}"),
        (None, Some(raw)) => format!("metric {raw:.3}"),
        (None, None) => String::new(),
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{} … ({} characters in all)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

fn jpeg_data_uri(image: &RgbImage) -> Result<String, ReportError> {
    let scaled;
    let image = if image.width() > FRAME_WIDTH {
        let height =
            (u64::from(image.height()) * u64::from(FRAME_WIDTH) / u64::from(image.width())).max(1) as u32;
        scaled = image::imageops::resize(image, FRAME_WIDTH, height, FilterType::Triangle);
        &scaled
    } else {
        image
    };
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).write_image(
        image.as_raw(),
        image.width(),
        image.height(),
        ExtendedColorType::Rgb8,
    )?;
    Ok(format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes.into_inner())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_cut_to_the_frame_and_broken_ones_left_out() {
        let rect = rect_inside(&[90.0, -10.0, 50.0, 30.0], 80.0, 60.0).unwrap();
        assert_eq!((rect.x, rect.y, rect.width, rect.height), (50.0, 0.0, 30.0, 30.0));
        assert!(rect_inside(&[f64::NAN, 0.0, 1.0, 1.0], 80.0, 60.0).is_none());
        assert!(rect_inside(&[100.0, 0.0, 120.0, 10.0], 80.0, 60.0).is_none());
        assert!(rect_inside(&[0.0, 0.0, f64::INFINITY, 10.0], 80.0, 60.0).is_none());
    }

    #[test]
    fn spans_become_shares_of_the_clip() {
        let half = bar(&Span { start_sec: 5.0, end_sec: 20.0 }, 10.0).unwrap();
        assert_eq!((half.left_percent, half.width_percent), (50.0, 50.0));
        let point = bar(&Span { start_sec: 10.0, end_sec: 10.0 }, 10.0).unwrap();
        assert_eq!((point.left_percent, point.width_percent), (99.5, 0.5));
        assert!(bar(&Span { start_sec: f64::NAN, end_sec: 1.0 }, 10.0).is_none());
    }

    #[test]
    fn the_best_answer_has_the_highest_reward() {
        let answer = |reward| Answer { reward, ..Answer::default() };
        assert_eq!(best_answer(&[answer(Some(0.2)), answer(Some(0.9)), answer(None)]), Some(1));
        assert_eq!(best_answer(&[answer(Some(f64::NAN)), answer(Some(0.0))]), Some(1));
        assert_eq!(best_answer(&[answer(None), answer(None)]), Some(1));
        assert_eq!(best_answer(&[]), None);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = shown(&"é".repeat(MAX_TEXT + 1));
        assert!(text.ends_with("é … (1501 characters in all)"), "{text}");
    }
}
