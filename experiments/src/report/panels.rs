//! Which metrics of a stage are drawn together, and in which order.
//!
//! Panels follow the trainer's names: `loss`, `reward` ± `reward_std`, `rewards/<task>/<source>/mean`, `raw/…` and
//! `parts/…` likewise, `kl`, `entropy`, `completions/*_length`, `dynamic_sampling/…`, `alarm/…`, `time/…`, `eval/…`. A metric that is not known here gets a
//! panel of its own, so that nothing is left out.

use std::collections::BTreeMap;

use super::history::StageHistory;
use crate::alarms;

/// A line, and where it is a mean the band around it.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) label: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// (step, low, high)
    pub(crate) band: Vec<(f64, f64, f64)>,
}

/// Lines over the same steps.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) series: Vec<Series>,
}

/// A metric in words, where a panel of its own shows it.
pub(crate) fn title(metric: &str) -> &str {
    match metric {
        "completions/clipped_ratio" => "share of completions cut off",
        "completions/mean_length" => "answer length in tokens",
        "frac_effective_tokens" => "share of tokens with an advantage",
        "frac_reward_zero_std" => "share of groups without a signal",
        "grad_norm" => "gradient norm",
        "kl" => "KL to the reference",
        "learning_rate" => "learning rate",
        "perf/tokens_per_sec" => "tokens per second",
        "step_time" => "seconds of a step",
        _ => metric,
    }
}

/// What to draw of a stage, most telling first.
pub(super) fn panels(stage: &StageHistory) -> Vec<Panel> {
    let mut left: Vec<&str> = stage.series.keys().map(String::as_str).collect();
    let mut panels = Vec::new();
    let points = |name: &str| -> Vec<(f64, f64)> {
        stage.series.get(name).into_iter().flatten().map(|&(step, value)| (step as f64, value)).collect()
    };
    let mut take = |title: &str, names: &[&str], series: Vec<Series>| {
        left.retain(|name| !names.contains(name));
        if series.iter().any(|series| !series.points.is_empty()) {
            panels.push(Panel { title: title.to_owned(), series });
        }
    };
    let alone = |name: &str| vec![Series { label: String::new(), points: points(name), band: Vec::new() }];
    // Names below `prefix` and above `suffix`, one line each, labelled by what stands between.
    let family = |prefix: &str, suffix: &str| -> (Vec<&str>, Vec<Series>) {
        let names: Vec<_> = stage
            .series
            .keys()
            .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .map(String::as_str)
            .collect();
        let series = names
            .iter()
            .map(|name| Series {
                label: name[prefix.len()..].trim_end_matches(suffix).to_owned(),
                points: points(name),
                band: Vec::new(),
            })
            .collect();
        (names, series)
    };

    take("loss", &["loss"], alone("loss"));
    let rewards = points("reward");
    let band = band_around(&rewards, &points("reward_std"));
    take(
        "reward (mean ± standard deviation)",
        &["reward", "reward_std"],
        vec![Series { label: String::new(), points: rewards, band }],
    );
    for (title, prefix) in
        [("reward", "rewards/"), ("task metric", "raw/"), ("parts of the reward", "parts/")]
    {
        let (names, series) = family(prefix, "/mean");
        for (task, series) in by_task(series) {
            take(&format!("{title}: {task}"), &names, series);
        }
    }
    for (title, prefix, suffix) in [
        ("deviation of rewards", "rewards/", "/std"),
        ("share of groups without a signal", "frac_reward_zero_std/", ""),
        ("share of completions cut off", "completions/clipped_ratio/", ""),
        ("share of answers that cannot be read", "frac_unparsed/", ""),
        ("share of answers without a score", "frac_unscored/", ""),
    ] {
        let (names, series) = family(prefix, suffix);
        for (task, series) in by_task(series) {
            take(&format!("{title}: {task}"), &names, series);
        }
    }
    let (names, series) = family("eval/", "");
    take("evaluation", &names, series);
    take(title("kl"), &["kl"], alone("kl"));
    take("entropy", &["entropy"], alone("entropy"));
    let lengths = ["completions/mean_length", "completions/min_length", "completions/max_length"];
    let (low, high) = (points(lengths[1]), points(lengths[2]));
    let band = if low.len() == high.len() {
        low.iter().zip(&high).map(|(low, high)| (low.0, low.1, high.1)).collect()
    } else {
        Vec::new()
    };
    take(
        "answer length in tokens (mean, least to most)",
        &lengths,
        vec![Series { label: String::new(), points: points(lengths[0]), band }],
    );
    for name in ["completions/clipped_ratio", "frac_reward_zero_std"] {
        take(title(name), &[name], alone(name));
    }
    let (names, series) = family("dynamic_sampling/frac_dropped/", "");
    for (task, series) in by_task(series) {
        take(&format!("share of groups dropped: {task}"), &names, series);
    }
    let (names, series) = family("clip_ratio/", "_mean");
    take("share of tokens clipped", &names, series);
    let (names, series) = family(alarms::PREFIX, "");
    take("alarms that are on", &names, series);
    for name in ["grad_norm", "learning_rate"] {
        take(title(name), &[name], alone(name));
    }

    let (mut names, mut series) = family("time/", "");
    names.push("step_time");
    series.push(Series { label: "whole step".to_owned(), points: points("step_time"), band: Vec::new() });
    take(title("step_time"), &names, series);

    let (names, series) = family("perf/", "_mib");
    take("memory in MiB", &names, series);
    take(title("perf/tokens_per_sec"), &["perf/tokens_per_sec"], alone("perf/tokens_per_sec"));

    panels.extend(left.into_iter().map(|name| Panel { title: title(name).to_owned(), series: alone(name) }));
    panels
}

/// `<task>/<what>` lines, sorted into tasks and labelled by the rest.
fn by_task(series: Vec<Series>) -> BTreeMap<String, Vec<Series>> {
    let mut tasks: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for mut line in series {
        let (task, what) = match line.label.split_once('/') {
            Some((task, what)) => (task.to_owned(), what.to_owned()),
            None => (line.label.clone(), String::new()),
        };
        line.label = what;
        tasks.entry(task).or_default().push(line);
    }
    tasks
}

/// Mean ± deviation where both have the same steps.
fn band_around(mean: &[(f64, f64)], deviation: &[(f64, f64)]) -> Vec<(f64, f64, f64)> {
    if mean.len() != deviation.len() {
        return Vec::new();
    }
    mean.iter()
        .zip(deviation)
        .map(|(mean, deviation)| (mean.0, mean.1 - deviation.1, mean.1 + deviation.1))
        .collect()
}
