//! Metrics of datasets averaged over rows and over datasets, side by side.
//!
//! The official headlines take now one, now the other (`rows::set_headlines`); a number that changes with the choice says that
//! a large dataset hides a small one.

use std::collections::BTreeMap;

use medgrpo_datasets::TaskKind;
use serde::Serialize;

use super::{report::eval_key, rows::GroupNumbers};

/// One metric of a task over its datasets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Averages {
    /// Each dataset weighted by the rows it scored: micro.
    pub over_rows: f64,
    /// Each dataset that scored a row once: macro.
    pub over_datasets: f64,
}

/// Averages every finite metric of every task.
pub(crate) fn averages(
    groups: &BTreeMap<TaskKind, BTreeMap<&str, GroupNumbers>>,
) -> BTreeMap<&'static str, BTreeMap<&'static str, Averages>> {
    let mut found = BTreeMap::new();
    for (task, datasets) in groups {
        let mut sums: BTreeMap<&'static str, [f64; 4]> = BTreeMap::new();
        for numbers in datasets.values().filter(|numbers| numbers.counts.n_scored() > 0) {
            let weight = numbers.counts.n_scored() as f64;
            for (name, value) in numbers.metrics.iter().filter(|(_, value)| value.is_finite()) {
                let sums = sums.entry(name).or_default();
                for (sum, term) in sums.iter_mut().zip([weight * value, weight, *value, 1.0]) {
                    *sum += term;
                }
            }
        }
        let mean = |[over_rows, rows, over_datasets, datasets]: [f64; 4]| Averages {
            over_rows: over_rows / rows,
            over_datasets: over_datasets / datasets,
        };
        let means: BTreeMap<_, _> = sums.into_iter().map(|(name, sums)| (name, mean(sums))).collect();
        found.insert(eval_key(*task), means);
    }
    found
}
