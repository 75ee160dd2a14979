//! Samples and answers as the cards of a page: what the report draws, taken from records and the texts of models.

use medgrpo_datasets::{Content, Frames, Gold, TaskKind, TaskSample, VideoRef, video::load_frames};
use medgrpo_rewards::parse;

use crate::report::{Answer, BoxAt, Frame, SampleCard};

/// Frames shown of a sample without boxes.
const FRAMES_PER_CARD: usize = 4;

/// The card of a sample; `with_frames` opens its media, and leaves them out with a warning where they cannot be read.
pub(crate) fn card(sample: &TaskSample, answers: Vec<Answer>, with_frames: bool) -> SampleCard {
    let question: String = sample
        .prompt
        .iter()
        .flat_map(|message| &message.content)
        .filter_map(|content| match content {
            Content::Text(text) => Some(text.trim()),
            Content::Image(_) | Content::Video(_) => None,
        })
        .collect();
    let clip = sample.prompt.iter().flat_map(|message| &message.content).find_map(|content| match content {
        Content::Video(clip) => Some(clip),
        Content::Text(_) | Content::Image(_) => None,
    });
    let frames = clip.filter(|_| with_frames).map(|clip| frames(sample, clip)).unwrap_or_default();
    SampleCard {
        title: format!("{} · {} · row {}", sample.task.key().to_uppercase(), sample.source, sample.row),
        question,
        gold_answer: sample.answer.clone().unwrap_or_default(),
        duration_sec: clip.and_then(|clip| duration_sec(clip, sample.fps)),
        gold_spans: match &sample.gold {
            Gold::Spans(spans) => spans.clone(),
            Gold::Segments(segments) => segments.iter().map(|segment| segment.span).collect(),
            _ => Vec::new(),
        },
        frames,
        answers,
    }
}

/// An answer with what is drawn of it.
pub(crate) fn answer(task: TaskKind, label: &str, text: &str) -> Answer {
    let mut answer = Answer { label: label.to_owned(), text: text.to_owned(), ..Answer::default() };
    match task {
        TaskKind::Tag => answer.spans = parse::tag::parse(text),
        TaskKind::DenseCaptioning => {
            answer.spans = parse::dvc::parse(text).into_iter().map(|event| event.span).collect();
        }
        TaskKind::Stg => {
            answer.boxes = parse::stg::entries(text)
                .into_iter()
                .filter_map(|entry| Some(BoxAt { time_sec: entry.time_sec, box_xyxy: entry.box_xyxy? }))
                .collect();
        }
        _ => {}
    }
    answer
}

fn duration_sec(clip: &VideoRef, fps: f64) -> Option<f64> {
    match &clip.frames {
        Frames::Files { paths, .. } => Some(paths.len() as f64 / fps),
        Frames::Video { start_sec, end_sec, .. } => Some(end_sec.as_ref()? - start_sec.unwrap_or(0.0)),
    }
}

/// Frames at the times of the true boxes, or a few spread over the clip.
fn frames(sample: &TaskSample, clip: &VideoRef) -> Vec<Frame> {
    let Frames::Files { paths, fps } = &clip.frames else { return Vec::new() };
    let wanted: Vec<(usize, Option<[f64; 4]>)> = match &sample.gold {
        Gold::Boxes(boxes) => boxes
            .iter()
            .map(|timed| ((timed.time_sec * fps).round() as usize, Some(timed.box_xyxy)))
            .filter(|(index, _)| *index < paths.len())
            .collect(),
        _ => {
            // A drawn region's frame must be among those asked for.
            let count = FRAMES_PER_CARD.min(paths.len());
            let region = clip.region.map(|region| region.frame_index);
            region
                .into_iter()
                .chain((0..count).map(|number| number * paths.len() / count))
                .map(|index| (index, None))
                .collect()
        }
    };
    let indices: Vec<usize> = wanted.iter().map(|(index, _)| *index).collect();
    let images = match load_frames(clip, &indices) {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!("no frames on the page: {error}");
            return Vec::new();
        }
    };
    wanted
        .into_iter()
        .zip(images)
        .map(|((index, gold_box), image)| Frame {
            time_sec: index as f64 / fps,
            box_size: image.dimensions(),
            image,
            gold_box,
        })
        .collect()
}
