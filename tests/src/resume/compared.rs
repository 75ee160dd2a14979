//! Real runs side by side: `medgrpo compare` reads what `medgrpo train` writes.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use serde_json::Value;

use super::{Run, Scene, Unbroken};
use crate::cli::binary;

fn compare(scene: &Scene, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("compare").args(args).current_dir(scene.dir.path());
    command.env_remove("RUST_LOG").output().unwrap()
}

fn json(run: &Run, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(run.path().join(file)).unwrap()).unwrap()
}

/// The values of a metric by step of the second stage.
fn logged(run: &Run, metric: &str) -> BTreeMap<u64, f64> {
    let text = std::fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["stage"] == 1)
        .map(|line| (line["step"].as_u64().unwrap(), line[metric].as_f64().unwrap()))
        .collect()
}

#[test]
fn runs_of_two_recipes_and_two_seeds_are_two_variants() {
    let unbroken = Unbroken::shared();
    let scene = &unbroken.scene;
    let first = scene.run("unbroken");
    let train = |name: &str, set: &[&str]| {
        let run = scene.run(name);
        let mut command = run.start_command();
        command.args(set.iter().flat_map(|set| ["--set", set]));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        run
    };
    let second = train("compared-seed", &["seed=6", "practice.seed=5"]);
    let recipe = "stage.1.recipe={ type = \"dr_grpo\", num_generations = 2, max_completion_length = 8 }";
    train("compared-recipe", &[recipe]);

    let runs = ["unbroken", "compared-seed", "compared-recipe"];
    let output = compare(scene, &[&runs[..], &["--out", "compared", "--baseline", "dr_grpo"]].concat());
    let (table, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{stderr}");
    for wanted in [
        "| recipe.type = medgrpo |         2 of 2 |",
        "| recipe.type = dr_grpo |         1 of 1 |",
        "## Change by the last stage",
        "## Difference from recipe.type = dr_grpo",
        "test / tag_miou_03 †",
        "recipe.type = dr_grpo has one evaluated run: there is no interval",
    ] {
        assert!(table.contains(wanted), "`{wanted}` is not in:\n{table}");
    }
    assert!(!table.contains("test / nap_acc †"), "the stage does not train on it:\n{table}");

    let folder = scene.dir.path().join("compared");
    let told: Value = serde_json::from_slice(&std::fs::read(folder.join("compare.json")).unwrap()).unwrap();
    let rows = told["rows"].as_array().unwrap();
    assert!(rows.len() > 7, "{rows:?}");
    let evaluations = [json(&first, "evaluation.json"), json(&second, "evaluation.json")];
    let mut constant = 0.0;
    for row in rows {
        let (name, rules) = (row["name"].as_str().unwrap(), row["rules"].as_str().unwrap());
        let value = |evaluation: &Value, model: &str| {
            let report = &evaluation[model]["test"][rules];
            report["overall"][name].as_f64().or_else(|| report["captions"][name].as_f64()).unwrap()
        };
        let values = evaluations.each_ref().map(|evaluation| value(evaluation, "medgrpo"));
        let after = &row["cells"][0]["after"];
        assert_eq!(after["n"], 2, "{name}");
        assert!((after["mean"].as_f64().unwrap() - (values[0] + values[1]) / 2.0).abs() < 1e-12, "{name}");
        let changes = evaluations.each_ref().map(|it| value(it, "medgrpo") - value(it, "sft"));
        let change = row["cells"][0]["change"]["mean"].as_f64().unwrap();
        assert!((change - (changes[0] + changes[1]) / 2.0).abs() < 1e-12, "{name}");
        assert_eq!(row["before"]["n"], 2, "both recipes start from one model: {name}");
        constant += value(&evaluations[0], "constant");
    }
    assert!(constant > 0.0, "all numbers are 0, nothing is shown");

    let stage = &told["curves"][1];
    assert_eq!((&told["curves"][0]["stage"], &stage["stage"]), (&"sft".into(), &"medgrpo".into()));
    let metrics = stage["metrics"].as_array().unwrap();
    let entropy = metrics.iter().find(|curve| curve["metric"] == "entropy").expect("it is logged");
    let (ours, theirs) = (logged(&first, "entropy"), logged(&second, "entropy"));
    let means: Vec<f64> = ours.iter().map(|(step, value)| (value + theirs[step]) / 2.0).collect();
    let drawn = entropy["variants"][0]["mean"].as_array().unwrap();
    assert_eq!(drawn.len(), means.len());
    for (drawn, mean) in drawn.iter().zip(means) {
        assert!((drawn.as_f64().unwrap() - mean).abs() < 1e-12);
    }
    let page = std::fs::read_to_string(folder.join("index.html")).unwrap();
    assert!(page.contains("recipe.type = medgrpo") && page.contains("svg+xml;base64,"));

    // The same as JSON, into the same folder; and what is refused.
    let output =
        compare(scene, &[&runs[..], &["--out", "compared", "--baseline", "dr_grpo", "--json"]].concat());
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), told);
    for (args, wanted) in [
        (&["unbroken", "again", "--out", "x"][..], "the same experiment with the same seed"),
        (&["unbroken", "practice", "--out", "x"], "practice holds no run"),
        (&["unbroken", "--out", "unbroken"], "is a run directory"),
        (&["unbroken", "--out", "x", "--ignore", "no.such.key"], "--ignore no.such.key"),
    ] {
        let output = compare(scene, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(wanted), "`{wanted}` is not in:\n{stderr}");
        assert!(!scene.dir.path().join("x").exists());
    }
}
