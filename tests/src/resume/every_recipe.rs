//! Every algorithm goes through the same loop, and a killed run of each ends like an unbroken one.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::{Run, Unbroken, kills::number};
use crate::{
    device::has_bf16,
    server::{Received, Server},
};

/// All algorithms that learn from rewards.
const ALL: [&str; 16] = [
    "grpo",
    "dapo",
    "dr_grpo",
    "bnpo",
    "gspo",
    "cispo",
    "sapo",
    "rloo",
    "gdpo",
    "ema_grpo",
    "medgrpo",
    "medgrpo_paper",
    "trl_grpo",
    "trl_dapo",
    "verl_grpo",
    "easyr1_dapo",
];

/// Those that keep a state or draw groups differently from the others; `MEDGRPO_RESUME_RECIPES` names others, `all` takes all.
const FEW: [&str; 3] = ["dapo", "gdpo", "ema_grpo"];

/// The second stage's own settings: captions, whose similarity differs between completions of any model.
fn overrides(recipe: &str) -> Vec<String> {
    let mut keys = vec![
        format!(
            "recipe={{ type = \"{recipe}\", num_generations = 3, max_completion_length = 8, beta = 0.1, \
                 num_iterations = 2, rewards = {{ embedder = \"lexical\", captions = {{ similarity = 1.0, rouge_l = 0.5, judge = 0.5 }} }} }}"
        ),
        "data.tasks=[\"vs\", \"rc\"]".to_owned(),
    ];
    if recipe.starts_with("medgrpo") {
        // So small a set has few records of a dataset.
        let calibration = "{ num_records = 2, num_generations = 2, min_count = 2 }";
        let normalization = format!("{{ type = \"median_logistic\", calibration = {calibration} }}");
        keys.push(format!("recipe.rewards.normalization={normalization}"));
    }
    if recipe == "dapo" && has_bf16() {
        keys.push("recipe.rollout_bf16=true".to_owned());
    }
    if recipe == "cispo" {
        keys.push("recipe.top_entropy_quantile=0.5".to_owned());
    }
    keys.iter().flat_map(|key| ["--set".to_owned(), format!("stage.1.{key}")]).collect()
}

fn last_model(run: &Run) -> Vec<u8> {
    std::fs::read(run.path().join("model/model.safetensors")).unwrap()
}

/// How a run of a recipe is started: with an adapter, several pieces a step, questions on one clip side by side, and a judge
/// whose replies are kept.
fn start(run: &Run, recipe: &str, judge: &Server) -> Command {
    let mut command = run.start_command();
    command.args(["--set", "data.questions_per_clip=2"]).args(overrides(recipe));
    // What is drawn in bfloat16 is compared with an update that drops nothing.
    let dropout = if recipe == "dapo" { 0.0 } else { 0.1 };
    let judge = format!(
        "{{ type = \"llm\", base_url = \"{}\", model = \"judge\", cache = \"judged-{}\" }}",
        judge.url, run.name
    );
    for key in [
        format!("recipe.rewards.judge={judge}"),
        format!("lora={{ r = 2, lora_dropout = {dropout}, use_rslora = true, vision = true }}"),
        "trainer.weight_decay=0.0".to_owned(),
    ] {
        command.args(["--set".to_owned(), format!("stage.1.{key}")]);
    }
    command
}

/// Five scores that follow from the question.
fn scores(_: usize, request: &Received) -> Result<String, u16> {
    let sum: usize = request.body["messages"].to_string().bytes().map(usize::from).sum();
    Ok([2, 3, 4, 5, 8].map(|code| format!("R{code}: {}\n", 1 + (sum / code) % 5)).concat())
}

/// `MEDGRPO_RESUME_KILLS` kills of runs of each algorithm, 2 if it is not said; `MEDGRPO_RESUME_SEED` chooses when.
#[test]
fn each_algorithm_trains_and_resumes_to_the_same_bytes() {
    let unbroken = Unbroken::shared();
    let judge = Server::start(scores);
    let (kills, seed) = (number("MEDGRPO_RESUME_KILLS", 2), number("MEDGRPO_RESUME_SEED", 0));
    println!("{kills} kills, MEDGRPO_RESUME_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let chosen = std::env::var("MEDGRPO_RESUME_RECIPES");
    let recipes: Vec<&str> = match chosen.as_deref() {
        Ok("all") => ALL.to_vec(),
        Ok(names) => names.split(',').collect(),
        Err(_) => FEW.to_vec(),
    };
    let mut models = Vec::new();
    for &recipe in &recipes {
        let whole = unbroken.scene.run(&format!("whole-{recipe}"));
        let started = Instant::now();
        let output = start(&whole, recipe, &judge).output().unwrap();
        assert!(output.status.success(), "{recipe}: {}", String::from_utf8_lossy(&output.stderr));
        let duration = started.elapsed();

        let (mut num_kills, mut num_runs) = (0, 0);
        while num_kills < kills {
            let broken = unbroken.scene.run(&format!("broken-{recipe}-{num_runs}"));
            let mut places = Vec::new();
            loop {
                let begun = broken.path().join("config.toml").exists();
                let mut command =
                    if begun { broken.resume_command() } else { start(&broken, recipe, &judge) };
                let mut child = command.spawn().unwrap();
                if num_kills < kills {
                    std::thread::sleep(duration.mul_f64(rng.random_range(0.05..0.7)));
                    child.kill().unwrap();
                }
                let output = child.wait_with_output().unwrap();
                if let Some(code) = output.status.code() {
                    assert_eq!(code, 0, "{recipe}: {}", String::from_utf8_lossy(&output.stderr));
                    break;
                }
                num_kills += 1;
                places.push(broken.logged_steps().last().copied());
            }
            whole.outcome().assert_equal(&broken.outcome(), &format!("{recipe}, killed after {places:?}"));
            num_runs += 1;
        }
        println!("{recipe}: {num_kills} kills of {num_runs} runs, last model {}", whole.outcome().hash());
        let model = last_model(&whole);
        models.push(model);

        let metrics = std::fs::read_to_string(whole.path().join("metrics.jsonl")).unwrap();
        let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        assert!(
            last["loss"].as_f64().unwrap().is_finite() && last["kl"].as_f64().is_some(),
            "{recipe}: {last}"
        );
        let samples_anew = last.get("dynamic_sampling/num_rounds").is_some();
        assert_eq!(samples_anew, ["dapo", "easyr1_dapo"].contains(&recipe), "{recipe}");
    }
    models.sort();
    models.dedup();
    // verl's and TRL's GRPO may round to the same update of so young a model; most may not.
    assert!(models.len() * 2 > recipes.len(), "algorithms that give the same model do not differ");
}

#[test]
fn a_run_without_a_signal_ends_and_says_where() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("no-signal");
    let started = Instant::now();
    let mut command = run.start_command();
    for key in [
        "stage.1.recipe={ type = \"dapo\", num_generations = 2, max_completion_length = 4, dynamic_sampling = { max_rounds = 3 } }",
        "stage.1.data.tasks=[\"tag\"]",
    ] {
        command.args(["--set", key]);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    for wanted in ["step 1: after 3 draws only 0 of 2 groups", "tag/Synth", "zero_variance", "max_rounds"] {
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
    }
    assert!(started.elapsed() < Duration::from_secs(300));
}
