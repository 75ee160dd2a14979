//! A run whose numbers are not finite any more stops, and leaves the batch to be looked at.

use serde_json::Value;

use super::{Run, Unbroken};

fn read(run: &Run, folder: &str) -> (Value, Vec<Value>) {
    let dir = run.path().join(folder);
    let failure = std::fs::read(dir.join("failure.json")).unwrap();
    let groups = std::fs::read_to_string(dir.join("groups.jsonl")).unwrap();
    (
        serde_json::from_slice(&failure).unwrap(),
        groups.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    )
}

/// Runs with a rate that no number survives; gives what was told.
fn fail(run: &Run, key: &str) -> String {
    let output = run.start_command().args(["--set", key]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    stderr
}

#[test]
fn a_loss_that_is_not_finite_leaves_its_batch() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("not-finite");
    let folder = "failure-00-sft-step-000002";
    let stderr = fail(&run, "stage.0.trainer.learning_rate=1e30");
    for wanted in ["step 2: loss is NaN", folder, "--resume", "the failed step held"] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    let (failure, groups) = read(&run, folder);
    println!("{failure}");
    assert_eq!((failure["stage"].as_str(), failure["step"].as_u64()), (Some("sft"), Some(2)));
    assert_eq!(failure["iteration"], 0);
    assert_eq!(failure["first_not_finite"]["what"], "loss");
    assert_eq!(failure["first_not_finite"]["micro_batch"], 0);
    assert_eq!(groups.len(), 2);
    let mut first = Vec::new();
    for (place, group) in groups.iter().enumerate() {
        assert!(stderr.contains(group["origin"].as_str().unwrap()), "{group}");
        assert!(group["prompt"].to_string().contains("practice"), "the clip's files are not named");
        let completions = group["completions"].as_array().unwrap();
        assert_eq!(completions.len(), 1, "a demonstration");
        assert!(!completions[0]["token_ids"].as_array().unwrap().is_empty());
        assert_eq!(completions[0]["advantage"], 1.0);
        assert!(!completions[0]["text"].as_str().unwrap().is_empty());
        if completions[0]["first_not_finite"] == true {
            first.push(place as u64);
        }
    }
    assert_eq!(failure["first_not_finite"]["completion"], serde_json::json!([first[0], 0]));
    assert_eq!(first.len(), 1);
    assert_eq!(run.checkpoints(), ["00-sft-step-000001"]);

    // Again, from the checkpoint: the same step fails alike and its folder is written anew.
    std::fs::write(run.path().join(folder).join("failure.json"), "half").unwrap();
    let output = run.resume_command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(read(&run, folder), (failure, groups));
}

#[test]
fn a_failed_second_update_of_a_batch_leaves_rewards_advantages_and_log_probabilities() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("not-finite-rewards");
    let stderr = fail(&run, "stage.1.trainer.learning_rate=1e30");
    let folder = "failure-01-medgrpo-step-000001";
    assert!(stderr.contains(folder), "{stderr}");
    let (failure, groups) = read(&run, folder);
    println!("{failure}");
    assert_eq!(failure["iteration"], 1, "the first update was of sound numbers");
    assert!(failure["first_not_finite"]["completion"].is_array(), "{failure}");
    for completion in groups.iter().flat_map(|group| group["completions"].as_array().unwrap()) {
        assert!(completion["reward"].is_number() && completion["advantage"].is_number(), "{completion}");
        let lens = ["token_ids", "log_probs"].map(|key| completion[key].as_array().unwrap().len());
        assert_eq!(lens[0], lens[1]);
        assert!(completion["log_probs"].as_array().unwrap().iter().all(Value::is_number));
    }
    // In the midst of a step there is no model to save.
    assert!(run.checkpoints().iter().all(|name| name.starts_with("00-")), "{:?}", run.checkpoints());
}
