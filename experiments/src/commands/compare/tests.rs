//! Run directories written by hand, with numbers that are easy to reckon with.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{run::Run, statistics::Estimate, table::Row, variants::Variant, *};
use crate::config;

const EXPERIMENT: &str = r#"
    [model]
    path = "checkpoints/sft"
    [data]
    train = [{ file = "train.json" }]
    eval = [{ name = "test", file = "test.json" }]
    [[stage]]
    name = "rl"
    recipe = { type = "grpo", num_generations = 2 }
    trainer = { max_steps = 2, num_prompts_per_step = 1 }
    data = { tasks = ["nap"] }
"#;

/// Folders of runs.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("experiment.toml"), EXPERIMENT).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A finished run whose accuracy goes from 0.5 to `after`.
    fn run(&self, name: &str, set: &[&str], after: f64) -> PathBuf {
        let root = self.path(name);
        std::fs::create_dir(&root).unwrap();
        let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
        let experiment = config::load(&self.path("experiment.toml"), &set).unwrap();
        std::fs::write(root.join("config.toml"), experiment.to_toml()).unwrap();
        write(&root, &json!({ "constant": column(0.25), "base": column(0.5), "rl": column(after) }));
        let line =
            |step: usize| format!("{{\"stage\":0,\"step\":{step},\"reward\":{}}}\n", after * step as f64);
        std::fs::write(root.join("metrics.jsonl"), line(1) + &line(2)).unwrap();
        root
    }

    fn compare(&self, runs: &[PathBuf], out: &str, more: &[&str]) -> Result<Value> {
        let args = CompareArgs {
            runs: runs.to_vec(),
            out: self.path(out),
            baseline: more.iter().find_map(|word| word.strip_prefix("--baseline=")).map(str::to_owned),
            ignored: more
                .iter()
                .filter_map(|word| word.strip_prefix("--ignore="))
                .map(str::to_owned)
                .collect(),
            json: false,
        };
        run(&args)?;
        Ok(serde_json::from_slice(&std::fs::read(self.path(out).join("compare.json"))?)?)
    }

    fn refusal(&self, runs: &[PathBuf], more: &[&str]) -> String {
        let error = self.compare(runs, "refused", more).unwrap_err();
        assert!(!self.path("refused").exists(), "nothing is written: {error}");
        error.to_string()
    }
}

fn column(nap_acc: f64) -> Value {
    let record = |row: usize| json!({ "index": row, "row": row, "task": "nap", "qa_type": "next_action", "data_source": "AVOS", "score": row });
    let report = json!({
        "overall": { "nap_acc": nap_acc, "vs_llm": null },
        "captions": { "vs_rouge_l": null },
        "per_record": [record(0), record(1)],
    });
    json!({ "test": { "official": report, "strict": report } })
}

fn write(run: &Path, evaluation: &Value) {
    std::fs::write(run.join("evaluation.json"), evaluation.to_string()).unwrap();
}

fn evaluation(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("evaluation.json")).unwrap()).unwrap()
}

fn read(runs: &[PathBuf]) -> Vec<Variant> {
    variants::group(runs.iter().map(|run| Run::read(run).unwrap()).collect()).unwrap()
}

/// Mean, half of the interval and number of runs.
fn assert_is(estimate: Option<&Estimate>, mean: f64, half_width: f64, n: usize) {
    let estimate = estimate.expect("there is a number");
    assert_eq!(estimate.n, n, "{estimate:?}");
    assert!((estimate.mean - mean).abs() < 1e-9, "{estimate:?}");
    assert!((estimate.half_width().unwrap() - half_width).abs() < 1e-5, "{estimate:?}");
}

