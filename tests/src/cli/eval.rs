//! `eval` and `submit` on the benchmark's reference cases: the numbers, the forms of answers, and what is refused.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::{bad_input::refuse, contracts::files, medgrpo, succeed};
use crate::fixture;

fn case(seed: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/eval").join(seed).join(name)
}

fn unpacked(path: &Path) -> Value {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A folder to write into.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, value: &Value) -> String {
        let path = self.path(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `medgrpo eval` of a case's records, with further arguments.
fn eval(ground_truth: &str, predictions: &str, out: &str, more: &[&str]) -> Vec<String> {
    let args = ["eval", "--ground-truth", ground_truth, "--predictions", predictions, "--out", out];
    args.iter().chain(more).map(|&arg| arg.to_owned()).collect()
}

#[test]
fn the_numbers_are_the_official_scorers() {
    for seed in ["seed1", "seed2"] {
        let scene = Scene::new();
        let expected = unpacked(&case(seed, "expected.json.gz"));
        let replies = scene.write("replies.json", &expected["judge_replay"]);
        let vectors = scene.write("vectors.json", &expected["embeddings"]);
        let [truth, predictions] =
            ["ground_truth.json.gz", "predictions.json.gz"].map(|name| text(&case(seed, name)));
        let (judge, embedder) = (format!("replay:{replies}"), format!("vectors:{vectors}"));
        let more = ["--judge", judge.as_str(), "--embedder", embedder.as_str()];
        let stdout = succeed(eval(&truth, &predictions, &scene.path("metrics.json"), &more));
        let metrics = scene.read("metrics.json");
        for (name, value) in expected["overall"].as_object().unwrap() {
            let (found, value) = (metrics["overall"][name].as_f64().unwrap(), value.as_f64().unwrap());
            assert!((found - value).abs() < 1e-9, "{seed} {name}: {found} instead of {value}");
            assert!(stdout.contains(&format!("{value:.4}")), "{name} is not in the table:\n{stdout}");
        }
        assert_eq!(metrics["leaderboard_3dp"], expected["leaderboard_3dp"], "{seed}");
        assert!(metrics["task_errors"].as_object().unwrap().is_empty(), "{}", metrics["task_errors"]);
        let records = metrics["per_record"].as_array().unwrap();
        assert_eq!(records.len(), expected["per_record"].as_array().unwrap().len());
        assert!(metrics["judge"]["name"].as_str().unwrap().contains("recorded"), "{}", metrics["judge"]);
        assert!(stdout.contains("constant (oracle)") && stdout.contains("n_failed"), "{stdout}");
    }
}

#[test]
fn strict_rules_intervals_and_a_baseline_from_training_records() {
    let scene = Scene::new();
    let [truth, train] = ["seed1", "seed2"].map(|seed| text(&case(seed, "ground_truth.json.gz")));
    let records = unpacked(&case("seed1", "ground_truth.json.gz"));
    let gold = |record: &Value| json!({ "prediction": record["conversations"][1]["value"] });
    let answers: Value = records.as_array().unwrap().iter().map(gold).collect();
    let predictions = scene.write("gold.json", &answers);
    let more = ["--rules", "strict", "--bootstrap", "50", "--train", train.as_str(), "--judge", "offline"];
    let stdout = succeed(eval(&truth, &predictions, &scene.path("m.json"), &more));
    let metrics = scene.read("m.json");
    assert_eq!(metrics["rules"], "strict");
    assert_eq!(metrics["baseline"]["name"], "constant");
    for name in ["cvs_acc", "nap_acc", "sa_acc", "stg_miou"] {
        let value = metrics["overall"][name].as_f64().unwrap();
        let constant = metrics["baseline"]["overall"][name].as_f64().unwrap();
        assert!(value > 0.5 && constant < value, "{name}: {value} and {constant}");
        assert!(metrics["intervals"][name]["low"].as_f64().unwrap() <= value, "{name}");
    }
    for captions in metrics["caption_metrics"].as_object().unwrap().values() {
        assert!(captions["num_captions"].as_u64().unwrap() > 0);
        assert!(
            captions["bleu_4"].as_f64().unwrap() > 0.99 && captions["rouge_l_ptb"].as_f64().unwrap() > 0.99
        );
        assert!(captions["cider_d"].as_f64().unwrap() > 9.0, "{captions}");
    }
    assert!(stdout.contains("Captions without a judge") && stdout.contains("meteor_exact_stem"), "{stdout}");
    // Gold captions get nearly all points from the judge that needs no network, which says what it is.
    assert!(metrics["overall"]["vs_llm"].as_f64().unwrap() > 4.9, "{}", metrics["overall"]);
    let judge = metrics["judge"]["name"].as_str().unwrap();
    assert!(judge.contains("NOT the LLM judge"), "{judge}");
    assert!(stdout.contains(judge) && stdout.contains("not comparable"), "{stdout}");
}

#[test]
fn options_of_a_judge_at_an_address_need_one() {
    let scene = Scene::new();
    let [truth, predictions] =
        ["ground_truth.json.gz", "predictions.json.gz"].map(|name| text(&case("seed1", name)));
    let more = ["--judge", "offline", "--judge-transcript", "t.jsonl"];
    let output = medgrpo(eval(&truth, &predictions, &scene.path("m.json"), &more));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--judge-transcript is for a judge at an address"), "{stderr}");
}

#[test]
fn without_a_judge_its_numbers_are_empty_with_the_reason() {
    let scene = Scene::new();
    let [truth, predictions] =
        ["ground_truth.json.gz", "predictions.json.gz"].map(|name| text(&case("seed1", name)));
    let stdout = succeed(eval(&truth, &predictions, &scene.path("m.json"), &[]));
    let metrics = scene.read("m.json");
    for name in ["dvc_llm", "vs_llm", "rc_llm"] {
        assert!(metrics["overall"][name].is_null(), "{name}");
        assert_eq!(metrics["task_errors"][name], "no judge was asked");
    }
    assert!(metrics["warnings"][0].as_str().unwrap().contains("carry another id"), "{}", metrics["warnings"]);
    assert!(stdout.contains("vs_llm: no number"), "{stdout}");
}

/// A record of two frames with a box, and a right answer.
fn boxed(scene: &Scene) -> (String, String) {
    let frames = ["a.png", "b.png"];
    for frame in frames {
        fs::copy(fixture::root().join("media/rgb_61x64.png"), scene.path(frame)).unwrap();
    }
    let answer = "0.0 seconds: [5.0, 6.0, 40.0, 50.0]";
    let record = json!({
        "id": "v&&0&&1&&1.0", "qa_type": "stg", "data_source": "CoPESD", "video": frames,
        "metadata": { "video_id": "v", "fps": "1.0", "input_video_start_frame": "0", "input_video_end_frame": "1" },
        "conversations": [
            { "from": "human", "value": "<video>\nWhere are the <forceps>?" },
            { "from": "gpt", "value": answer },
        ],
        "struc_info": [{ "bbox_dict": { "0.0": [5.0, 6.0, 40.0, 50.0] } }],
    });
    let truth = scene.write("truth.json", &json!([record]));
    let predictions = scene.write("p.json", &json!({ "0": { "qa_type": "stg", "answer": answer } }));
    (truth, predictions)
}

#[test]
fn the_page_shows_boxes_over_frames() {
    let scene = Scene::new();
    let (truth, predictions) = boxed(&scene);
    let (page, root) = (scene.path("page.html"), scene.path(""));
    let more = ["--html", page.as_str(), "--media-root", root.as_str()];
    succeed(eval(&truth, &predictions, &scene.path("m.json"), &more));
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("data:image&#x2f;jpeg;base64,"), "no frame");
    assert_eq!(html.matches(r#"x="5.0" y="6.0" width="35.0" height="44.0""#).count(), 2, "two boxes");
    assert!(html.contains("&lt;forceps&gt;") && html.contains("metric 1.000"));
    // Without the folder the media are not looked for.
    succeed(eval(&truth, &predictions, &scene.path("m.json"), &["--html", page.as_str()]));
    assert!(!fs::read_to_string(&page).unwrap().contains("data:image"));
}

#[test]
fn a_submission_has_every_record_in_order() {
    let scene = Scene::new();
    let truth = text(&case("seed1", "ground_truth.json.gz"));
    let records = unpacked(&case("seed1", "ground_truth.json.gz"));
    let records = records.as_array().unwrap();
    // As a run stores them, in no order.
    let own: Value = records
        .iter()
        .enumerate()
        .rev()
        .map(|(row, record)| json!({ "row": row, "prediction": record["conversations"][1]["value"] }))
        .collect();
    let predictions = scene.write("own.json", &own);
    let out = scene.path("submission.json");
    let args =
        ["submit", "--test", truth.as_str(), "--predictions", predictions.as_str(), "--out", out.as_str()];
    let stdout = succeed(args);
    assert!(stdout.contains("511 entries, valid"), "{stdout}");
    let entries = scene.read("submission.json");
    for (entry, record) in entries.as_array().unwrap().iter().zip(records) {
        assert_eq!(entry["prediction"], record["conversations"][1]["value"]);
        assert_eq!(entry["qa_type"], record["qa_type"]);
        assert_eq!(entry["id"].as_str().unwrap().matches("&&").count(), 3, "{entry}");
        assert_eq!(entry.as_object().unwrap().len(), 3);
    }
    let checked = medgrpo(["submit", "--test", truth.as_str(), "--check", out.as_str()]);
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stderr).contains("6245"), "the public test set is larger");
    // What was written is what eval reads.
    succeed(eval(&truth, &out, &scene.path("m.json"), &["--rules", "strict"]));
    let mut swapped = entries.as_array().unwrap().clone();
    swapped.swap(0, 1);
    let swapped = scene.write("swapped.json", &json!(swapped));
    refuse(
        &["submit", "--test", truth.as_str(), "--check", swapped.as_str()].map(str::to_owned),
        &["swapped.json", "2 entries do not belong", "entry 0"],
    );
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let scene = Scene::new();
    let truth = text(&case("seed1", "ground_truth.json.gz"));
    let (answers, out) = (text(&case("seed1", "predictions.json.gz")), scene.path("out"));
    fs::create_dir(&out).unwrap();
    let result = format!("{out}/result.json");
    let eval = |truth: &str, answers: &str, more: &[&str], wanted: &[&str]| {
        refuse(&eval(truth, answers, &result, more), wanted);
        assert!(files(Path::new(&out)).is_empty(), "{:?}", files(Path::new(&out)));
    };
    let short = scene.write("short.json", &json!([{ "prediction": "" }]));
    eval(&truth, &short, &[], &["short.json", "1 predictions for 511 ground-truth records"]);
    let nameless = scene.write("nameless.json", &json!([{ "text": "x" }]));
    eval(&truth, &nameless, &[], &["nameless.json, entry 0", "`prediction`"]);
    let one = scene.write("one.json", &json!([{ "row": 3, "prediction": "x" }]));
    eval(&truth, &one, &[], &["one.json", "only 1 of 511", "--partial"]);
    let far = scene.write("far.json", &json!([{ "row": 511, "prediction": "x" }]));
    eval(&truth, &far, &[], &["far.json", "row 511", "511 ground-truth records"]);
    fs::write(scene.path("torn.json"), "[{\"prediction\": ").unwrap();
    eval(&truth, &scene.path("torn.json"), &[], &["torn.json", "not JSON"]);
    eval(&truth, &answers, &["--rules", "strict"], &["4 of 511 carry another id"]);
    eval(&truth, &answers, &["--judge", "guess"], &["--judge guess"]);
    eval(&truth, &answers, &["--judge", "replay:gone.json"], &["gone.json"]);
    eval(&truth, &answers, &["--judge", "http://127.0.0.1:9/v1"], &["--judge-model"]);
    eval(&truth, &answers, &["--embedder", "vectors:gone.json"], &["gone.json"]);
    eval(&truth, &answers, &["--bootstrap", "0"], &["--bootstrap 0"]);
    eval(&scene.path("gone.json"), &answers, &[], &["gone.json"]);
    eval(&short, &answers, &[], &["short.json, row 0", "qa_type"]);
    let nowhere = scene.path("nowhere/page.html");
    eval(&truth, &answers, &["--html", nowhere.as_str()], &["nowhere"]);
    let result = result.as_str();
    let submit = |answers: &str, wanted: &[&str]| {
        let args = ["submit", "--test", truth.as_str(), "--predictions", answers, "--out", result]
            .map(str::to_owned);
        refuse(&args, wanted);
        assert!(files(Path::new(&out)).is_empty());
    };
    submit(&short, &["short.json", "1 predictions for 511"]);
    submit(&one, &["one.json", "only 1 of 511"]);
    let numbers: Value = (0..511).map(|row| json!({ "row": row, "prediction": row })).collect();
    submit(&scene.write("numbers.json", &numbers), &["numbers.json", "row 0 is 0, not text"]);
}

#[test]
fn a_judge_without_a_single_reply_fails_after_the_other_numbers_are_written() {
    let scene = Scene::new();
    let [truth, predictions] =
        ["ground_truth.json.gz", "predictions.json.gz"].map(|name| text(&case("seed1", name)));
    let none = scene.write("none.json", &json!([]));
    let judge = format!("replay:{none}");
    let output = medgrpo(eval(&truth, &predictions, &scene.path("m.json"), &["--judge", judge.as_str()]));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("the judge gave no number") && stderr.contains("m.json"), "{stderr}");
    let metrics = scene.read("m.json");
    assert!(metrics["overall"]["vs_llm"].is_null() && metrics["overall"]["cvs_acc"].is_f64());
}
