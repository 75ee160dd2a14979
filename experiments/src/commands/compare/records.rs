//! Whether runs were evaluated on the same records with the same truth: without that, their numbers are not to be
//! compared.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

use super::{
    run::{Model, Replicate, Run},
    settings::Settings,
};

/// What is known of the records of an evaluation.
#[derive(Debug, PartialEq)]
struct Records<'a> {
    /// Row, `qa_type` and dataset of every record, by split.
    asked: BTreeMap<&'a str, Vec<(usize, &'a str, &'a str)>>,
    /// What the constant answers earned: they come from the training records, so other scores are another truth.
    constant_scores: Vec<&'a Value>,
}

impl<'a> Records<'a> {
    fn of(run: &'a Run) -> Option<Self> {
        let reports = run.reports(Model::Constant).filter(|_| run.reports(Model::After).is_some())?;
        let mut found = Self { asked: BTreeMap::new(), constant_scores: Vec::new() };
        for (split, reports) in reports {
            let records = &reports.official.per_record;
            let asked = records
                .iter()
                .map(|record| (record.row, record.qa_type.as_str(), record.data_source.as_str()));
            found.asked.insert(split, asked.collect());
            found.constant_scores.extend(records.iter().map(|record| &record.score));
        }
        Some(found)
    }

    fn counts(&self) -> String {
        let count = |(split, asked): (&&str, &Vec<_>)| format!("{} of {split}", asked.len());
        self.asked.iter().map(count).collect::<Vec<_>>().join(", ")
    }
}

/// Looks through all pairs of runs of one seed; gives what is worth knowing and no mistake.
///
/// # Errors
///
/// If runs that are to be compared were evaluated on different records, or on a different truth.
pub(super) fn check(runs: &[&Run]) -> Result<Vec<String>> {
    let mut remarks = Vec::new();
    let mut first: BTreeMap<Replicate, (&Run, Records<'_>)> = BTreeMap::new();
    for &run in runs {
        let Some(records) = Records::of(run) else { continue };
        let Some((other, of_other)) = first.get(&run.replicate) else {
            first.insert(run.replicate, (run, records));
            continue;
        };
        let pair = format!("{} and {} ({})", other.path.display(), run.path.display(), run.replicate);
        if records.asked != of_other.asked {
            bail!(
                "{pair} were evaluated on different records ({} and {}): compare runs with the same data.eval, \
                 evaluate.splits and evaluate.limit",
                of_other.counts(),
                records.counts()
            );
        }
        if records.constant_scores != of_other.constant_scores {
            if of_data(&other.settings).eq(of_data(&run.settings)) {
                bail!(
                    "{pair} were evaluated against different truths, though their experiments name the same files: the \
                     same constant answers have other scores; evaluate both on one file"
                );
            }
            remarks.push(format!(
                "{pair} have other constant answers, since they have other data: that the truth they were evaluated \
                 against is the same is not checked"
            ));
        }
    }
    let mut distinct: Vec<&Records<'_>> = Vec::new();
    for (_, records) in first.values() {
        if !distinct.contains(&records) {
            distinct.push(records);
        }
    }
    if distinct.len() > 1 {
        remarks.push(
            "runs of different seeds were evaluated on different records or trained on different ones: means are over both, \
             differences are within a seed"
                .to_owned(),
        );
    }
    Ok(remarks)
}

/// The settings that constant answers depend on.
fn of_data(settings: &Settings) -> impl Iterator<Item = (&String, &String)> {
    let is_of_data = |key: &str| {
        ["data.", "practice.", "video.", "model."].iter().any(|start| key.starts_with(start))
            || key.contains(".data.")
    };
    settings.iter().filter(move |(key, _)| is_of_data(key))
}