#[test]
fn differences_are_within_a_seed() {
    let scene = Scene::new();
    let dapo = "stage.0.recipe.type=dapo";
    let runs = [
        scene.run("g1", &["seed=1"], 0.6),
        scene.run("d1", &[dapo, "seed=1"], 0.55),
        scene.run("g2", &["seed=2"], 0.7),
        scene.run("d2", &[dapo, "seed=2"], 0.6),
        scene.run("g3", &["seed=3"], 0.8),
    ];
    let variants = read(&runs);
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    assert_eq!(names, ["recipe.type = grpo", "recipe.type = dapo"]);
    assert_eq!(variants.iter().map(|variant| variant.runs.len()).collect::<Vec<_>>(), [3, 2]);
    let rows: Vec<Row> = table::rows(&variants, Some(baseline(&variants, "dapo").unwrap()));
    let [row] = &rows[..] else { panic!("strict numbers are the same, others are absent: {rows:?}") };
    assert_eq!((row.title.as_str(), row.num_records, row.constant), ("test / nap_acc", (2, 2), Some(0.25)));
    assert_is(row.before.as_ref(), 0.5, 0.0, 3);
    let [grpo, dapo] = &row.cells[..] else { panic!("{row:?}") };
    // A deviation of 0.1 in three: 4.302653 · 0.1 / √3. Of two values 0.05 apart: 12.706205 · 0.025.
    assert_is(grpo.after.as_ref(), 0.7, 0.248_414, 3);
    assert_is(grpo.change.as_ref(), 0.2, 0.248_414, 3);
    assert_is(dapo.change.as_ref(), 0.075, 0.317_655, 2);
    // Seeds 1 and 2 alone have a partner: 0.05 and 0.1.
    assert_is(grpo.from_baseline.as_ref(), 0.075, 0.317_655, 2);
    assert_eq!(dapo.from_baseline, None);
    assert!(grpo.is_trained && dapo.is_trained);

    let told = scene.compare(&runs, "out", &["--baseline=recipe.type = dapo"]).unwrap();
    assert_eq!(told["baseline"], 1);
    let remarks = told["remarks"].to_string();
    assert!(remarks.contains("no run has cvs_acc") && remarks.contains("vs_llm"), "{remarks}");
    // Of grpo: 0.6, 0.7 and 0.8 at step 1, twice that at step 2; and the mean of both over three runs.
    let curve = &told["curves"][0]["metrics"][0];
    assert_eq!(curve["metric"], "reward");
    assert_eq!(curve["variants"][0]["step"], json!([1, 2]));
    assert_eq!(curve["variants"][0]["min"], json!([0.6, 1.2]));
    assert_eq!(curve["variants"][0]["max"], json!([0.8, 1.6]));
    let signal = told["signals"][0]["variants"][0]["mean"].as_f64().unwrap();
    assert!((signal - 1.05).abs() < 1e-9, "{signal}");
    let page = std::fs::read_to_string(scene.path("out/index.html")).unwrap();
    for wanted in ["recipe.type = dapo", "Change by the last stage", "Keys that differ", "nap_acc †"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    let curves = std::fs::read_to_string(scene.path("out/curves.svg")).unwrap();
    assert!(curves.contains("<polygon") && curves.contains("grpo"), "the band over seeds is missing");
    // The same folder again; another's is refused.
    scene.compare(&runs, "out", &[]).unwrap();
    for (out, wanted) in [("g1", "is a run directory"), (".", "holds something else")] {
        let error = scene.compare(&runs, out, &[]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn models_with_starts_of_their_own_have_columns_of_their_own() {
    let scene = Scene::new();
    let runs = [
        scene.run("a", &["model.path=checkpoints/a"], 0.6),
        scene.run("b", &["model.path=checkpoints/b"], 0.7),
    ];
    let mut other = evaluation(&runs[1]);
    other["base"] = column(0.65);
    write(&runs[1], &other);
    let rows = table::rows(&read(&runs), None);
    assert_eq!(rows[0].before, None);
    let means = rows[0].cells.iter().map(|cell| cell.before.as_ref().unwrap().mean);
    assert_eq!(means.collect::<Vec<_>>(), [0.5, 0.65]);
    let told = scene.compare(&runs, "out", &[]).unwrap();
    assert_eq!(told["variants"][0]["name"], "model.path = checkpoints/a");
    // No seed in common is no sign of a common start.
    let apart = [runs[0].clone(), scene.run("c", &["model.path=checkpoints/b", "seed=1"], 0.7)];
    assert_eq!(table::rows(&read(&apart), None)[0].before, None);
    // Without the key they are two runs of one seed.
    let error = scene.refusal(&runs, &["--ignore=model.path"]);
    assert!(error.contains("the same experiment with the same seed (seed 0)"), "{error}");
}

#[test]
fn what_is_missing_is_said() {
    let scene = Scene::new();
    let runs = [
        scene.run("a", &["seed=1"], 0.6),
        scene.run("b", &["seed=2"], 0.7),
        scene.run("c", &["seed=3"], 0.8),
    ];
    std::fs::remove_file(runs[1].join("evaluation.json")).unwrap();
    std::fs::write(runs[1].join("metrics.jsonl"), "{\"stage\":0,\"step\":1,\"reward\":1}\n{\"sta").unwrap();
    let mut without_start = evaluation(&runs[2]);
    without_start.as_object_mut().unwrap().remove("base");
    write(&runs[2], &without_start);
    let told = scene.compare(&runs, "out", &[]).unwrap();
    let remarks = told["remarks"].to_string();
    assert!(remarks.contains("b is not finished: step 1 of 2"), "{remarks}");
    assert!(remarks.contains("c was not evaluated before its last stage"), "{remarks}");
    let cell = &told["rows"][0]["cells"][0];
    assert_eq!((&cell["after"]["n"], &cell["change"]["n"]), (&json!(2), &json!(1)));
    assert_eq!(cell["change"]["interval"], Value::Null);
    assert_eq!(told["signals"][0]["variants"][0]["n"], 2, "an unfinished run has no mean over its steps");
    assert_eq!(told["variants"][0]["runs"][1]["is_evaluated"], false);
    // Curves alone are worth a page; nothing at all is not.
    for run in &runs {
        let _ = std::fs::remove_file(run.join("evaluation.json"));
    }
    assert_eq!(scene.compare(&runs, "curves", &[]).unwrap()["rows"], json!([]));
    for run in &runs {
        std::fs::write(run.join("metrics.jsonl"), "").unwrap();
    }
    assert!(scene.refusal(&runs, &[]).contains("nothing to compare"));
}

#[test]
fn other_records_or_another_truth_are_refused() {
    let scene = Scene::new();
    let dapo = "stage.0.recipe.type=dapo";
    let runs = [scene.run("a", &[], 0.6), scene.run("b", &[dapo], 0.7)];
    let sound = evaluation(&runs[1]);
    let mut fewer = sound.clone();
    for rules in ["official", "strict"] {
        fewer["constant"]["test"][rules]["per_record"].as_array_mut().unwrap().pop();
    }
    write(&runs[1], &fewer);
    let error = scene.refusal(&runs, &[]);
    assert!(error.contains("different records (2 of test and 1 of test)"), "{error}");
    let mut other_truth = sound;
    other_truth["constant"]["test"]["official"]["per_record"][1]["score"] = json!(0);
    write(&runs[1], &other_truth);
    let error = scene.refusal(&runs, &[]);
    assert!(error.contains("different truths") && error.contains("seed 0"), "{error}");
    // With other training records the constant answers are others: it is told, and no more.
    let other = scene.run("c", &["data.train.0.file=more.json"], 0.7);
    write(&other, &other_truth);
    let told = scene.compare(&[runs[0].clone(), other], "out", &[]).unwrap();
    assert!(told["remarks"].to_string().contains("is not checked"), "{}", told["remarks"]);
}

#[test]
fn mistakes_are_named() {
    let scene = Scene::new();
    let runs = [scene.run("a", &[], 0.6), scene.run("b", &["stage.0.recipe.type=dapo"], 0.7)];
    let with = |more: PathBuf| [runs[0].clone(), more];
    let empty = scene.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let error = scene.refusal(&with(empty), &[]);
    assert!(error.contains("empty holds no run (no config.toml)"), "{error}");
    let error = scene.refusal(&with(runs[0].clone()), &[]);
    assert!(error.contains("leave one out"), "{error}");
    let error = scene.refusal(&runs, &["--baseline=ppo"]);
    assert!(error.contains("--baseline ppo") && error.contains("\"recipe.type = grpo\""), "{error}");
    std::fs::write(runs[1].join("evaluation.json"), "{\"rl\": 3}").unwrap();
    let error = format!("{:#}", scene.compare(&runs, "refused", &[]).unwrap_err());
    assert!(error.contains("evaluation.json: not what `medgrpo train` writes"), "{error}");
}
