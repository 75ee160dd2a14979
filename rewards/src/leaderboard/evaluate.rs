//! From answered samples to a report.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use medgrpo_datasets::{TaskKind, TaskSample};

use super::{
    averages::averages,
    bootstrap::{Bootstrap, intervals},
    caption_metrics::caption_metrics,
    judged::judge_rows,
    official,
    report::{Captions, Counts, Group, Overall, Record, Report, Rules, eval_key},
    rows::{Entry, GroupNumbers, Row, Scored, aggregate, set_headlines},
    strict,
};
use crate::{embed::TextEmbedder, judge::Judge};

/// How to evaluate.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// By whose rules.
    pub rules: Rules,
    /// Maps next-action answers that are no class to the nearest one; without it they count as wrong.
    pub embedder: Option<&'a dyn TextEmbedder>,
    /// Judges captions; without it the judge's three numbers stay empty, with that as the reason.
    pub judge: Option<&'a dyn Judge>,
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
    let judge = judge_rows(&mut entries, options.rules, options.judge, embedder, &mut task_errors);
    let summary = summarise(&entries, options.rules, task_errors);
    let mut per_dataset: BTreeMap<&'static str, BTreeMap<String, Group>> = BTreeMap::new();
    let mut counts: BTreeMap<&'static str, Counts> = BTreeMap::new();
    for (task, datasets) in &summary.groups {
        for (&dataset, numbers) in datasets {
            per_dataset.entry(eval_key(*task)).or_default().insert(dataset.to_owned(), group(numbers));
            counts.entry(eval_key(*task)).or_default().add(numbers.counts);
        }
    }
    let lost = &summary.task_errors;
    let intervals = options.bootstrap.map(|bootstrap| intervals(&entries, options.rules, lost, bootstrap));
    let per_record = entries.iter().map(record).collect();
    Report {
        rules: options.rules,
        leaderboard_3dp: summary.overall.as_shown(options.rules),
        averages: averages(&summary.groups),
        overall: summary.overall,
        captions: summary.captions,
        caption_metrics: caption_metrics(&entries),
        intervals: intervals.unwrap_or_default(),
        per_dataset,
        per_fps: per_fps(&entries),
        judge,
        counts,
        per_record,
        task_errors: summary.task_errors,
        row_errors: BTreeMap::new(),
    }
}

/// The numbers of a group that are numbers.
fn group(numbers: &GroupNumbers) -> Group {
    let finite = numbers.metrics.iter().filter(|(_, value)| value.is_finite());
    Group { metrics: finite.map(|(&name, &value)| (name, value)).collect(), counts: numbers.counts }
}

/// Averages by task, dataset and frames per second (`2.0`, `0.25`).
fn per_fps(entries: &[Entry<'_>]) -> BTreeMap<&'static str, BTreeMap<String, BTreeMap<String, Group>>> {
    let mut grouped: BTreeMap<(TaskKind, &str, String), Vec<&Scored>> = BTreeMap::new();
    for entry in entries {
        let key = (entry.task(), entry.dataset(), format!("{:?}", entry.row.sample.fps));
        grouped.entry(key).or_default().push(&entry.scored);
    }
    let mut per_fps: BTreeMap<_, BTreeMap<String, BTreeMap<String, Group>>> = BTreeMap::new();
    for ((task, dataset, fps), rows) in grouped {
        let datasets = per_fps.entry(eval_key(task)).or_default();
        let numbers = group(&aggregate(task, rows.into_iter()));
        datasets.entry(dataset.to_owned()).or_default().insert(fps, numbers);
    }
    per_fps
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
        caption_score: entry.scored.caption_score,
        n_failed: entry.scored.judged.as_ref().map_or(0, |judged| judged.num_failed),
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
    rules: Rules,
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
            && let Err(reason) = set_headlines(task, &numbers, rules, &mut overall, &mut captions)
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
        self.embed_all(&[text]).pop().flatten()
    }

    fn embed_all(&self, texts: &[&str]) -> Vec<Option<Vec<f32>>> {
        // Not held while embedding, which may hand this thread another row that asks here too.
        let vectors = || self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: BTreeSet<&str> = {
            let known = vectors();
            texts.iter().copied().filter(|text| !known.contains_key(*text)).collect()
        };
        if !missing.is_empty() {
            let missing: Vec<&str> = missing.into_iter().collect();
            let found = self.embedder.embed_all(&missing);
            vectors().extend(missing.into_iter().map(str::to_owned).zip(found));
        }
        let known = vectors();
        texts.iter().map(|text| known.get(*text).cloned().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::Counting;

    #[test]
    fn what_is_missing_is_asked_for_at_once_and_only_once() {
        let counting = Counting::default();
        let cached = Cached::new(&counting);
        let of = |text: &str| counting.vector(text);
        assert_eq!(cached.embed("cut"), of("cut"));
        assert_eq!(
            cached.embed_all(&["tie", "cut", "", "tie", "clip"]),
            [of("tie"), of("cut"), None, of("tie"), of("clip")]
        );
        // What has no vector is not asked for again either.
        assert_eq!(cached.embed_all(&["", "clip", "cut"]), [None, of("clip"), of("cut")]);
        assert_eq!(cached.embed_all(&[]), []);
        assert_eq!(counting.asked(), [vec!["cut"], vec!["", "clip", "tie"]]);
    }
}
