//! What a run has recorded of its completions is enough to compute its advantages and losses again, and another recipe's.

use std::process::{Command, Output};

use serde_json::Value;

use super::{Run, Unbroken};
use crate::{cli::binary, device::has_bf16};

pub(super) fn replay(run: &Run, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["replay", &run.name, "--out", "replay.json"]).args(args).current_dir(&run.cwd);
    command.env_remove("RUST_LOG").output().unwrap()
}

/// The one replayed stage.
pub(super) fn replayed(run: &Run, args: &[&str]) -> Value {
    let output = replay(run, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let stages: Value = serde_json::from_slice(&std::fs::read(run.cwd.join("replay.json")).unwrap()).unwrap();
    assert_eq!(stages.as_array().unwrap().len(), 1);
    stages[0].clone()
}

fn lines(run: &Run, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.path().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list `{key}` in {value}"))
}

/// A run whose second stage has rewards that differ, one update a batch and nothing in its loss but the policy term.
pub(super) fn train(unbroken: &Unbroken, name: &str, recipe: &str) -> Run {
    train_with(unbroken, name, recipe, "")
}

/// The same with `more` keys of the recipe.
fn train_with(unbroken: &Unbroken, name: &str, recipe: &str, more: &str) -> Run {
    let run = unbroken.scene.run(name);
    let keys = format!(
        "stage.1.recipe={{ type = \"{recipe}\", num_generations = 3, max_completion_length = 8{more}, rewards = {{ embedder = \
         \"lexical\", captions = {{ similarity = 1.0, rouge_l = 0.5 }} }} }}"
    );
    let mut command = run.start_command();
    let output =
        command.args(["--set", &keys, "--set", "stage.1.data.tasks=[\"vs\", \"rc\"]"]).output().unwrap();
    assert!(output.status.success(), "{recipe}: {}", String::from_utf8_lossy(&output.stderr));
    run
}

#[test]
fn a_runs_own_recipe_gives_its_own_advantages_and_losses() {
    let unbroken = Unbroken::shared();
    let mut largest_loss = 0.0_f64;
    for recipe in ["bnpo", "dapo"] {
        let run = train(&unbroken, &format!("recorded-{recipe}"), recipe);
        let own = replayed(&run, &[]);
        assert_eq!(own["largest_advantage_difference"], 0.0, "{recipe}");
        let stored: Vec<Value> =
            lines(&run, "rollouts.jsonl").into_iter().filter(|line| line.get("dropped").is_none()).collect();
        let groups = array(&own, "groups");
        assert_eq!(groups.len(), stored.len(), "{recipe}");
        let mut with_signal = 0;
        for (group, stored) in groups.iter().zip(&stored) {
            assert_eq!((&group["origin"], &group["step"]), (&stored["origin"], &stored["step"]));
            assert_eq!(group["left_out"], Value::Null, "its own filter kept it");
            for (completion, stored) in array(group, "completions").iter().zip(array(stored, "completions")) {
                assert_eq!(completion["replayed"]["advantage"], stored["advantage"], "{recipe}");
                assert_eq!(completion["replayed"], completion["recorded"]);
                with_signal += usize::from(stored["advantage"] != 0.0);
            }
        }
        assert!(with_signal > 4, "{recipe}: no advantages, nothing is shown");

        let steps = array(&own, "by_step");
        let metrics: Vec<Value> =
            lines(&run, "metrics.jsonl").into_iter().filter(|line| line["stage"] == 1).collect();
        assert_eq!(steps.len(), metrics.len());
        for (step, metrics) in steps.iter().zip(&metrics) {
            let (replayed, trained) =
                (step["replayed"]["loss"].as_f64().unwrap(), metrics["loss"].as_f64().unwrap());
            println!("{recipe}, {}: loss {replayed:e}, in training {trained:e}", step["name"]);
            assert!((replayed - trained).abs() < 1e-6, "{recipe}");
            largest_loss = largest_loss.max(trained.abs());
        }
    }
    assert!(largest_loss > 1e-3, "all losses are 0, nothing is shown");
}

#[test]
fn completions_drawn_in_bfloat16_are_replayed_with_their_correction() {
    if !has_bf16() {
        println!("the device has no bfloat16: nothing was tested");
        return;
    }
    let unbroken = Unbroken::shared();
    let more = ", rollout_bf16 = true, rollout_importance_sampling_mode = \"token_truncate\"";
    let run = train_with(&unbroken, "recorded-in-bf16", "grpo", more);
    let own = replayed(&run, &[]);
    let left_alone = replayed(&run, &["--set", "rollout_importance_sampling_mode=none"]);
    assert_eq!(own["largest_advantage_difference"], 0.0);
    let metrics: Vec<Value> =
        lines(&run, "metrics.jsonl").into_iter().filter(|line| line["stage"] == 1).collect();
    let loss =
        |replay: &Value, step: usize| array(replay, "by_step")[step]["replayed"]["loss"].as_f64().unwrap();
    let mut corrected = 0.0_f64;
    for (step, metrics) in metrics.iter().enumerate() {
        let number =
            |name: &str| metrics[name].as_f64().unwrap_or_else(|| panic!("no `{name}` in {metrics}"));
        let trained = number("loss");
        println!("step {step}: {trained:e}, {:e}, {:e}", loss(&own, step), loss(&left_alone, step));
        assert!((loss(&own, step) - trained).abs() < 1e-7);
        corrected = corrected.max((loss(&left_alone, step) - trained).abs());
        let name = "sampling/sampling_logp_difference";
        let (mean, max) = (number(&format!("{name}/mean")), number(&format!("{name}/max")));
        assert!(0.0 < mean && mean < max && max < 0.5, "{mean} {max}");
        let name = "sampling/importance_sampling_ratio";
        assert!((number(&format!("{name}/mean")) - 1.0).abs() < 0.1);
        assert_eq!(number(&format!("{name}/out_of_bounds")), 0.0);
        // The policy has not moved, whatever it was drawn with.
        assert_eq!(number("importance_ratio_deviation/max"), 0.0);
    }
    assert!(corrected > 1e-6, "the correction changes no loss, nothing is shown");
}

#[test]
fn another_recipe_gives_other_advantages_and_a_run_without_tokens_is_refused() {
    let unbroken = Unbroken::shared();
    let run = train(&unbroken, "recorded-grpo", "grpo");
    let groups = |stage: &Value| array(stage, "groups").len();
    let own = replayed(&run, &[]);
    let rloo = replayed(&run, &["--recipe", "rloo"]);
    assert_eq!((&rloo["recorded"], &rloo["replayed"]), (&Value::from("grpo"), &Value::from("rloo")));
    assert!(rloo["largest_advantage_difference"].as_f64().unwrap() > 0.1);
    assert_eq!(groups(&own), groups(&rloo));
    for (own, rloo) in array(&own, "groups").iter().zip(array(&rloo, "groups")) {
        // The leave-one-out advantage of three is 3/2 of the distance from their mean: of one sign with a z-score.
        for (own, rloo) in array(own, "completions").iter().zip(array(rloo, "completions")) {
            let [own, rloo] = [own, rloo].map(|it| it["replayed"]["advantage"].as_f64().unwrap());
            assert!(own * rloo > 0.0 || own.abs().max(rloo.abs()) < 1e-2, "{own} {rloo}");
        }
    }
    // Another loss weighs completions otherwise, not their advantages.
    let dapo_loss = replayed(&run, &["--set", "loss_type=dapo"]);
    assert_eq!(dapo_loss["largest_advantage_difference"], 0.0);
    let output = replay(&run, &["--recipe", "dapo"]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("recorded \"grpo\" → replayed \"dapo\"") && table.contains("dataset, task"),
        "{table}"
    );

    for (args, wanted) in [
        (["--recipe", "ppo"], "unknown variant `ppo`"),
        (["--set", "temperature=2"], "`temperature` is no key that a replay reads"),
        (["--stage", "0"], "no stage with a reward to replay"),
    ] {
        let output = replay(&run, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    // A process that died has not written the last step to its end; a file of another run does not fit.
    let archive = run.path().join("rollouts-tokens.jsonl.gz");
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(replayed(&run, &[])["num_steps"], 3);
    std::fs::copy(unbroken.scene.run("unbroken").path().join("rollouts-tokens.jsonl.gz"), &archive).unwrap();
    let stderr = String::from_utf8(replay(&run, &[]).stderr).unwrap();
    assert!(stderr.contains("does not fit rollouts.jsonl at step 1 of stage 1"), "{stderr}");
    std::fs::remove_file(&archive).unwrap();
    let stderr = String::from_utf8(replay(&run, &[]).stderr).unwrap();
    assert!(stderr.contains("there is no rollouts-tokens.jsonl.gz in it"), "{stderr}");
}
