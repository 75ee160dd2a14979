//! `kill -9` at any moment.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Run, Scene, Unbroken, names};

pub(super) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect(variable))
}

/// Where a killed run stood, in words.
fn place(run: &Run) -> String {
    if !run.path().join("config.toml").exists() {
        return "before its config".to_owned();
    }
    let checkpoints = run.path().join("checkpoints");
    let half_written: Vec<String> = [run.path(), checkpoints, run.path().join("predictions")]
        .iter()
        .flat_map(|folder| names(folder))
        .filter(|name| name.starts_with(".tmp-"))
        .collect();
    let after = match run.logged_steps().last() {
        Some((stage, step)) => format!("after step {step} of stage {stage}"),
        None if run.path().join("predictions/test-base.jsonl").exists() => "before its first step".to_owned(),
        None if run.path().join("model-init").exists() => "before or in the first evaluation".to_owned(),
        None => "before its model".to_owned(),
    };
    let ended = if run.path().join("model").exists() { ", the model saved" } else { "" };
    let writing = if half_written.is_empty() { String::new() } else { format!(", {half_written:?} left") };
    format!("{after}{ended}{writing}")
}

/// `MEDGRPO_RESUME_KILLS` and `MEDGRPO_RESUME_SEED` choose how many and which.
#[test]
fn runs_killed_at_random_moments_end_like_an_unbroken_one() {
    let (wanted, seed) = (number("MEDGRPO_RESUME_KILLS", 4), number("MEDGRPO_RESUME_SEED", 0));
    println!("{wanted} kills, seed {seed}");
    let unbroken = Unbroken::shared();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut kills = 0;
    for number in 1.. {
        assert!(number <= 20 + 4 * wanted, "runs end before they are killed");
        let run = unbroken.scene.run(&format!("random-{number}"));
        while kills < wanted {
            let delay = unbroken.duration.mul_f64(random.random());
            let started = std::time::Instant::now();
            if !run.kill_when(|| started.elapsed() >= delay) {
                break;
            }
            kills += 1;
            println!("kill {kills}: {} killed after {:.2} s: {}", run.name, delay.as_secs_f64(), place(&run));
        }
        run.succeed();
        let outcome = run.outcome();
        println!("{}: last model {}", run.name, outcome.hash());
        unbroken.outcome.assert_equal(&outcome, &run.name);
        if kills >= wanted {
            break;
        }
    }
}

#[test]
fn runs_killed_while_they_write_end_like_an_unbroken_one() {
    let unbroken = Unbroken::shared();
    let scene = Scene::new();
    let run = scene.run("run");
    let moments = [
        ("", ".practice-", true),
        ("run", "config.toml", true),
        ("run", ".tmp-init-", false),
        ("run", "model-init", true),
        ("run/predictions", "test-base.jsonl", true),
        ("run/checkpoints", ".tmp-checkpoint-", false),
        ("run/checkpoints", "00-sft-step-000006", false),
        ("run/checkpoints", ".tmp-removed", false),
        ("run/checkpoints", "00-sft-step-000008", false),
        ("run/predictions", "test-sft.jsonl", false),
        ("run/checkpoints", "01-medgrpo-step-000002", false),
        ("run/checkpoints", ".tmp-checkpoint-", false),
        ("run", ".tmp-model-", false),
        ("run", "evaluation.json", false),
    ];
    for (folder, prefix, is_long) in moments {
        let folder = scene.dir.path().join(folder);
        let killed = run.kill_when(|| names(&folder).iter().any(|name| name.starts_with(prefix)));
        println!("{prefix}: {}", if killed { place(&run) } else { "too late, the run has ended".to_owned() });
        if is_long {
            assert!(killed, "{prefix} was not seen");
            plant_leftovers(&run);
        }
    }
    run.succeed();
    unbroken.outcome.assert_equal(&run.outcome(), "the run");
}

/// What the shortest moments leave, which a kill may miss: folders and files, none of them empty.
fn plant_leftovers(run: &Run) {
    let folders = match run.path().join("config.toml").exists() {
        true => {
            ["checkpoints/.tmp-removed", "checkpoints/.tmp-planted", ".tmp-planted", "predictions"].as_slice()
        }
        // Before a run has begun there is nothing else that is its own.
        false => &[".tmp-planted"],
    };
    for folder in folders {
        let folder = run.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(".tmp-file"), "half").unwrap();
    }
}
