//! From answered samples to a report.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
};

use medgrpo_datasets::{TaskKind, TaskSample};

use super::{
    averages::averages,
    bootstrap::{Bootstrap, intervals},
    official,
    report::{Captions, Group, Overall, Record, Report, Rules, eval_key},
    rows::{Entry, GroupNumbers, Row, Scored, aggregate, set_headlines},
    strict,
};
use crate::embed::TextEmbedder;

/// How to evaluate.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// By whose rules.
    pub rules: Rules,
    /// Maps next-action answers that are no class to the nearest one; without it they count as wrong.
    pub embedder: Option<&'a dyn TextEmbedder>,
    /// Confidence intervals beside the headline numbers.
    pub bootstrap: Option<Bootstrap>,
}

/// Evaluates answers by the official rules, without an embedder or intervals.
///
/// Every sample needs its ground truth; rows without are counted, not scored.
pub fn evaluate(pairs: &[(TaskSample, String)]) -> Report {
    evaluate_with(pairs, &Options::default())
}

/// Evaluates answers as the options say.
pub fn evaluate_with(pairs: &[(TaskSample, String)], options: &Options<'_>) -> Report {
    let rows = pairs.iter().enumerate().map(|(index, (sample, text))| Row { index, sample, text }).collect();
    evaluate_rows(rows, options, BTreeMap::new())
}

/// The rows of each dataset under each task.
type Grouped<'e, T> = BTreeMap<TaskKind, BTreeMap<&'e str, Vec<T>>>;

/// Evaluates rows; tasks named in `task_errors` are lost already: their rows are listed, but give no number.
pub(crate) fn evaluate_rows(
    rows: Vec<Row<'_>>,
    options: &Options<'_>,
    mut task_errors: BTreeMap<&'static str, String>,
) -> Report {
    let embedder = options.embedder.map(Cached::new);
    let embedder = embedder.as_ref().map(|cached| cached as &dyn TextEmbedder);
    let mut grouped: Grouped<'_, Row<'_>> = BTreeMap::new();
    for row in rows {
        let datasets = grouped.entry(row.sample.task).or_default();
        datasets.entry(row.sample.source.as_str()).or_default().push(row);
    }
    let mut entries = Vec::new();
    for (task, datasets) in grouped {
        for (dataset, rows) in datasets {
            let scores = match options.rules {
                Rules::Official => official::score(task, dataset, &rows, embedder).unwrap_or_else(|reason| {
                    task_errors.insert(eval_key(task), reason);
                    vec![Scored::default(); rows.len()]
                }),
                Rules::Strict => strict::score(task, dataset, &rows, embedder),
            };
            entries.extend(rows.into_iter().zip(scores).map(|(row, scored)| Entry { row, scored }));
        }
    }
    entries.sort_by_key(|entry| entry.row.index);
    let summary = summarise(&entries, task_errors);
    let mut per_dataset: BTreeMap<&'static str, BTreeMap<String, Group>> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (task, datasets) in &summary.groups {
        for (&dataset, group) in datasets {
            let metrics = group
                .metrics
                .iter()
                .filter(|(_, value)| value.is_finite())
                .map(|(&name, &value)| (name, value));
            let report = Group { metrics: metrics.collect(), counts: group.counts };
            per_dataset.entry(eval_key(*task)).or_default().insert(dataset.to_owned(), report);
            counts.entry(eval_key(*task)).or_insert_with(super::report::Counts::default).add(group.counts);
        }
    }
    let intervals = options.bootstrap.map(|bootstrap| intervals(&entries, &summary.task_errors, bootstrap));
    let per_record = entries.iter().map(record).collect();
    Report {
        rules: options.rules,
        leaderboard_3dp: summary.overall.as_shown(options.rules),
        averages: averages(&summary.groups),
        overall: summary.overall,
        captions: summary.captions,
        intervals: intervals.unwrap_or_default(),
        per_dataset,
        counts,
        per_record,
        task_errors: summary.task_errors,
        row_errors: BTreeMap::new(),
    }
}

fn record(entry: &Entry<'_>) -> Record {
    let Row { index, sample, .. } = entry.row;
    Record {
        index,
        row: sample.row,
        task: sample.task.key(),
        qa_type: sample.qa_type.clone(),
        data_source: entry.dataset().to_owned(),
        score: entry.scored.score.clone(),
        value: entry.scored.value.filter(|value| value.is_finite()),
        unparsable: entry.scored.unparsable,
    }
}

/// The averages of a multiset of rows.
pub(crate) struct Summary<'e> {
    pub(crate) overall: Overall,
    pub(crate) captions: Captions,
    pub(crate) groups: BTreeMap<TaskKind, BTreeMap<&'e str, GroupNumbers>>,
    pub(crate) task_errors: BTreeMap<&'static str, String>,
}

/// Averages rows into groups and groups into headlines, leaving out the tasks that are lost.
pub(crate) fn summarise<'e>(
    entries: impl IntoIterator<Item = &'e Entry<'e>>,
    mut task_errors: BTreeMap<&'static str, String>,
) -> Summary<'e> {
    let mut grouped: Grouped<'e, &Scored> = BTreeMap::new();
    for entry in entries {
        grouped.entry(entry.task()).or_default().entry(entry.dataset()).or_default().push(&entry.scored);
    }
    let (mut overall, mut captions) = (Overall::default(), Captions::default());
    let mut groups = BTreeMap::new();
    for (task, datasets) in grouped {
        let numbers: BTreeMap<&str, GroupNumbers> = datasets
            .into_iter()
            .map(|(dataset, rows)| (dataset, aggregate(task, rows.into_iter())))
            .collect();
        let key = eval_key(task);
        if !task_errors.contains_key(key)
            && let Err(reason) = set_headlines(task, &numbers, &mut overall, &mut captions)
        {
            task_errors.insert(key, reason);
        }
        groups.insert(task, numbers);
    }
    Summary { overall, captions, groups, task_errors }
}

/// Asks an embedder for each text once.
struct Cached<'a> {
    embedder: &'a dyn TextEmbedder,
    vectors: Mutex<HashMap<String, Option<Vec<f32>>>>,
}

impl<'a> Cached<'a> {
    fn new(embedder: &'a dyn TextEmbedder) -> Self {
        Self { embedder, vectors: Mutex::default() }
    }
}

impl TextEmbedder for Cached<'_> {
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let mut vectors = self.vectors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = vectors.get(text) {
            return known.clone();
        }
        let vector = self.embedder.embed(text);
        vectors.insert(text.to_owned(), vector.clone());
        vector
    }
}
