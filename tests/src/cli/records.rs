//! Benchmark records through `generate --records`: zero and one shot, killed and gone on with, in shards, with bad rows.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use medgrpo::predict::{Prediction, read_predictions};
use medgrpo_datasets::synth::{SynthConfig, render};
use serde_json::Value;

use super::{binary, contracts::files, medgrpo};
use crate::fixture;

/// A rendered practice set.
pub(super) struct Practice {
    dir: tempfile::TempDir,
    pub(super) records: Vec<Value>,
}

impl Practice {
    /// One for all tests that run at the same time.
    pub(super) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Practice>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let practice = Arc::new(Self::new());
            *shared = Arc::downgrade(&practice);
            practice
        })
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = SynthConfig { out_dir: dir.path().join("practice"), seed: 3, clips: 15 };
        render(&config, &|_, _| {}).unwrap();
        let text = std::fs::read_to_string(dir.path().join("practice/test.json")).unwrap();
        let records = serde_json::from_str(&text).unwrap();
        Self { dir, records }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("practice").join(name)
    }

    /// The test records with `spoil` done to them, beside the media.
    pub(super) fn spoilt(&self, name: &str, spoil: impl FnOnce(&mut Vec<Value>)) -> PathBuf {
        let mut records = self.records.clone();
        spoil(&mut records);
        let path = self.file(name);
        std::fs::write(&path, Value::Array(records).to_string()).unwrap();
        path
    }
}

/// `medgrpo generate --records` with a tiny model and short answers.
fn args(records: &Path, out: &Path, more: &[&str]) -> Vec<String> {
    let model = fixture::root().join("flat_all_full");
    let fixed = [
        "generate",
        "--model",
        model.to_str().unwrap(),
        "--records",
        records.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
        "--max-new-tokens",
        "6,stg=9",
        "--min-pixels",
        "784",
        "--max-pixels",
        "1568",
        "--workers",
        "2",
    ];
    fixed.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
}

fn ran(args: &[String]) -> Output {
    let output = medgrpo(args);
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
    output
}

fn refused(args: &[String], code: i32, wanted: &[&str]) {
    let output = medgrpo(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    for wanted in wanted {
        assert!(stderr.contains(wanted), "{args:?}: `{wanted}` is not in:\n{stderr}");
    }
}

fn start(args: &[String]) -> Child {
    let mut command = Command::new(binary());
    command.args(args).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn beside(out: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", out.display()))
}

/// Lines of the file of answers that are kept so far.
fn num_kept(out: &Path) -> usize {
    let kept = std::fs::read(beside(out, ".partial")).unwrap_or_default();
    kept.iter().filter(|byte| **byte == b'\n').count()
}

#[test]
fn every_row_is_answered_in_order_and_within_its_tasks_budget() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("answers.jsonl");
    ran(&args(&practice.file("test.json"), &out, &[]));
    let answers = read_predictions(&out).unwrap();
    assert_eq!(answers.len(), practice.records.len());
    for (index, (answer, record)) in answers.iter().zip(&practice.records).enumerate() {
        assert_eq!(answer.index, index);
        assert_eq!((answer.id.as_str(), answer.qa_type.as_str()), {
            (record["id"].as_str().unwrap(), record["qa_type"].as_str().unwrap())
        });
        let budget = if answer.qa_type == "stg" { 9 } else { 6 };
        let num_tokens = answer.num_tokens.unwrap();
        match answer.finish_reason.as_str() {
            "length" => assert_eq!(num_tokens, budget, "row {index}"),
            reason => {
                assert!(reason == "stop" && (1..=budget).contains(&num_tokens), "row {index}: {reason}");
            }
        }
    }
    assert!(answers.iter().any(|answer| answer.num_tokens == Some(9)), "no answer shows STG's budget");
    let mut left = files(dir.path());
    left.sort();
    assert_eq!(left, ["answers.jsonl", "answers.jsonl.meta.json"]);

    // A second time there is nothing to do, with other settings it is refused.
    let bytes = std::fs::read(&out).unwrap();
    ran(&args(&practice.file("test.json"), &out, &[]));
    assert_eq!(std::fs::read(&out).unwrap(), bytes);
    refused(&args(&practice.file("test.json"), &out, &["--shots", "1"]), 2, &["shots: 0, now 1", "--out"]);
    assert_eq!(std::fs::read(&out).unwrap(), bytes);

    // Batches, workers and a limit don't change the answers.
    let first = dir.path().join("first.jsonl");
    ran(&args(&practice.file("test.json"), &first, &["--batch-size", "1", "--limit", "5"]));
    assert_eq!(read_predictions(&first).unwrap(), answers[..5]);
}

#[test]
fn a_shown_example_changes_the_answers() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let train = practice.file("train.json");
    let answers = |name: &str, more: &[&str]| -> Vec<Prediction> {
        let out = dir.path().join(name);
        ran(&args(&practice.file("test.json"), &out, more));
        read_predictions(&out).unwrap()
    };
    let zero = answers("zero.jsonl", &[]);
    let invented = answers("invented.jsonl", &["--shots", "1"]);
    let taken = answers("taken.jsonl", &["--shots", "1", "--shots-from", train.to_str().unwrap()]);
    let differ = |left: &[Prediction], right: &[Prediction]| {
        left.iter().zip(right).filter(|(left, right)| left.prediction != right.prediction).count()
    };
    let half = zero.len() / 2;
    for (left, right) in [(&zero, &invented), (&zero, &taken), (&invented, &taken)] {
        assert!(differ(left, right) > half, "{} of {} differ", differ(left, right), zero.len());
    }
    let out = dir.path().join("none.jsonl");
    let refuse = |more: &[&str], wanted: &[&str]| {
        refused(&args(&practice.file("test.json"), &out, more), 2, wanted);
    };
    refuse(&["--shots-from", train.to_str().unwrap()], &["--shots 1"]);
    let no_records = practice.spoilt("empty.json", Vec::clear);
    refuse(
        &["--shots", "1", "--shots-from", no_records.to_str().unwrap()],
        &["test.json, row 0", "empty.json"],
    );
    assert!(!out.exists() && !beside(&out, ".meta.json").exists());
}

