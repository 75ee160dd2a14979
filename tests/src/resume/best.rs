//! The best checkpoint by a metric is kept, named, usable by its path, and the same after a kill.

use std::process::Command;

use serde_json::Value;

use super::{Run, Unbroken, names};
use crate::cli::binary;

/// The first stage, with few checkpoints kept. So young a model reads no answer right: its evaluations are all equal, and the
/// first is the best. Its loss only falls, so the largest is early too.
fn keys(metric: &str) -> Vec<String> {
    let mut keys = vec!["save_total_limit=1".to_owned(), format!("metric_for_best_model={metric}")];
    keys.extend(match metric {
        "loss" => ["save_steps=2".to_owned(), "greater_is_better=true".to_owned()],
        _ => ["save_steps=5".to_owned(), "eval_steps=3".to_owned()],
    });
    keys.iter().flat_map(|key| ["--set".to_owned(), format!("stage.0.trainer.{key}")]).collect()
}

fn start(run: &Run, metric: &str) -> Command {
    let mut command = run.start_command();
    command.args(keys(metric));
    command
}

fn best(run: &Run) -> Value {
    serde_json::from_slice(&std::fs::read(run.path().join("best.json")).unwrap()).unwrap()
}

/// Step and value of the best among the looked-at lines of the first stage; the first of equals.
fn expected(run: &Run, metric: &str) -> (u64, f64) {
    let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let looked_at = lines.filter(|line| line["stage"] == 0).filter_map(|line| {
        let step = line["step"].as_u64().unwrap();
        let counts = metric != "loss" || step.is_multiple_of(2);
        Some((step, line.get(metric)?.as_f64().unwrap())).filter(|_| counts)
    });
    let looked_at: Vec<(u64, f64)> = looked_at.collect();
    assert!(looked_at.len() >= 3, "{looked_at:?}");
    looked_at.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap()
}

#[test]
fn the_best_checkpoint_outlives_newer_ones_and_kills() {
    let unbroken = Unbroken::shared();
    for metric in ["loss", "eval/test/tag_miou_03"] {
        let name = metric.replace('/', "-");
        let whole = unbroken.scene.run(&format!("best-{name}"));
        let output = start(&whole, metric).output().unwrap();
        assert!(output.status.success(), "{metric}: {}", String::from_utf8_lossy(&output.stderr));
        let (step, value) = expected(&whole, metric);
        let found = &best(&whole)["sft"];
        println!("{metric}: best {found}");
        assert_eq!((found["step"].as_u64(), found["value"].as_f64()), (Some(step), Some(value)));
        let checkpoint = found["checkpoint"].as_str().unwrap();
        assert_eq!(checkpoint, format!("checkpoints/00-sft-step-{step:06}"));
        let kept: Vec<String> =
            whole.checkpoints().into_iter().filter(|name| name.starts_with("00-")).collect();
        assert_eq!(kept, [format!("00-sft-step-{step:06}"), "00-sft-step-000008".to_owned()]);
        assert!(step < 8, "the best is the last: nothing is shown");
        let page = std::fs::read_to_string(whole.path().join("index.html")).unwrap();
        assert!(page.contains("stage sft, best"), "the page does not name it");

        // Killed right after the best was found, and again after the next checkpoint.
        let broken = unbroken.scene.run(&format!("best-{name}-killed"));
        let next = if metric == "loss" { step + 2 } else { 5 };
        for wanted in [step, next].map(|step| format!("00-sft-step-{step:06}")) {
            let mut command = if broken.path().join("config.toml").exists() {
                broken.resume_command()
            } else {
                start(&broken, metric)
            };
            let mut child = command.spawn().unwrap();
            broken.wait_for(&mut child, &format!("checkpoints/{wanted}"));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        broken.succeed();
        assert_eq!(best(&broken), best(&whole));
        assert_eq!(broken.checkpoints(), whole.checkpoints());
        whole.outcome().assert_equal(&broken.outcome(), metric);

        let model = whole.path().join(checkpoint);
        let mut inspect = Command::new(binary());
        inspect.args(["train", "experiment.toml", "--out"]).arg(format!("from-{name}"));
        inspect.args(["--set", &format!("model={{ path = \"{}\" }}", model.display())]);
        inspect.args(["--set", "stage=[]", "--set", "evaluate.before=true"]);
        let output = inspect.current_dir(unbroken.scene.dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let predictions = names(&unbroken.scene.run(&format!("from-{name}")).path().join("predictions"));
        assert_eq!(predictions, ["test-base.jsonl"], "the best checkpoint was not asked");
    }
}

#[test]
fn a_metric_that_no_step_gives_is_told_with_those_it_gives() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("best-unknown");
    let mut command = run.start_command();
    command.args(["--set", "stage.0.trainer.metric_for_best_model=rewards/tag/AVSO/mean"]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    for wanted in ["step 3", "rewards/tag/AVSO/mean", "grad_norm", "metric_for_best_model"] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
}

#[test]
fn a_metric_of_a_task_without_records_is_told_before_anything_runs() {
    let unbroken = Unbroken::shared();
    let practice = unbroken.scene.dir.path().join("practice");
    let records: Value = serde_json::from_slice(&std::fs::read(practice.join("test.json")).unwrap()).unwrap();
    let grounding = records.as_array().unwrap().iter().filter(|record| record["qa_type"] == "stg");
    let grounding: Value = grounding.cloned().collect();
    assert!(!grounding.as_array().unwrap().is_empty());
    std::fs::write(practice.join("grounding.json"), grounding.to_string()).unwrap();
    let run = |verb: &str, metric: &str| {
        let mut command = Command::new(binary());
        command.args([
            verb,
            "experiment.toml",
            "--set",
            "data.eval=[{ file = \"practice/grounding.json\" }]",
        ]);
        command.args(["--set", &format!("stage.0.trainer.metric_for_best_model={metric}")]);
        command.current_dir(unbroken.scene.dir.path()).output().unwrap()
    };
    assert!(run("check", "eval/grounding/stg_miou").status.success());
    for verb in ["check", "train"] {
        let output = run(verb, "eval/grounding/nap_acc");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}: {stderr}");
        let wanted = "split grounding has no record of task nap";
        assert!(stderr.contains(wanted), "{verb}: {stderr}");
    }
    assert!(!unbroken.scene.run("runs/experiment").path().join("config.toml").exists());
}
