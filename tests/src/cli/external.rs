//! A model behind an API, asked by `generate --records`: what a server receives, and what is kept when it refuses.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use medgrpo::predict::read_predictions;
use serde_json::{Value, json};

use super::{binary, records::Practice};
use crate::server::{Received, Server};

const KEY: &str = "sk-test-4f1d2c";

/// What the parts of a request that [`Server`] received say.
trait Question {
    fn parts(&self) -> Vec<&Value>;
    fn question(&self) -> &str;
    fn pictures(&self) -> Vec<image::RgbImage>;
}

impl Question for Received {
    fn parts(&self) -> Vec<&Value> {
        let messages = self.body["messages"].as_array().unwrap();
        messages
            .iter()
            .filter(|message| message["role"] == "user")
            .flat_map(|message| message["content"].as_array().expect("a clip and a question"))
            .collect()
    }

    /// The last text.
    fn question(&self) -> &str {
        self.parts().iter().rev().find_map(|part| part["text"].as_str()).unwrap()
    }

    fn pictures(&self) -> Vec<image::RgbImage> {
        let urls = self.parts().into_iter().filter(|part| part["type"] == "image_url");
        urls.map(|part| {
            let url = part["image_url"]["url"].as_str().unwrap();
            let bytes = BASE64_STANDARD.decode(url.strip_prefix("data:image/jpeg;base64,").unwrap()).unwrap();
            image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg).unwrap().into_rgb8()
        })
        .collect()
    }
}

/// A server that answers with what it saw, and refuses what `refuses` says of a request's number and question.
fn start(refuses: impl Fn(usize, &str) -> Option<u16> + Send + Sync + 'static) -> Server {
    Server::start(move |number, received| match refuses(number, received.question()) {
        Some(status) => Err(status),
        None => Ok(format!("{} pictures: {}", received.pictures().len(), received.question())),
    })
}

fn generate(server: &Server, records: &Path, out: &Path, more: &[&str]) -> Output {
    let fixed = ["generate", "--model", &server.url, "--model-name", "closed-1", "--api-key-env", "TEST_KEY"];
    let files =
        ["--records", records.to_str().unwrap(), "--out", out.to_str().unwrap(), "--concurrency", "3"];
    let mut command = Command::new(binary());
    command.args(fixed).args(files).args(more).env_remove("RUST_LOG").env("TEST_KEY", KEY).output().unwrap()
}

/// The test records, every question with its row at its end.
fn numbered(practice: &Practice, name: &str) -> (PathBuf, Vec<Value>) {
    let path = practice.spoilt(name, |records| {
        for (row, record) in records.iter_mut().enumerate() {
            let text = format!("{} (row {row})", record["conversations"][0]["value"].as_str().unwrap());
            record["conversations"][0]["value"] = text.into();
        }
    });
    let records = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    (path, records)
}

fn frames(record: &Value) -> usize {
    record["video"].as_array().unwrap().len()
}

fn question(record: &Value) -> &str {
    record["conversations"][0]["value"].as_str().unwrap().strip_prefix("<video>\n").unwrap()
}

