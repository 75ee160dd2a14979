//! Rows on their way to numbers: what one row gave, and averages over any multiset of rows.
//!
//! Rows are scored once; groups, datasets, headlines and bootstrap resamples are all averages of the same scores.

use std::collections::BTreeMap;

use medgrpo_datasets::{Content, Role, TaskKind, TaskSample};
use serde_json::{Value, json};

use super::{
    judged::{self, Judged},
    report::{Captions, Counts, Overall, Rules},
};
use crate::metric::scores::{ByClass, ExactByName};

/// One answered sample.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) index: usize,
    pub(crate) sample: &'a TaskSample,
    pub(crate) text: &'a str,
}

impl Row<'_> {
    /// The question: the text of the last user turn.
    pub(crate) fn question(&self) -> String {
        let turn = self.sample.prompt.iter().rev().find(|message| message.role == Role::User);
        let texts =
            turn.into_iter().flat_map(|message| &message.content).filter_map(|content| match content {
                Content::Text(text) => Some(text.as_str()),
                Content::Image(_) | Content::Video(_) => None,
            });
        texts.collect::<Vec<_>>().concat()
    }
}

/// What one row gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scored {
    /// The score in the form of the official scorer.
    pub(crate) score: Value,
    /// The score as one number; `None` where the metric passes the row over.
    pub(crate) value: Option<f64>,
    /// Numbers that groups average by name.
    pub(crate) numbers: Vec<(&'static str, f64)>,
    /// Gold scores by name and whether they were given: averaged by name and score, then by name.
    pub(crate) by_class: Vec<(String, i64, bool)>,
    /// Scores by name and whether they are right: averaged by name first.
    pub(crate) exact: BTreeMap<String, bool>,
    /// What the judge said of its captions; `None` where it was not asked.
    pub(crate) judged: Option<Judged>,
    /// What these judgements come to for this row alone.
    pub(crate) caption_score: Option<f64>,
    pub(crate) unparsable: bool,
    pub(crate) unresolved: bool,
    pub(crate) without_gold: bool,
}

impl Scored {
    /// A row that the metric passes over for lack of an answer.
    pub(crate) fn skipped(unparsable: bool) -> Self {
        Self { unparsable, ..Self::default() }
    }

    /// A row that cannot be scored for lack of usable ground truth.
    pub(crate) fn without_gold(unparsable: bool) -> Self {
        Self { without_gold: true, ..Self::skipped(unparsable) }
    }

    /// A row scored by one number.
    pub(crate) fn number(name: &'static str, value: f64, unparsable: bool) -> Self {
        Self {
            score: json!(value),
            value: Some(value),
            numbers: vec![(name, value)],
            unparsable,
            ..Self::default()
        }
    }
}

/// A scored row with what it is grouped by.
pub(crate) struct Entry<'a> {
    pub(crate) row: Row<'a>,
    pub(crate) scored: Scored,
}

impl Entry<'_> {
    pub(crate) fn task(&self) -> TaskKind {
        self.row.sample.task
    }

    pub(crate) fn dataset(&self) -> &str {
        self.row.sample.source.as_str()
    }
}

/// Metrics and counts of one dataset under one task.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupNumbers {
    pub(crate) metrics: BTreeMap<&'static str, f64>,
    pub(crate) counts: Counts,
    pub(crate) judged: Option<Judged>,
}

/// The name under which a task's scores by name are averaged.
fn exact_metric(task: TaskKind) -> Option<&'static str> {
    match task {
        TaskKind::Cvs => Some("cvs_acc"),
        TaskKind::SkillAssessment => Some("sa_acc"),
        _ => None,
    }
}

