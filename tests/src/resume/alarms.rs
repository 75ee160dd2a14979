//! Alarms are told once, stand in the metrics and on the page, and may end a run, which goes on in spite of them.

use serde_json::Value;

use super::{Run, Unbroken};

/// Stages and steps whose line of metrics has this alarm.
fn steps_with(run: &Run, alarm: &str) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line.get(alarm).is_some())
        .map(|line| (line["stage"].as_u64().unwrap(), line["step"].as_u64().unwrap()))
        .collect()
}

#[test]
fn a_run_that_an_alarm_has_ended_goes_on_like_one_that_it_only_warned() {
    let unbroken = Unbroken::shared();
    let warned = unbroken.scene.run("unbroken");
    assert_eq!(steps_with(&warned, "alarm/truncated"), [(1, 2), (1, 3), (1, 4)], "from the first window on");

    let run = unbroken.scene.run("alarmed");
    let output = run.start_command().args(["--set", "alarms.stop=true"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for wanted in ["alarm truncated in step 2 of stage medgrpo", "max_truncated_share", "--resume alarmed"] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    assert_eq!(steps_with(&run, "alarm/truncated"), [(1, 2)]);
    assert_eq!(run.checkpoints().last().unwrap(), "01-medgrpo-step-000002");
    assert!(!run.path().join("model").exists());
    let page = std::fs::read_to_string(run.path().join("index.html")).unwrap();
    assert!(page.contains("medgrpo, step 2: truncated"), "the page does not tell of it");

    let output = run.succeed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("alarm"), "it was told already: {stderr}");
    unbroken.outcome.assert_equal(&run.outcome(), "alarmed");
}
