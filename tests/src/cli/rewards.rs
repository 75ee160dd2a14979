//! `rewards check` and `rewards rescore`, over a practice set and a run directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use medgrpo::config;
use medgrpo_datasets::{Dataset as _, MedVidBenchFile, TaskKind};
use medgrpo_rewards::canonical_answer;
use serde_json::{Value, json};

use super::binary;

/// The experiment of the resume tests, in a folder of its own.
struct Scene {
    dir: tempfile::TempDir,
}

/// What a command said and how it ended.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("experiment.toml"), include_str!("../resume/experiment.toml")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn rewards(&self, args: &[&str]) -> Said {
        let mut command = Command::new(binary());
        command.arg("rewards").args(args).current_dir(self.dir.path()).env_remove("RUST_LOG");
        let output = command.output().unwrap();
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A finished run in `run`: per row of TAG and STG the right answer, the same out of format, and none. What they were
    /// paid is what the rewards of the experiment pay.
    fn run_of_hand_made_rollouts(&self) {
        let run = self.path("run");
        fs::create_dir(&run).unwrap();
        let experiment = config::load(&self.path("experiment.toml"), &[]).unwrap();
        fs::write(run.join("config.toml"), experiment.to_toml()).unwrap();
        let file = self.path("practice/train.json");
        let records = MedVidBenchFile::open(&file, file.parent().unwrap()).unwrap();
        let mut lines = String::new();
        for row in 0..records.len() {
            let sample = records.get(row).unwrap();
            if ![TaskKind::Tag, TaskKind::Stg].contains(&sample.task) {
                continue;
            }
            let gold = canonical_answer(&sample.gold).unwrap();
            let completion = |text: &str, reward: f64| {
                json!({"text": text, "num_tokens": 9, "truncated": false, "reward": reward, "raw": 1.0,
                       "advantage": 0.5, "parts": {"iou": 1.0}})
            };
            let completions =
                [completion(&gold, 1.0), completion(&format!("It is {gold}"), 0.0), completion("", 0.0)];
            let line = json!({"stage": 1, "step": 1, "origin": format!("practice/train.json, row {row}"), "row": row,
                              "task": sample.task.key(), "source": sample.source.as_str(), "completions": completions});
            lines += &format!("{line}\n");
        }
        // A killed run may leave half a line.
        fs::write(run.join("rollouts.jsonl"), lines + "{\"stage\":1,\"st").unwrap();
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers of a column of a Markdown table.
fn column(table: &str, name: &str) -> Vec<f64> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut rows = table.lines().filter(|line| line.starts_with("| "));
    let index = cells(rows.next().unwrap()).iter().position(|cell| cell == name).unwrap();
    rows.map(|row| cells(row)[index].parse().unwrap()).collect()
}

#[test]
fn rewards_check_and_rescore() {
    let scene = Scene::new();
    let said =
        scene.rewards(&["check", "--config", "experiment.toml", "--limit", "8", "--out", "audit.json"]);
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    for wanted in [
        "reward of stage 1 (\"medgrpo\")",
        "### tag, ",
        "### stg, ",
        "| gold | 1.000 |",
        "every law of rewards holds",
    ] {
        assert!(said.stdout.contains(wanted), "{wanted} is not in:\n{}", said.stdout);
    }
    let audit: Value = serde_json::from_slice(&fs::read(scene.path("audit.json")).unwrap()).unwrap();
    assert_eq!(audit["records"], 22);
    assert_eq!(audit["unscored"], json!([]));
    let whole =
        |row: &&Value| row["task"] == "stg" && row["answer"] == "whole_frame" && row["component"] == "reward";
    let row = audit["rows"].as_array().unwrap().iter().find(whole).unwrap();
    assert!(row["mean"].as_f64().unwrap() > 0.0, "the frames' own size was not used: {row}");

    // Two boxes at what one decimal writes as one time: the right answer cannot be told any more.
    let mut records: Value =
        serde_json::from_slice(&fs::read(scene.path("practice/train.json")).unwrap()).unwrap();
    let records = records.as_array_mut().unwrap();
    records.retain(|record| record["qa_type"] == "stg");
    records[1]["struc_info"][0]["bbox_dict"] = json!({"2.0": [1, 1, 9, 9], "2.04": [20, 20, 60, 60]});
    fs::write(scene.path("muddled.json"), Value::Array(records.clone()).to_string()).unwrap();
    let muddled = "data.train=[{ file = \"muddled.json\", root = \"practice\" }]";
    let said = scene.rewards(&["check", "--config", "experiment.toml", "--set", muddled]);
    assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
    assert!(
        said.stdout.contains("stg: the law \"gold is whole\" is broken by gold, 1 times:"),
        "{}",
        said.stdout
    );
    assert!(said.stdout.contains("muddled.json, row 1: 0.0000 against 0.9990"), "{}", said.stdout);
    assert!(said.stderr.contains("the reward breaks its laws"), "{}", said.stderr);

    for (args, wanted) in [
        (vec!["check", "--config", "experiment.toml", "--stage", "0"], "stage 0 (\"sft\") is supervised"),
        (vec!["check", "--config", "experiment.toml", "--stage", "7"], "there is no stage 7"),
        (vec!["check", "--config", "absent.toml"], "absent.toml"),
        (vec!["check", "--config", "experiment.toml", "--max-beaten-share", "2"], "from 0 to 1"),
        (vec!["rescore", "practice"], "practice holds no run"),
    ] {
        let said = scene.rewards(&args);
        assert_eq!(said.code, Some(2), "{args:?}");
        assert!(said.stderr.contains(wanted), "{args:?}: {}", said.stderr);
    }

    scene.run_of_hand_made_rollouts();
    let said = scene.rewards(&["rescore", "run", "--out", "same.jsonl"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(column(&said.stdout, "changed").iter().all(|changed| *changed == 0.0), "{}", said.stdout);
    assert!(column(&said.stdout, "rank correlation").iter().all(|rank| *rank == 1.0), "{}", said.stdout);
    let groups: f64 = column(&said.stdout, "groups").iter().sum();
    let same = lines(&scene.path("same.jsonl"));
    assert_eq!(same.len() as f64, groups);

    // What is out of format is now worth a quarter.
    let softer =
        ["rescore", "run", "--set", "stage.1.recipe.rewards.format_factor=0.25", "--out", "softer.jsonl"];
    let said = scene.rewards(&softer);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let changed: f64 = column(&said.stdout, "changed").iter().sum();
    assert_eq!(changed, groups);
    for line in lines(&scene.path("softer.jsonl")) {
        let rewards: Vec<f64> =
            line["completions"].as_array().unwrap().iter().map(|c| c["reward"].as_f64().unwrap()).collect();
        assert_eq!(rewards, [1.0, 0.25, 0.0], "{line}");
        assert_eq!(line["completions"][1]["old_reward"], 0.0);
        assert_eq!(line["completions"][1]["parts"]["format"], 0.25);
    }

    // Rollouts of rows that are no longer there, and lines that are none.
    let path = scene.path("run/rollouts.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    for (bad, wanted) in [
        (text.replacen("practice/train.json, row", "practice/gone.json, row", 1), "practice/gone.json, row"),
        (format!("nonsense\n{text}"), "rollouts.jsonl, line 1"),
        (String::new(), "there are no rollouts"),
    ] {
        fs::write(&path, bad).unwrap();
        let said = scene.rewards(&["rescore", "run"]);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains(wanted), "{}", said.stderr);
    }
}
