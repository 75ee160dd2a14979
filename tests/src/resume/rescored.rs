//! What a run stores of its completions is enough to compute their rewards again.

use std::process::Command;

use super::Unbroken;
use crate::cli::binary;

#[test]
fn the_rewards_of_a_run_are_the_same_again() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("unbroken");
    let mut command = Command::new(binary());
    command.args(["rewards", "rescore", &run.name, "--out", "rescored.jsonl"]).current_dir(&run.cwd);
    let output = command.env_remove("RUST_LOG").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = |path| std::fs::read_to_string(run.cwd.join(path)).unwrap();
    let (stored, rescored) = (text("unbroken/rollouts.jsonl"), text("rescored.jsonl"));
    assert!(stored.lines().count() > 0);
    // What the reward pays for tricks was looked at before training began.
    let audit: serde_json::Value =
        serde_json::from_str(&text("unbroken/rewards-check-medgrpo.json")).unwrap();
    assert!(audit["records"].as_u64().unwrap() > 4);
    let rows = audit["rows"].as_array().unwrap();
    for (task, key) in [("tag", "tag"), ("stg", "stg"), ("video_summary", "vs"), ("region_caption", "rc")] {
        assert!(rows.iter().any(|row| row["task"] == task && row["answer"] == "gold"), "{task}");
        assert!(text("unbroken/rewards-check-medgrpo.md").contains(&format!("### {key}, ")), "{key}");
    }
    assert!(text("unbroken/index.html").contains("Reward check of stage medgrpo"));
    for (before, after) in stored.lines().zip(rescored.lines()) {
        let [before, after] =
            [before, after].map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        assert_eq!(before["origin"], after["origin"]);
        let completions = |line: &serde_json::Value| line["completions"].as_array().unwrap().clone();
        assert_eq!(completions(&before).len(), completions(&after).len());
        for (before, after) in completions(&before).iter().zip(completions(&after)) {
            for key in ["text", "num_tokens", "truncated", "reward", "raw", "parts"] {
                assert_eq!(before[key], after[key], "{key}");
            }
        }
    }
    assert_eq!(stored.lines().count(), rescored.lines().count());
}
