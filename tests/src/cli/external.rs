//! A model behind an API, asked by `generate --records`: what a server receives, and what is kept when it refuses.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use medgrpo::predict::read_predictions;
use serde_json::{Value, json};

use super::{binary, records::Practice};

const KEY: &str = "sk-test-4f1d2c";

/// A chat server that answers with what it saw, and refuses what its rule says.
struct Server {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request as it came.
#[derive(Clone)]
struct Received {
    path: String,
    authorization: Option<String>,
    body: Value,
}

impl Received {
    fn parts(&self) -> Vec<&Value> {
        let messages = self.body["messages"].as_array().unwrap();
        messages
            .iter()
            .filter(|message| message["role"] == "user")
            .flat_map(|message| message["content"].as_array().expect("a clip and a question"))
            .collect()
    }

    /// The last text: the question.
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

impl Server {
    /// `refuses` is given the number of the request, from 0, and its question.
    fn start(refuses: impl Fn(usize, &str) -> Option<u16> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (store, refuses) = (Arc::clone(&received), Arc::new(refuses));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (store, refuses) = (Arc::clone(&store), Arc::clone(&refuses));
                std::thread::spawn(move || serve(stream.unwrap(), &store, &*refuses));
            }
        });
        Self { url, received }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    store: &Mutex<Vec<Received>>,
    refuses: &(dyn Fn(usize, &str) -> Option<u16> + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let received = Received { path, authorization, body: serde_json::from_slice(&body).unwrap() };
    let number = {
        let mut store = store.lock().unwrap();
        store.push(received.clone());
        store.len() - 1
    };
    let (status, body) = match refuses(number, received.question()) {
        Some(status) => (status, json!({ "error": { "message": "the filter says no" } })),
        None => {
            let text = format!("{} pictures: {}", received.pictures().len(), received.question());
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
            let usage = json!({ "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16 });
            (200, json!({ "choices": [choice], "usage": usage }))
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
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
    let server = Server::start(|_, _| None);
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
    let server = Server::start(|_, _| None);
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
    let server = Server::start(move |number, question| {
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
    let server = Server::start(move |_, question| (question == refused).then_some(400));
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
    let server = Server::start(|_, _| Some(400));
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
    let server = Server::start(|_, _| Some(401));
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
