//! A user's mistake: exit code 2, one message with file and row, no panic, nothing half-written.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{contracts::files, medgrpo, verb_on};
use crate::{fixture, parity::loading::copy_of};

/// Runs a command that must fail without leaving anything in the folder of `--out`.
pub(super) fn refuse(args: &[String], wanted: &[&str]) {
    let output = medgrpo(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let messages = stderr.lines().filter(|line| line.starts_with("error:")).count();
    assert_eq!(messages, 1, "one message: {stderr}");
    for wanted in wanted {
        assert!(stderr.contains(wanted), "{args:?}: `{wanted}` is not in:\n{stderr}");
    }
    assert!(output.stdout.is_empty(), "{args:?}");
}

/// A folder with a good record, a bad one and another good one in `m.jsonl`.
struct Scene {
    dir: tempfile::TempDir,
    model: PathBuf,
}

impl Scene {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), model: fixture::root().join("flat_all_full") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets `verb` see the records in `m.jsonl`; it must refuse, and leave no file.
    fn refuse(&self, verb: &str, lines: &[u8], wanted: &[&str]) {
        let data = self.path("m.jsonl");
        std::fs::write(&data, lines).unwrap();
        let out = self.path("out");
        std::fs::create_dir_all(&out).unwrap();
        refuse(&verb_on(verb, &self.model, &data, &out.join("result")), wanted);
        assert!(files(&out).is_empty(), "{verb} left {:?}", files(&out));
    }
}

fn text(words: &str) -> Value {
    json!({"type": "text", "text": words})
}

/// A line of a messages file: `content`, then an answer if `verb` takes one.
fn line(verb: &str, content: &Value) -> Vec<u8> {
    let mut messages = vec![json!({"role": "user", "content": content})];
    if verb != "generate" {
        messages.push(json!({"role": "assistant", "content": "Yes."}));
    }
    format!("{}\n", json!({ "messages": messages })).into_bytes()
}

fn good_bad_good(verb: &str, bad: &Value) -> Vec<u8> {
    let good = line(verb, &json!([text("Is it done?")]));
    [good.clone(), line(verb, bad), good].concat()
}

#[test]
fn bad_media_are_named_with_their_record() {
    let scene = Scene::new();
    let source = fixture::root().join("media/rgb_61x64.png");
    let png = std::fs::read(&source).unwrap();
    std::fs::write(scene.path("cut.png"), &png[..png.len() / 2]).unwrap();
    std::fs::write(scene.path("huge.png"), huge_png()).unwrap();
    std::fs::write(scene.path("empty.png"), []).unwrap();
    std::fs::write(scene.path("text.png"), "no image").unwrap();
    std::fs::write(scene.path("noise.mp4"), b"\0\0\0\x18ftypisom no video follows".repeat(9)).unwrap();
    std::fs::write(scene.path("good.png"), &png).unwrap();
    std::fs::copy(fixture::root().join("media/rgb_130x90.png"), scene.path("other.png")).unwrap();
    let video = |frames: Value| json!([{"type": "video", "video": frames, "fps": 2.0}, text("?")]);
    let cases = [
        (json!([{"type": "image", "image": "gone.png"}, text("?")]), "gone.png"),
        (json!([{"type": "image", "image": "cut.png"}]), "cut.png"),
        (json!([{"type": "image", "image": "huge.png"}]), "100000x100000"),
        (json!([{"type": "image", "image": "empty.png"}]), "empty.png"),
        (json!([{"type": "image", "image": "text.png"}]), "text.png"),
        (video(json!(["good.png", "gone.png"])), "gone.png"),
        (video(json!(["good.png", "huge.png"])), "huge.png"),
        (video(json!(["good.png", "other.png"])), "130x90"),
        (video(json!("gone.mp4")), "gone.mp4"),
        (video(json!("noise.mp4")), "noise.mp4"),
    ];
    for verb in ["score", "generate", "inspect"] {
        for (content, wanted) in &cases {
            scene.refuse(verb, &good_bad_good(verb, content), &["m.jsonl, row 1", wanted]);
        }
    }
}

