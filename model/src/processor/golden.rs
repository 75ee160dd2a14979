//! The processor against values of Pillow, transformers and qwen-vl-utils, made by `tests/fixtures/processor.py`.

use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;

use super::*;

pub(super) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/processor")
}

pub(super) fn processor() -> Processor {
    Processor::from_dir(&data().join("checkpoint")).unwrap()
}

/// The picture that the fixture script makes from the same seed.
pub(super) fn picture(height: usize, width: usize, seed: u32) -> RgbImage {
    let mut state = seed;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    RgbImage::from_raw(width as u32, height as u32, bytes.take(height * width * 3).collect()).unwrap()
}

fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> String {
    let step = |state: u64, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn golden() -> Value {
    serde_json::from_str(&std::fs::read_to_string(data().join("golden.json")).unwrap()).unwrap()
}

fn rows(golden: &Value, key: &str) -> Vec<Value> {
    golden[key].as_array().filter(|rows| !rows.is_empty()).unwrap().clone()
}

fn from<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn resizes_equal_pillow_to_the_bit() {
    for row in rows(&golden(), "resizes") {
        let [height, width]: [usize; 2] = from(&row["from"]);
        let [to_height, to_width]: [usize; 2] = from(&row["to"]);
        let out = resize_bicubic(&picture(height, width, from(&row["seed"])), to_height, to_width).into_raw();
        if row["bytes"].is_array() {
            assert_eq!(out, from::<Vec<u8>>(&row["bytes"]), "{height}x{width} to {to_height}x{to_width}");
        }
        assert_eq!(fnv1a(out), row["fnv1a"], "{height}x{width} to {to_height}x{to_width}");
    }
}

#[test]
fn sizes_equal_both_references() {
    for row in rows(&golden(), "sizes") {
        let [height, width]: [usize; 2] = from(&row["size"]);
        let [min_pixels, max_pixels]: [u64; 2] = from(&row["limits"]);
        for (rule, key) in [(ResizeRule::HuggingFace, "hf"), (ResizeRule::QwenVlUtils, "qwen")] {
            let got = smart_resize(rule, height, width, 28, PixelRange { min_pixels, max_pixels }).ok();
            assert_eq!(
                got,
                from(&row[key]),
                "{rule:?} of {height}x{width} within {min_pixels} to {max_pixels}"
            );
        }
    }
}

#[test]
fn frames_equal_both_references() {
    for row in rows(&golden(), "frames") {
        let (total, video_fps): (usize, f64) = (from(&row["total"]), from(&row["fps"]));
        let [start, end]: [Option<f64>; 2] = from(&row["clip"]);
        let wished = &row["wish"];
        let wish = match wished["nframes"].as_u64() {
            Some(frames) => FrameWish::NumFrames(frames as usize),
            None => FrameWish::Fps {
                fps: from(&wished["fps"]),
                min_frames: wished["min_frames"]
                    .as_u64()
                    .map_or(DEFAULT_MIN_FRAMES, |frames| frames as usize),
                max_frames: wished["max_frames"]
                    .as_u64()
                    .map_or(DEFAULT_MAX_FRAMES, |frames| frames as usize),
            },
        };
        let plan = |rule, start, end| {
            frame_range(total, video_fps, start, end)
                .and_then(|range| plan_frames(rule, range, video_fps, wish))
                .ok()
        };
        let qwen = plan(SamplingRule::QwenVlUtils, start, end);
        assert_eq!(qwen.as_ref().map(|plan| plan.indices.clone()), from(&row["qwen"]), "{row}");
        assert_eq!(qwen.map(|plan| plan.sample_fps), from(&row["sample_fps"]), "{row}");
        let steps = plan(SamplingRule::HuggingFace, None, None).map(|plan| plan.indices);
        assert_eq!(steps, from(&row["hf"]), "{row}");
    }
}

#[test]
fn texts_tokenize_and_decode_as_the_reference() {
    let processor = processor();
    for row in rows(&golden(), "texts") {
        let ids = processor.tokenizer().encode(row["text"].as_str().unwrap()).unwrap();
        assert_eq!(ids, from::<Vec<u32>>(&row["ids"]), "{row}");
        assert_eq!(processor.tokenizer().decode(&ids, true).unwrap(), row["plain"], "{row}");
    }
}

#[test]
fn training_gives_the_reference_trainers_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let texts: Vec<String> = from(&golden()["training_texts"]);
    train_bpe(&texts, 320, dir.path()).unwrap();
    for file in ["vocab.json", "merges.txt"] {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).unwrap();
        let (ours, theirs) = (read(dir.path()), read(&data().join("checkpoint")));
        if file == "vocab.json" {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(&ours), parse(&theirs));
        } else {
            assert_eq!(ours, theirs);
        }
    }
    write_processor_files(
        dir.path(),
        &ImageProcessorConfig::image_default(),
        &ImageProcessorConfig::video_default(),
    )
    .unwrap();
    let (ours, theirs) = (Processor::from_dir(dir.path()).unwrap(), processor());
    assert_eq!(ours.tokenizer().special(), theirs.tokenizer().special());
    assert_eq!(ours.image_config(), &ImageProcessorConfig::image_default());
    assert_eq!(ours.video_config(), &ImageProcessorConfig::video_default());
    for row in rows(&golden(), "texts") {
        assert_eq!(
            ours.tokenizer().encode(row["text"].as_str().unwrap()).unwrap(),
            from::<Vec<u32>>(&row["ids"])
        );
    }
}

