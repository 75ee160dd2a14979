//! Questions on one clip meet in the steps of a run that asks for it.

use serde_json::Value;

use super::Unbroken;

/// Mean number of clips a step.
fn mean_clips(metrics: &str) -> f64 {
    let clips = metrics.lines().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["data/clips"].as_f64().unwrap()
    });
    let clips: Vec<f64> = clips.collect();
    assert!(clips.len() == 12 && clips.iter().all(|num| [1.0, 2.0].contains(num)), "{clips:?}");
    clips.iter().sum::<f64>() / clips.len() as f64
}

#[test]
fn a_step_shows_fewer_clips_where_their_questions_stand_together() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("gathered");
    let output = run
        .command(["experiment.toml", "--out", "gathered", "--set", "data.questions_per_clip=8"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plain = mean_clips(std::str::from_utf8(&unbroken.outcome.0["metrics.jsonl"]).unwrap());
    let gathered = mean_clips(&std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap());
    println!("clips a step: {plain:.2}, gathered {gathered:.2}");
    assert!(gathered < plain);
}
