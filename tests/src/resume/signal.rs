//! What the metrics say of each dataset and task, and of the whole step, against what the run has recorded.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Unbroken;

#[test]
fn every_dataset_and_task_has_its_numbers() {
    let unbroken = Unbroken::shared();
    let run = unbroken.scene.run("unbroken");
    let lines = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(run.path().join(file)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let rollouts = lines("rollouts.jsonl");
    let metrics: Vec<Value> = lines("metrics.jsonl").into_iter().filter(|line| line["stage"] == 1).collect();
    assert_eq!(metrics.len(), 4);
    for step in &metrics {
        let number = |name: &str| step[name].as_f64().unwrap_or_else(|| panic!("no `{name}` in {step}"));
        for name in [
            "loss",
            "grad_norm",
            "entropy",
            "kl",
            "clip_ratio/low_mean",
            "clip_ratio/high_mean",
            "importance_ratio_deviation",
            "frac_unscored",
            "frac_reward_zero_std",
            "frac_padding",
            "completions/mean_length",
            "prompts/mean_length",
            "time/data",
            "time/collect",
            "time/update",
        ] {
            assert!(number(name).is_finite(), "{name}");
        }
        assert!(number("perf/tokens_per_sec") > 0.0);
        // A maximum is no less than the mean, and the second update has moved the ratio.
        let (mean, max) = (number("importance_ratio_deviation"), number("importance_ratio_deviation/max"));
        assert!(max >= mean && max > 0.0, "{mean} {max}");
        if cfg!(target_os = "linux") {
            assert!(number("perf/rss_mib") > 1.0 && number("perf/rss_mib") <= number("perf/peak_rss_mib"));
        }
        let groups: Vec<&Value> = rollouts.iter().filter(|group| group["step"] == step["step"]).collect();
        let (mut told, mut all) = (0, 0);
        let mut by_pair: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for group in groups {
            let pair = format!("{}/{}", group["task"].as_str().unwrap(), group["source"].as_str().unwrap());
            for completion in group["completions"].as_array().unwrap() {
                let num_tokens = completion["num_tokens"].as_u64().unwrap();
                all += num_tokens;
                told += if completion["advantage"].as_f64().unwrap().abs() > 1e-6 { num_tokens } else { 0 };
                by_pair.entry(pair.clone()).or_default().push(completion);
            }
        }
        assert!((number("frac_effective_tokens") - told as f64 / all as f64).abs() < 1e-12);
        for (pair, completions) in by_pair {
            let mean = |key: &str| {
                let values = completions.iter().map(|completion| completion[key].as_f64().unwrap());
                values.sum::<f64>() / completions.len() as f64
            };
            assert!((number(&format!("rewards/{pair}/mean")) - mean("reward")).abs() < 1e-6, "{pair}");
            assert!((number(&format!("raw/{pair}/mean")) - mean("raw")).abs() < 1e-6, "{pair}");
            let truncated = completions.iter().filter(|completion| completion["truncated"] == true).count();
            let share = truncated as f64 / completions.len() as f64;
            assert!((number(&format!("completions/clipped_ratio/{pair}")) - share).abs() < 1e-12, "{pair}");
            assert!(number(&format!("rewards/{pair}/std")) >= 0.0);
            assert_eq!(number(&format!("frac_unscored/{pair}")), 0.0);
            assert!((0.0..=1.0).contains(&number(&format!("frac_reward_zero_std/{pair}"))));
            let is_parsed = pair.starts_with("tag/") || pair.starts_with("stg/");
            assert_eq!(step.get(format!("frac_unparsed/{pair}")).is_some(), is_parsed, "{pair}");
            for part in completions[0]["parts"].as_object().into_iter().flat_map(|parts| parts.keys()) {
                assert!(number(&format!("parts/{pair}/{part}/mean")).is_finite());
            }
        }
    }
}
