//! A divergence from the reference that is part of the reward: by hand from what the run records, replayed, and after a kill.

use std::process::Command;

use serde_json::Value;

use super::{Run, Unbroken, replayed};

const BETA: f64 = 0.5;

fn start(run: &Run) -> Command {
    let recipe = format!(
        "stage.1.recipe={{ type = \"grpo\", num_generations = 3, max_completion_length = 8, beta = {BETA}, kl_in = \"reward\", \
         rewards = {{ embedder = \"lexical\", captions = {{ similarity = 1.0, rouge_l = 0.5 }} }} }}"
    );
    let mut command = run.start_command();
    command.args(["--set", &recipe, "--set", "stage.1.data.tasks=[\"vs\", \"rc\"]"]);
    command
}

fn lines(run: &Run, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.path().join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `(r - mean) / (deviation + 1e-4)`, with Bessel's correction.
fn z_scores(rewards: &[f64]) -> Vec<f64> {
    let count = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / count;
    let deviation =
        (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / (count - 1.0)).sqrt();
    rewards.iter().map(|reward| (reward - mean) / (deviation + 1e-4)).collect()
}

#[test]
fn advantages_are_those_of_rewards_less_the_divergence() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("kl-in-reward");
    let output = start(&run).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let rollouts = lines(&run, "rollouts.jsonl");
    let mut largest_penalty = 0.0_f64;
    for group in &rollouts {
        let of = |key: &str| -> Vec<f64> {
            let completions = group["completions"].as_array().unwrap();
            completions.iter().map(|completion| completion[key].as_f64().unwrap()).collect()
        };
        let (rewards, kls) = (of("reward"), of("kl"));
        let paid: Vec<f64> = rewards.iter().zip(&kls).map(|(reward, kl)| reward - BETA * kl).collect();
        for (found, expected) in of("advantage").into_iter().zip(z_scores(&paid)) {
            assert!((found - expected).abs() < 1e-4, "{found} {expected}: {group}");
        }
        if group["step"] == 1 {
            assert!(kls.iter().all(|kl| kl.abs() < 1e-5), "at first the policy is its reference: {kls:?}");
        }
        largest_penalty = kls.iter().fold(largest_penalty, |largest, kl| largest.max(BETA * kl.abs()));
    }
    println!("largest penalty {largest_penalty:.4}");
    assert!(largest_penalty > 1e-3, "the policy has not moved: nothing is shown");
    for step in lines(&run, "metrics.jsonl").iter().filter(|line| line["stage"] == 1) {
        let completions = rollouts
            .iter()
            .filter(|group| group["step"] == step["step"])
            .flat_map(|group| group["completions"].as_array().unwrap());
        let (mut kl, mut num_tokens) = (0.0, 0.0);
        for completion in completions {
            kl += completion["kl"].as_f64().unwrap();
            num_tokens += completion["num_tokens"].as_f64().unwrap();
        }
        let logged = step["kl"].as_f64().unwrap();
        assert!((logged - kl / num_tokens).abs() < 1e-6, "{logged} {kl} {num_tokens}");
    }

    let own = replayed::replayed(&run, &[]);
    assert_eq!(own["largest_advantage_difference"], 0.0);
    assert_eq!(own["left_out"].as_array().unwrap().len(), 0, "nothing of the loss takes a model");
    for args in [["--set", "kl_in=loss"], ["--set", "beta=5"]] {
        let other = replayed::replayed(&run, &args);
        assert!(other["largest_advantage_difference"].as_f64().unwrap() > 1e-3, "{args:?}");
    }
    // A run that has not measured it cannot be replayed with it.
    let plain = replayed::train(&unbroken, "no-kl-recorded", "bnpo");
    let output = replayed::replay(&plain, &["--set", "beta=0.1", "--set", "kl_in=reward"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("recorded no distance"), "{stderr}");

    let broken = unbroken.scene.run("kl-in-reward-killed");
    let mut child = start(&broken).spawn().unwrap();
    broken.wait_for(&mut child, "checkpoints/01-medgrpo-step-000002");
    child.kill().unwrap();
    child.wait().unwrap();
    broken.succeed();
    run.outcome().assert_equal(&broken.outcome(), "killed");
}