#[test]
fn killed_and_gone_on_with_the_answers_are_the_same_bytes() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.jsonl");
    ran(&args(&practice.file("test.json"), &whole, &["--batch-size", "2"]));
    let wanted = std::fs::read(&whole).unwrap();

    let out = dir.path().join("killed.jsonl");
    let args = args(&practice.file("test.json"), &out, &["--batch-size", "2"]);
    let mut kills = 0;
    for _ in 0..2 {
        let num_lines = num_kept(&out) + 1;
        let mut child = start(&args);
        while child.try_wait().unwrap().is_none() && num_kept(&out) < num_lines {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += usize::from(!out.exists());
        if !out.exists() {
            assert!(num_kept(&out) >= num_lines);
            let mut partial =
                std::fs::OpenOptions::new().append(true).open(beside(&out, ".partial")).unwrap();
            std::io::Write::write_all(&mut partial, b"{\"index\":0,\"id\":\"tor").unwrap();
        }
    }
    assert!(kills > 0, "every run ended before it was killed");
    ran(&args);
    assert_eq!(std::fs::read(&out).unwrap(), wanted);
    assert!(!beside(&out, ".partial").exists());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_answered() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    // Rows enough that the signal comes long before the end.
    let records = practice.spoilt("many.json", |records| *records = vec![records.clone(); 8].concat());
    let num_rows = 8 * practice.records.len();
    let out = dir.path().join("stopped.jsonl");
    let args = args(&records, &out, &["--batch-size", "1"]);
    let mut child = start(&args);
    let mut ended = None;
    while ended.is_none() && num_kept(&out) < 1 {
        std::thread::sleep(Duration::from_micros(200));
        ended = child.try_wait().unwrap();
    }
    if let Some(status) = ended {
        let output = child.wait_with_output().unwrap();
        panic!("ended unasked with {status}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let kept = num_kept(&out);
    assert!((1..num_rows).contains(&kept) && !out.exists(), "{kept} of {num_rows}");
    assert!(stderr.contains(&format!("stopped: {kept} of {num_rows} rows")), "{stderr}");
    assert!(stderr.contains("run the same command again"), "{stderr}");
    let first = std::fs::read_to_string(beside(&out, ".partial")).unwrap();
    ran(&args);
    assert_eq!(read_predictions(&out).unwrap().len(), num_rows);
    let whole = std::fs::read_to_string(&out).unwrap();
    let whole: std::collections::HashSet<&str> = whole.lines().collect();
    assert!(first.lines().all(|line| whole.contains(line)), "what was answered before is kept as it was");
}

#[test]
fn shards_merge_to_the_bytes_of_the_whole() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let records = practice.file("test.json");
    ran(&args(&records, &path("whole"), &["--shots", "1"]));
    for shard in ["0/2", "1/2"] {
        let name = shard.replace('/', "-");
        ran(&args(&records, &path(&name), &["--shots", "1", "--shard", shard]));
    }
    ran(&args(&records, &path("zero-shot"), &["--shard", "1/2"]));
    let merge = |shards: &[&str], out: &str| -> Vec<String> {
        let shards = shards.iter().map(|name| path(name).to_str().unwrap().to_owned());
        let out = ["--out".to_owned(), path(out).to_str().unwrap().to_owned()];
        ["merge-predictions".to_owned()].into_iter().chain(shards).chain(out).collect()
    };
    refused(&merge(&["0-2"], "x"), 2, &["shard 1/2", "is missing"]);
    refused(&merge(&["0-2", "1-2", "0-2"], "x"), 2, &["both shard 0/2"]);
    refused(&merge(&["0-2", "zero-shot"], "x"), 2, &["shots: 1, now 0"]);
    refused(&merge(&["0-2", "whole"], "x"), 2, &["0/2, now 0/1"]);
    refused(&merge(&["0-2", "1-2"], "whole"), 2, &["is there already"]);
    refused(&merge(&["0-2", "absent"], "x"), 2, &["absent.meta.json is missing"]);
    assert!(!path("x").exists());
    ran(&merge(&["1-2", "0-2"], "merged"));
    assert_eq!(std::fs::read(path("merged")).unwrap(), std::fs::read(path("whole")).unwrap());
    // The merged result is as good as the whole one: there is nothing left to do.
    ran(&args(&records, &path("merged"), &["--shots", "1"]));

    let text = std::fs::read_to_string(path("1-2")).unwrap();
    let gap: String = text.lines().skip(1).map(|line| format!("{line}\n")).collect();
    std::fs::write(path("1-2"), gap).unwrap();
    refused(&merge(&["0-2", "1-2"], "x"), 2, &["1-2: does not hold the rows of shard 1/2"]);
    std::fs::remove_file(path("1-2")).unwrap();
    refused(&merge(&["0-2", "1-2"], "x"), 2, &["1-2 is not finished"]);
    assert!(!path("x").exists());
}

#[test]
fn rows_that_cannot_be_asked_are_named_or_answered_empty() {
    let practice = Practice::shared();
    let dir = tempfile::tempdir().unwrap();
    let broken = practice.file("broken.jpg");
    std::fs::write(&broken, b"\xff\xd8\xff no picture").unwrap();
    let records = practice.spoilt("spoilt.json", |records| {
        let last = records[1]["video"].as_array().unwrap().len() - 1;
        records[1]["video"][last] = "absent.jpg".into();
        records[3]["qa_type"] = "tal2".into();
        let last = records[4]["video"].as_array().unwrap().len() - 1;
        records[4]["video"][last] = "broken.jpg".into();
    });
    let out = dir.path().join("answers.jsonl");
    refused(
        &args(&records, &out, &[]),
        2,
        &["spoilt.json, row 1", "absent.jpg", "spoilt.json, row 3", "tal2", "--on-bad-row empty"],
    );
    assert!(files(dir.path()).is_empty(), "what is seen beforehand leaves nothing behind");
    let output = ran(&args(&records, &out, &["--on-bad-row", "empty"]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    let told = format!("3 of {} rows could not be asked", practice.records.len());
    assert!(stderr.contains(&told) && stderr.contains("row 4") && stderr.contains("broken.jpg"), "{stderr}");
    let answers = read_predictions(&out).unwrap();
    assert_eq!(answers.len(), practice.records.len());
    for (index, answer) in answers.iter().enumerate() {
        let is_bad = [1, 3, 4].contains(&index);
        assert_eq!(answer.finish_reason == "unusable", is_bad, "row {index}");
        assert!(!is_bad || (answer.prediction.is_empty() && answer.num_tokens == Some(0)));
    }
    assert_eq!(answers[3].qa_type, "tal2");
    // A picture that only decoding finds broken stops a run that wants no empty answers, and leaves what was answered.
    let late = practice.spoilt("late.json", |records| {
        let last = records[4]["video"].as_array().unwrap().len() - 1;
        records[4]["video"][last] = "broken.jpg".into();
    });
    let out = dir.path().join("late.jsonl");
    refused(&args(&late, &out, &[]), 2, &["late.json, row 4", "broken.jpg"]);
    assert!(!out.exists());
}

#[test]
fn options_that_do_not_belong_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl");
    let records = dir.path().join("r.json");
    std::fs::write(&records, "[]").unwrap();
    let refuse = |more: &[&str], wanted: &[&str]| refused(&args(&records, &out, more), 2, wanted);
    refuse(&["--temperature", "1"], &["--temperature", "--records"]);
    refuse(&["--data", "x.jsonl"], &["--data", "--records"]);
    refuse(&["--shard", "2/2"], &["--shard"]);
    refuse(&["--model-name", "gpt"], &["--model URL"]);
    refuse(&[], &["r.json", "has none"]);
    let conversations = ["generate", "--model", "m", "--data", "d.jsonl", "--out", "o"].map(str::to_owned);
    let with = |more: &[&str]| -> Vec<String> {
        conversations.iter().cloned().chain(more.iter().map(|arg| (*arg).to_owned())).collect()
    };
    refused(&with(&["--limit", "3"]), 2, &["--limit", "--data"]);
    refused(&with(&["--max-new-tokens", "tag=3"]), 2, &["--max-new-tokens"]);
    refused(&with(&["--max-new-tokens", "0"]), 2, &["--max-new-tokens", "at least 1"]);
}
