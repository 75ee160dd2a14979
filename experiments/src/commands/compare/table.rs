//! The headline numbers of variants over their seeds: means, and differences within a seed.

use medgrpo_datasets::TaskKind;
use medgrpo_rewards::leaderboard::{Rules, headline_names};
use serde::Serialize;

use super::{
    run::{Metric, Model, Replicate, Run},
    statistics::Estimate,
    variants::Variant,
};

/// A metric in all variants.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// As tables call it.
    pub(super) title: String,
    #[serde(flatten)]
    pub(super) metric: Metric,
    /// Records of its task, least and most of all runs.
    pub(super) num_records: (usize, usize),
    /// What the constant answers come to, over all runs.
    pub(super) constant: Option<f64>,
    /// Of the model before the last stage, one a seed, where all variants start from the same.
    pub(super) before: Option<Estimate>,
    /// One a variant.
    pub(super) cells: Vec<Cell>,
}

/// A metric in one variant.
#[derive(Debug, Default, Serialize)]
pub(super) struct Cell {
    /// Whether the last stage trained on its task.
    pub(super) is_trained: bool,
    /// Of the trained models.
    pub(super) after: Option<Estimate>,
    /// Of the models that their last stages started from.
    pub(super) before: Option<Estimate>,
    /// After less before, in each run.
    pub(super) change: Option<Estimate>,
    /// After less that of the baseline, for each seed that both have.
    pub(super) from_baseline: Option<Estimate>,
    pub(super) runs: Vec<RunValue>,
}

/// A metric in one run.
#[derive(Debug, Serialize)]
pub(super) struct RunValue {
    #[serde(flatten)]
    pub(super) replicate: Replicate,
    pub(super) before: Option<f64>,
    pub(super) after: Option<f64>,
}

/// The numbers that any run has, in the order of the leaderboard; strict ones where they are others.
pub(super) fn rows(variants: &[Variant], baseline: Option<usize>) -> Vec<Row> {
    let runs: Vec<&Run> = variants.iter().flat_map(|variant| &variant.runs).collect();
    let metrics = metrics(&runs);
    let shared = starts_are_shared(variants, &metrics);
    let row = |metric: Metric| {
        let of_all =
            |model| -> Vec<f64> { runs.iter().filter_map(|run| run.value(model, &metric)).collect() };
        let counts: Vec<usize> = runs.iter().filter_map(|run| run.num_records(&metric)).collect();
        let cell = |(index, variant): (usize, &Variant)| {
            cell(variant, &metric, baseline.filter(|&of| of != index).map(|of| &variants[of]))
        };
        Row {
            title: metric.to_string(),
            num_records: (
                counts.iter().copied().min().unwrap_or(0),
                counts.iter().copied().max().unwrap_or(0),
            ),
            constant: Estimate::of(&of_all(Model::Constant)).map(|estimate| estimate.mean),
            before: if shared { Estimate::of(&one_a_seed(&runs, &metric)) } else { None },
            cells: variants.iter().enumerate().map(cell).collect(),
            metric,
        }
    };
    metrics.iter().cloned().map(row).collect()
}

fn cell(variant: &Variant, metric: &Metric, baseline: Option<&Variant>) -> Cell {
    let runs = &variant.runs;
    let of = |model| {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.value(model, metric)).collect();
        Estimate::of(&values)
    };
    let difference = |run: &Run, other: Option<f64>| Some(run.value(Model::After, metric)? - other?);
    let changes: Vec<f64> =
        runs.iter().filter_map(|run| difference(run, run.value(Model::Before, metric))).collect();
    let from_baseline: Vec<f64> = baseline
        .into_iter()
        .flat_map(|baseline| {
            runs.iter().filter_map(|run| {
                let other = baseline.run_of(run.replicate)?;
                difference(run, other.value(Model::After, metric))
            })
        })
        .collect();
    let value = |run: &Run| RunValue {
        replicate: run.replicate,
        before: run.value(Model::Before, metric),
        after: run.value(Model::After, metric),
    };
    Cell {
        is_trained: is_trained(variant, metric.task()),
        after: of(Model::After),
        before: of(Model::Before),
        change: Estimate::of(&changes),
        from_baseline: Estimate::of(&from_baseline),
        runs: runs.iter().map(value).collect(),
    }
}

fn is_trained(variant: &Variant, task: Option<TaskKind>) -> bool {
    task.is_some_and(|task| variant.runs.iter().any(|run| run.trained.contains(&task)))
}

fn metrics(runs: &[&Run]) -> Vec<Metric> {
    let mut splits: Vec<&str> = runs
        .iter()
        .filter_map(|run| run.reports(Model::After))
        .flat_map(|reports| reports.keys())
        .map(String::as_str)
        .collect();
    splits.sort_unstable();
    splits.dedup();
    let mut found = Vec::new();
    for split in splits {
        for name in headline_names() {
            let of = |rules| Metric { split: split.to_owned(), name, rules };
            let (official, strict) = (of(Rules::Official), of(Rules::Strict));
            let models = [Model::Constant, Model::Before, Model::After];
            let values = |metric: &Metric| -> Vec<Option<f64>> {
                runs.iter().flat_map(|run| models.map(|model| run.value(model, metric))).collect()
            };
            let (by_official, by_strict) = (values(&official), values(&strict));
            if by_official.iter().any(Option::is_some) {
                found.push(official);
                if by_strict.iter().any(Option::is_some) && by_strict != by_official {
                    found.push(strict);
                }
            }
        }
    }
    found
}

/// Whether all variants come to their last stage in the same way, and runs of one seed with the same numbers.
fn starts_are_shared(variants: &[Variant], metrics: &[Metric]) -> bool {
    let before = |run: &Run| -> Vec<Option<f64>> {
        metrics.iter().map(|metric| run.value(Model::Before, metric)).collect()
    };
    let has_one = |run: &&Run| run.reports(Model::Before).is_some();
    let runs: Vec<&Run> = variants.iter().flat_map(|variant| &variant.runs).filter(has_one).collect();
    runs.iter().enumerate().all(|(index, run)| {
        let mut same_seed = runs[..index].iter().filter(|other| other.replicate == run.replicate);
        way_to_last_stage(run).eq(way_to_last_stage(runs[0]))
            && same_seed.all(|other| before(other) == before(run))
    })
}

/// The settings that the model before the last stage depends on.
fn way_to_last_stage(run: &Run) -> impl Iterator<Item = (&String, &String)> {
    let last_stage = format!("stage.{}.", run.stages.len() - 1);
    run.settings.iter().filter(move |(key, _)| !key.starts_with(&last_stage) && !key.starts_with("alarms."))
}

/// Numbers before the last stage, each seed once.
fn one_a_seed(runs: &[&Run], metric: &Metric) -> Vec<f64> {
    let mut seen: Vec<Replicate> = Vec::new();
    let mut values = Vec::new();
    for run in runs {
        if let Some(value) = run.value(Model::Before, metric).filter(|_| !seen.contains(&run.replicate)) {
            seen.push(run.replicate);
            values.push(value);
        }
    }
    values
}

/// Numbers of the leaderboard that no run has.
pub(super) fn absent(rows: &[Row]) -> Vec<&'static str> {
    let is_there = |name: &str| rows.iter().any(|row| row.metric.name == name);
    // Ours stand in where a judge's are missing; that they are not there says nothing.
    headline_names().into_iter().filter(|name| !name.ends_with("_rouge_l") && !is_there(name)).collect()
}