#[test]
fn a_server_receives_frames_times_and_key_and_its_answers_are_kept_in_order() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    let server = start(|_, _| None);
    let (file, records) = numbered(&practice, "received.json");
    let output = generate(&server, &file, &out, &["--shots", "1"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let answers = read_predictions(&out).unwrap();
    assert_eq!(answers.len(), records.len());
    for (index, (answer, record)) in answers.iter().zip(&records).enumerate() {
        assert_eq!(answer.index, index);
        assert_eq!(answer.prediction, format!("{} pictures: {}", frames(record), question(record)));
        assert_eq!((answer.finish_reason.as_str(), answer.num_tokens), ("stop", Some(7)));
    }
    let received = server.received();
    assert_eq!(received.len(), answers.len());
    let mut drawn_boxes = 0;
    for request in &received {
        assert_eq!(request.path, "/v1/chat/completions");
        assert_eq!(request.authorization.as_deref(), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!((&request.body["model"], &request.body["temperature"]), (&json!("closed-1"), &json!(0.0)));
        let record = records.iter().find(|record| question(record) == request.question()).unwrap();
        let budget = if record["qa_type"] == "stg" { 512 } else { 256 };
        assert_eq!(request.body["max_tokens"], budget);
        for picture in request.pictures() {
            let num_pixels = picture.width() * picture.height();
            assert!((6_272..=37_632).contains(&num_pixels), "{num_pixels} pixels");
            assert_eq!((picture.width() % 28, picture.height() % 28), (0, 0));
        }
        let texts: Vec<&str> = request.parts().iter().filter_map(|part| part["text"].as_str()).collect();
        let fps: f64 = record["metadata"]["fps"].as_str().unwrap().parse().unwrap();
        assert!(texts[0].contains(&format!("{} frames", frames(record))), "{}", texts[0]);
        assert_eq!(texts[1], "0.0 seconds:");
        let last = (frames(record) - 1) as f64 / fps;
        let told: f64 = texts[frames(record)].strip_suffix(" seconds:").unwrap().parse().unwrap();
        assert!((told - last).abs() < 0.006, "{told} is not {last}");
        assert_eq!(texts[0].contains("green box"), record["is_RC"] == true, "{}", texts[0]);
        drawn_boxes += usize::from(record["is_RC"] == true);
        let system = request.body["messages"][0].clone();
        assert_eq!(system["role"], "system");
        assert!(system["content"].as_str().unwrap().contains("Answer: "), "{system}");
    }
    assert!(drawn_boxes > 0, "no region caption was asked");
    for name in super::contracts::files(dir.path()) {
        let text = std::fs::read_to_string(dir.path().join(&name)).unwrap();
        assert!(!text.contains(KEY), "{name} holds the key");
    }
    assert!(!stderr.contains(KEY));
}

/// The triplets of `random.Random(row)` in the CVS examples.
#[test]
fn cvs_examples_are_drawn_by_the_row() {
    const TRIPLETS: [[u32; 3]; 3] = [[1, 1, 0], [0, 2, 0], [0, 0, 0]];
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let cvs = practice.file("cvs.json");
    let train: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(practice.file("train.json")).unwrap()).unwrap();
    let all = train.iter().chain(&practice.records);
    let mut records: Vec<Value> =
        all.filter(|record| record["qa_type"] == "cvs_assessment").take(1).cloned().collect();
    records = [records.clone(), records.clone(), records].concat();
    assert_eq!(records.len(), TRIPLETS.len());
    for (row, record) in records.iter_mut().enumerate() {
        record["conversations"][0]["value"] = format!("<video>\nRow {row}?").into();
    }
    std::fs::write(&cvs, Value::Array(records).to_string()).unwrap();
    let server = start(|_, _| None);
    let output = generate(&server, &cvs, &dir.path().join("out"), &["--shots", "1", "--limit", "3"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for request in server.received() {
        let row: usize = request.question()[4..5].parse().unwrap();
        let [structures, plate, triangle] = TRIPLETS[row];
        let answer = format!(
            "Answer: Two structures: {structures}, Cystic plate: {plate}, Hepatocystic triangle: {triangle}\n"
        );
        let system = request.body["messages"][0]["content"].as_str().unwrap();
        assert!(system.contains(&answer), "row {row}: {system}");
    }
}

#[test]
fn refused_rows_are_asked_again_and_nothing_else_is() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    let (file, records) = numbered(&practice, "refused.json");
    let num_rows = records.len();
    let num_refused = 2;
    let refused = [2, 5].map(|row: usize| question(&records[row]).to_owned());
    let server = start(move |number, question| {
        (number < num_rows && refused.iter().any(|refused| refused == question)).then_some(400)
    });
    let output = generate(&server, &file, &out, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let told = format!("{num_refused} requests failed, the first for {}, row ", file.display());
    for wanted in
        [told.as_str(), "the filter says no", &format!("{} of {num_rows} rows", num_rows - num_refused)]
    {
        assert!(stderr.contains(wanted), "`{wanted}` is not in {stderr}");
    }
    assert!(!out.exists(), "a result with holes");
    assert_eq!(server.received().len(), num_rows);
    let output = generate(&server, &file, &out, &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.received().len(), num_rows + num_refused, "answered rows are not asked again");
    let answers = read_predictions(&out).unwrap();
    assert!(answers.iter().map(|answer| answer.index).eq(0..num_rows));
    assert!(answers.iter().all(|answer| answer.prediction.contains("pictures: ")));
}

#[test]
fn rows_that_the_server_never_answers_may_be_left_empty() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    let (file, records) = numbered(&practice, "filtered.json");
    let refused = question(&records[2]).to_owned();
    let server = start(move |_, question| (question == refused).then_some(400));
    let output = generate(&server, &file, &out, &["--on-bad-row", "empty"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("row 2: refused") && stderr.contains("the filter says no"), "{stderr}");
    for (row, answer) in read_predictions(&out).unwrap().iter().enumerate() {
        assert_eq!(
            (answer.finish_reason == "unusable", answer.prediction.is_empty()),
            (row == 2, row == 2),
            "{row}"
        );
    }
}

#[test]
fn a_server_that_refuses_everything_says_nothing_of_the_rows() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    let (file, _) = numbered(&practice, "all-refused.json");
    let server = start(|_, _| Some(400));
    let output = generate(&server, &file, &out, &["--on-bad-row", "empty"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("as all requests so far") && stderr.contains("the filter says no"), "{stderr}");
    assert!(!out.exists(), "rows were taken for answered");
}

#[test]
fn a_refused_key_stops_at_once() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    let server = start(|_, _| Some(401));
    let output = generate(&server, &practice.file("test.json"), &out, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("TEST_KEY") && !stderr.contains(KEY), "{stderr}");
    assert!(server.received().len() <= 3, "as many as were in flight");
    let without = Command::new(binary())
        .args(["generate", "--model", &server.url, "--records", "r.json", "--out", "o.jsonl"])
        .output()
        .unwrap();
    assert_eq!(without.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&without.stderr).contains("--model-name"));
}