/// Averages the rows of one dataset under one task.
pub(crate) fn aggregate<'a>(task: TaskKind, rows: impl Iterator<Item = &'a Scored>) -> GroupNumbers {
    let mut sums: BTreeMap<&'static str, (f64, f64)> = BTreeMap::new();
    let mut by_class = ByClass::default();
    let mut exact = ExactByName::default();
    let mut counts = Counts::default();
    let mut judged: Option<Judged> = None;
    for row in rows {
        for &(name, number) in &row.numbers {
            let (sum, count) = sums.entry(name).or_default();
            *sum += number;
            *count += 1.0;
        }
        for (name, class, right) in &row.by_class {
            by_class.add(name, *class, *right);
        }
        exact.add(&row.exact);
        if let Some(row) = &row.judged {
            judged.get_or_insert_default().add(row);
        }
        counts.n_total += 1;
        counts.n_parsed += usize::from(!row.unparsable);
        counts.n_skipped += usize::from(row.value.is_none());
        counts.n_unresolved += usize::from(row.unresolved);
        counts.n_without_gold += usize::from(row.without_gold);
    }
    let mut metrics: BTreeMap<_, _> =
        sums.into_iter().map(|(name, (sum, count))| (name, sum / count)).collect();
    if let Some(mean_recall) = by_class.mean_recall() {
        metrics.insert("mean_class_recall", mean_recall);
    }
    if let Some(name) = exact_metric(task) {
        metrics.insert(name, exact.balanced_accuracy());
    }
    if let Some(judged) = &judged {
        counts.n_judged = judged.num_asked;
        counts.n_failed = judged.num_failed;
        if let (Some(name), Some(score)) = (judged::headline(task), judged.score(task)) {
            metrics.insert(name, score);
        }
    }
    GroupNumbers { metrics, counts, judged }
}

/// Averages the datasets of a task into its headline numbers; an error says why there are none.
///
/// The ways differ: TAG, STG and captions average records, NAP pools rows, DVC weights datasets by all their rows (a
/// dataset without a usable row counts as 0), CVS and SA average datasets.
pub(crate) fn set_headlines(
    task: TaskKind,
    groups: &BTreeMap<&str, GroupNumbers>,
    rules: Rules,
    overall: &mut Overall,
    captions: &mut Captions,
) -> Result<(), String> {
    if task != TaskKind::Tag
        && groups.values().all(|group| group.counts.n_without_gold == group.counts.n_total)
    {
        return Err("no row has usable ground truth".to_owned());
    }
    let weighted = |name: &str, weight: &dyn Fn(&GroupNumbers) -> usize| {
        let (mut sum, mut total) = (0.0, 0.0);
        for group in groups.values() {
            let weight = weight(group) as f64;
            sum += weight * group.metrics.get(name).copied().unwrap_or(0.0);
            total += weight;
        }
        let mean = if total > 0.0 { sum / total } else { 0.0 };
        if mean.is_finite() {
            Ok(Some(mean))
        } else {
            Err(format!("{name} is not a number: an answer holds NaN or infinity"))
        }
    };
    let mean = |name: &str, weight: fn(&Counts) -> usize| weighted(name, &|group| weight(&group.counts));
    // By the official rules a dataset weighs by all its rows in dense captioning, whatever was judged there.
    let judged = |name: &str| match groups.values().any(|group| group.judged.is_some()) {
        true if rules == Rules::Official && task == TaskKind::DenseCaptioning => {
            mean(name, |counts| counts.n_total)
        }
        true => weighted(name, &|group| group.judged.as_ref().map_or(0, Judged::num_scored)),
        false => Ok(None),
    };
    let scored = Counts::n_scored;
    match task {
        TaskKind::Tag => {
            overall.tag_miou_03 = mean("tag_miou_03", scored)?;
            overall.tag_miou_05 = mean("tag_miou_05", scored)?;
        }
        TaskKind::Stg => overall.stg_miou = mean("stg_miou", scored)?,
        TaskKind::DenseCaptioning => {
            overall.dvc_f1 = mean("dvc_f1", |counts| counts.n_total)?;
            overall.dvc_llm = judged("dvc_llm")?;
        }
        TaskKind::NextAction => overall.nap_acc = mean("nap_acc", scored)?,
        TaskKind::Cvs => overall.cvs_acc = mean("cvs_acc", |_| 1)?,
        TaskKind::SkillAssessment => overall.sa_acc = mean("sa_acc", |_| 1)?,
        TaskKind::VideoSummary => {
            captions.vs_rouge_l = mean("rouge_l", scored)?;
            overall.vs_llm = judged("vs_llm")?;
        }
        TaskKind::RegionCaption => {
            captions.rc_rouge_l = mean("rouge_l", scored)?;
            overall.rc_llm = judged("rc_llm")?;
        }
        TaskKind::OpenQuestion => captions.open_rouge_l = mean("rouge_l", scored)?,
    }
    Ok(())
}