#[test]
fn conversations_equal_the_reference() {
    let processor = processor();
    for row in rows(&golden(), "conversations") {
        let messages: Vec<ChatMessage> = row["messages"].as_array().unwrap().iter().map(message).collect();
        let visuals: Vec<Visual> = row["visuals"].as_array().unwrap().iter().map(visual).collect();
        let prompt = row["add_generation_prompt"].as_bool().unwrap();
        assert_eq!(processor.template().render(&messages, prompt).unwrap(), row["text"]);

        let encoded = processor.encode(&messages, &visuals, prompt).unwrap();
        assert_eq!(encoded.input_ids, from::<Vec<u32>>(&row["input_ids"]));
        assert_eq!(encoded.second_per_grid_ts, from::<Vec<f32>>(&row["second_per_grid_ts"]));
        for (patches, grids, hash) in [
            (&encoded.images, "image_grid_thw", "images_fnv1a"),
            (&encoded.videos, "video_grid_thw", "videos_fnv1a"),
        ] {
            let got: Vec<[usize; 3]> = patches.grids.iter().map(|grid| [grid.t, grid.h, grid.w]).collect();
            assert_eq!(got, from::<Vec<[usize; 3]>>(&row[grids]));
            assert_eq!(patches.values.len(), patches.num_patches() * 3 * 2 * 14 * 14);
            if let Some(expected) = row[hash].as_str() {
                assert_eq!(
                    fnv1a(patches.values.iter().flat_map(|value| value.to_le_bytes())),
                    expected,
                    "{hash}"
                );
            }
        }
        let sizes: Vec<VisualSize> = visuals.iter().map(Visual::size).collect();
        assert_eq!(processor.plan_num_tokens(&messages, &sizes, prompt).unwrap(), encoded.input_ids.len());
        assert_eq!(processor.token_ids(&messages, &sizes, prompt).unwrap(), encoded.input_ids);
    }
}

fn message(value: &Value) -> ChatMessage {
    let part = |part: &Value| match part["type"].as_str().unwrap() {
        "text" => ChatPart::Text(from(&part["text"])),
        "image" => ChatPart::Image,
        "video" => ChatPart::Video,
        other => panic!("{other}"),
    };
    ChatMessage {
        role: from(&value["role"]),
        content: value["content"].as_array().unwrap().iter().map(part).collect(),
    }
}

fn visual(value: &Value) -> Visual {
    let [height, width]: [usize; 2] = from(&value["size"]);
    let seed: u32 = from(&value["seed"]);
    match value["num_frames"].as_u64() {
        None => Visual::Image(picture(height, width, seed)),
        Some(frames) => Visual::Video {
            frames: (0..frames as u32).map(|frame| picture(height, width, seed + frame)).collect(),
            sample_fps: from(&value["fps"]),
        },
    }
}
