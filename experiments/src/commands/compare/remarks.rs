//! What a reader of a comparison must know: what is missing, and what else differs between the runs than their variants.

use super::{
    run::{Metric, Model, Run},
    table::{Row, absent},
    variants::Variant,
};
use crate::environment::Environment;

/// All that is to be said of runs, numbers and machines.
pub(super) fn remarks(variants: &[Variant], rows: &[Row], baseline: Option<usize>) -> Vec<String> {
    let mut found = Vec::new();
    for variant in variants {
        for run in &variant.runs {
            found.extend(of_run(run, rows));
        }
        found.extend(of_variant(variant));
    }
    if let Some(baseline) = baseline {
        found.extend(without_pairs(variants, &variants[baseline]));
    }
    found.extend(of_judges(rows));
    found.extend(of_environments(variants));
    found
}

fn of_run(run: &Run, rows: &[Row]) -> Vec<String> {
    let path = run.path.display();
    if let Some(reason) = run.lacks() {
        return vec![format!("{path} {reason}; it is in the curves and not in the tables")];
    }
    let mut found = Vec::new();
    let has_before = run.reports(Model::Before).is_some();
    if !has_before {
        found.push(format!(
            "{path} was not evaluated before its last stage (evaluate.before): it has no change"
        ));
    }
    let missing = |model| -> Vec<String> {
        let metrics = rows.iter().map(|row| &row.metric).filter(|metric| run.value(model, metric).is_none());
        metrics.map(Metric::to_string).collect()
    };
    let mut lacking = missing(Model::After);
    if has_before {
        lacking.extend(missing(Model::Before).into_iter().map(|name| format!("{name} (before)")));
    }
    if !lacking.is_empty() {
        found.push(format!("{path} has no {}", lacking.join(", ")));
    }
    found
}

fn of_variant(variant: &Variant) -> Option<String> {
    match variant.runs.iter().filter(|run| run.lacks().is_none()).count() {
        0 => Some(format!("{} has no evaluated run", variant.name)),
        1 => Some(format!("{} has one evaluated run: there is no interval", variant.name)),
        _ => None,
    }
}

fn without_pairs(variants: &[Variant], baseline: &Variant) -> Vec<String> {
    let has_pair =
        |variant: &Variant| variant.runs.iter().any(|run| baseline.run_of(run.replicate).is_some());
    let alone = variants.iter().filter(|variant| !has_pair(variant));
    alone.map(|variant| format!("{} and {} have no seed in common", variant.name, baseline.name)).collect()
}

fn of_judges(rows: &[Row]) -> Option<String> {
    let absent = absent(rows);
    if rows.is_empty() || absent.is_empty() {
        return None;
    }
    let why = if absent.iter().all(|name| name.ends_with("_llm")) {
        ": a run asks no judge, `medgrpo eval` does"
    } else {
        ""
    };
    Some(format!("no run has {}{why}", absent.join(", ")))
}

/// Programs and machines that are not the same for all runs.
fn of_environments(variants: &[Variant]) -> Vec<String> {
    let runs = || variants.iter().flat_map(|variant| &variant.runs);
    let different = |what: &str, of: fn(&Environment) -> Option<&String>| {
        let mut values: Vec<&str> =
            runs().flat_map(|run| &run.environments).filter_map(of).map(String::as_str).collect();
        values.sort_unstable();
        values.dedup();
        (values.len() > 1).then(|| format!("the runs differ in {what}: {}", values.join(", ")))
    };
    [
        different("the program's version", |environment| Some(&environment.medgrpo_version)),
        different("the commit they were started in", |environment| environment.git_revision.as_ref()),
        different("the device", |environment| Some(&environment.device)),
        different("the processor", |environment| environment.cpu.as_ref()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