#[test]
fn bad_records_are_named() {
    let scene = Scene::new();
    for verb in ["score", "generate", "inspect"] {
        let cases = [
            (json!([{"type": "video", "video": [], "fps": 2.0}]), "no frames"),
            (json!([{"type": "video", "video": ["a.png"], "fps": "abc"}]), "abc"),
            (json!([{"type": "video", "video": ["a.png"], "fps": 0}]), "fps is 0"),
            (json!([text("<|image_pad|>")]), "<|image_pad|>"),
            (json!([text("<|vision_start|><|video_pad|><|vision_end|>")]), "<|video_pad|>"),
            (json!(5), "content"),
        ];
        for (content, wanted) in &cases {
            scene.refuse(verb, &good_bad_good(verb, content), &["m.jsonl, row 1", wanted]);
        }
        let good = line(verb, &json!([text("Is it done?")]));
        let broken = |bad: &[u8]| [&good, bad, &good].concat();
        scene.refuse(
            verb,
            &broken(b"{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}\n"),
            &["m.jsonl, row 1", "UTF-8"],
        );
        scene.refuse(verb, &broken(b"{\"messages\": [\n"), &["m.jsonl, row 1"]);
        scene.refuse(verb, &broken(b"[]\n"), &["m.jsonl, row 1"]);
        scene.refuse(verb, b"", &["m.jsonl"]);
    }
    let open = line("generate", &json!([text("Is it done?")]));
    let answered = line("score", &json!([text("Is it done?")]));
    scene.refuse("score", &[answered.clone(), open.clone()].concat(), &["m.jsonl, row 1", "assistant"]);
    scene.refuse("generate", &[open, answered].concat(), &["m.jsonl, row 1", "assistant"]);
}

#[test]
fn bad_paths_models_and_arguments_are_named() {
    let scene = Scene::new();
    let root = fixture::root();
    let (model, data) = (root.join("flat_all_full"), root.join("flat_all_full.messages.jsonl"));
    let prompts = root.join("flat_all_full.prompts.jsonl");
    let out = scene.path("result");
    let data_of = |verb: &str| if verb == "generate" { &prompts } else { &data };
    let folder = scene.path("folder");
    std::fs::create_dir(&folder).unwrap();
    for verb in ["score", "generate", "inspect"] {
        let data = data_of(verb);
        refuse(&verb_on(verb, &scene.path("no-model"), data, &out), &["no-model"]);
        refuse(&verb_on(verb, &folder, data, &out), &["folder"]);
        refuse(&verb_on(verb, &model, &scene.path("no.jsonl"), &out), &["no.jsonl"]);
        refuse(&verb_on(verb, &model, data, &scene.path("nowhere/result")), &["nowhere"]);
        refuse(&verb_on(verb, &model, data, &folder), &["folder"]);
    }
    for (file, content, verbs) in [
        ("model.safetensors", "garbage", &["score", "generate"][..]),
        ("config.json", "{", &["score", "generate", "inspect"]),
        ("tokenizer.json", "{}", &["score", "generate", "inspect"]),
        ("preprocessor_config.json", "{\"patch_size\": \"large\"}", &["score", "generate", "inspect"]),
        ("chat_template.jinja", "{% for %}", &["score", "generate", "inspect"]),
        ("generation_config.json", "{\"eos_token_id\": \"x\"}", &["generate"]),
    ] {
        let (_guard, spoilt) = copy_of("flat_all_full");
        std::fs::write(spoilt.join(file), content).unwrap();
        for verb in verbs {
            refuse(&verb_on(verb, &spoilt, data_of(verb), &out), &[file]);
        }
    }
    let with = |verb: &str, more: &[&str]| {
        let mut args = verb_on(verb, &model, data_of(verb), &out);
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        args
    };
    refuse(&with("generate", &["--temperature=-1"]), &["--temperature"]);
    refuse(&with("generate", &["--temperature", "nan"]), &["--temperature"]);
    refuse(&with("generate", &["--top-p", "0"]), &["--top-p"]);
    refuse(&with("generate", &["--num-generations", "0"]), &["--num-generations"]);
    refuse(&with("score", &["--device", "abacus"]), &["abacus"]);
    refuse(&with("score", &["--colour"]), &["--colour"]);
    if !cfg!(feature = "cuda") {
        refuse(&with("score", &["--device", "cuda:0"]), &["--features cuda"]);
    }
    if !cfg!(feature = "tch") {
        refuse(&with("score", &["--device", "tch"]), &["--features tch"]);
    }
    assert!(!out.exists() && files(&folder).is_empty());
    assert_eq!(files(scene.dir.path()), ["folder"]);
}

/// A PNG whose header claims 100,000 × 100,000 pixels.
fn huge_png() -> Vec<u8> {
    let side = 100_000_u32.to_be_bytes();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", header.as_slice()), (b"IDAT", &[0x78, 0x9c, 0x03, 0x00]), (b"IEND", &[])] {
        let body = [kind.as_slice(), data].concat();
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(&body);
        png.extend(crc32(&body).to_be_bytes());
    }
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}
