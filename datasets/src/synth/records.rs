//! Puts questions into MedVidBench records, each source in its own convention.

use rand::{SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::{
    questions::{Question, Seen, ask},
    script::Video,
    source::{Convention, IdStyle, SourceSpec},
    templates::PERSONAS,
    video::{FrameBoxes, frame_path},
};

/// All records of a rendered video.
pub(super) fn video_records(
    spec: &'static SourceSpec,
    video: &Video,
    boxes: &[FrameBoxes],
    in_train: bool,
    seed: u64,
) -> Vec<Value> {
    let key = blake3::hash(format!("practice questions/{seed}/{}", video.id).as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    let mut records = Vec::new();
    for (part, clip) in video.clips.iter().enumerate() {
        let seen = Seen { spec, clip, boxes: &boxes[clip.offset..clip.offset + clip.num_frames] };
        for question in ask(&seen, &mut rng) {
            let persona = PERSONAS.choose(&mut rng).copied().unwrap_or_default();
            records.push(record(spec, video, (part, clip.offset), &question, persona, in_train));
        }
    }
    records
}

fn record(
    spec: &SourceSpec,
    video: &Video,
    (part, offset): (usize, usize),
    question: &Question,
    persona: &str,
    in_train: bool,
) -> Value {
    let native = |frame: usize| (offset + frame) * spec.native_stride;
    let frames: Vec<usize> = question.window.clone().map(native).collect();
    let (first, last) = (native(question.window.start), native(question.window.end - 1));
    let native_fps = spec.fps * spec.native_stride as f64;
    let (start, end) = match spec.convention {
        Convention::InputFrames | Convention::PlainFrames => (first.to_string(), last.to_string()),
        Convention::InputTimes => {
            (format!("{:.1}", first as f64 / native_fps), format!("{:.1}", last as f64 / native_fps))
        }
    };
    let fps = format!("{:.1}", spec.fps);
    let (start_key, end_key) = match spec.convention {
        Convention::InputFrames => ("input_video_start_frame", "input_video_end_frame"),
        Convention::InputTimes => ("input_video_start_time", "input_video_end_time"),
        Convention::PlainFrames => ("start_frame", "end_frame"),
    };
    let id = match spec.id_style {
        IdStyle::Dollar => format!("{fps}${}_part{part}${start}${end}", video.id),
        IdStyle::Ampersand => format!("{}&&{start}&&{end}&&{fps}", video.id),
    };
    let mut metadata = Map::new();
    metadata.insert("video_id".into(), video.id.clone().into());
    metadata.insert("fps".into(), fps.into());
    metadata.insert(start_key.into(), start.into());
    metadata.insert(end_key.into(), end.into());
    let region = question.region.map(|(frame, bounds)| {
        json!({"start_frame": frame_path(spec, &video.id, native(frame)), "start_frame_bbox": bounds})
    });
    let space = if persona.is_empty() { "" } else { " " };
    json!({
        "sampled_video_frames": frames,
        "video": frames.iter().map(|&frame| frame_path(spec, &video.id, frame)).collect::<Vec<_>>(),
        "conversations": [
            {"from": "human", "value": format!("<video>\n{persona}{space}{}", question.text)},
            {"from": "gpt", "value": question.answer},
        ],
        "id": id,
        "train": in_train,
        "data_source": spec.name,
        "dataset_name": spec.name,
        "qa_type": question.qa_type,
        "metadata": metadata,
        "is_RC": region.is_some(),
        "RC_info": region,
        "struc_info": question.struc_info,
    })
}
