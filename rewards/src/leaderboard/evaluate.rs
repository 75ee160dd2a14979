//! Scores records and averages them, each task in the way the official scorer does.
//!
//! The ways differ: TAG and STG average records, NAP pools rows, DVC weights datasets by all their rows, CVS and SA average
//! scores of one name, then names, then datasets. What a metric passes over is counted, never hidden.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Mutex,
};

use medgrpo_datasets::{Content, Gold, Role, TaskKind, TaskSample};
use serde_json::{Value, json};

use super::report::{Captions, Counts, Group, Overall, Record, Report, eval_key};
use crate::{
    embed::TextEmbedder,
    metric::{box_iou, dvc_f1, next_action, rouge_l, scores, scores::ExactByName, span_iou},
    parse,
};

/// Evaluates answers by the official rules, without an embedder: next-action answers that are no class count as wrong.
///
/// Every sample needs its ground truth; rows without are counted, not scored.
pub fn evaluate(pairs: &[(TaskSample, String)]) -> Report {
    evaluate_with(pairs, None)
}

/// [`evaluate`] with an embedder for the nearest-class step of next-action questions.
pub fn evaluate_with(pairs: &[(TaskSample, String)], embedder: Option<&dyn TextEmbedder>) -> Report {
    let rows = pairs
        .iter()
        .enumerate()
        .map(|(index, (sample, text))| Row { index, sample, text })
        .collect();
    evaluate_rows(rows, embedder, BTreeMap::new())
}

/// One answered sample.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) index: usize,
    pub(crate) sample: &'a TaskSample,
    pub(crate) text: &'a str,
}

/// What one row gave.
struct Scored {
    score: Value,
    value: Option<f64>,
    unparsable: bool,
    unresolved: bool,
    without_gold: bool,
}

impl Scored {
    fn new(score: Value, value: Option<f64>, unparsable: bool) -> Self {
        Self {
            score,
            value,
            unparsable,
            unresolved: false,
            without_gold: false,
        }
    }

    fn without_gold(unparsable: bool) -> Self {
        Self {
            without_gold: true,
            ..Self::new(Value::Null, None, unparsable)
        }
    }
}

/// What one dataset of one task gave.
struct ScoredGroup {
    rows: Vec<Scored>,
    metrics: BTreeMap<&'static str, f64>,
}

/// Evaluates rows; `task_errors` names tasks that are lost already, whose rows must not be among `rows`.
pub(crate) fn evaluate_rows(
    rows: Vec<Row<'_>>,
    embedder: Option<&dyn TextEmbedder>,
    mut task_errors: BTreeMap<&'static str, String>,
) -> Report {
    let embedder = embedder.map(Cached::new);
    let embedder = embedder.as_ref().map(|cached| cached as &dyn TextEmbedder);
    let mut groups: BTreeMap<TaskKind, BTreeMap<&str, Vec<Row<'_>>>> = BTreeMap::new();
    for row in rows {
        let datasets = groups.entry(row.sample.task).or_default();
        datasets.entry(row.sample.source.as_str()).or_default().push(row);
    }
    let mut report = Report {
        rules: "official",
        overall: Overall::default(),
        leaderboard_3dp: Overall::default(),
        captions: Captions::default(),
        per_dataset: BTreeMap::new(),
        counts: BTreeMap::new(),
        per_record: Vec::new(),
        task_errors: BTreeMap::new(),
    };
    for (task, datasets) in groups {
        let key = eval_key(task);
        let mut scored: Vec<(Counts, BTreeMap<&'static str, f64>)> = Vec::new();
        for (dataset, rows) in datasets {
            let group = score_group(task, dataset, &rows, embedder).unwrap_or_else(|reason| {
                task_errors.insert(key, reason);
                let rows = rows
                    .iter()
                    .map(|_| Scored::new(Value::Null, None, false))
                    .collect();
                ScoredGroup {
                    rows,
                    metrics: BTreeMap::new(),
                }
            });
            let mut counts = Counts {
                n_rows: rows.len(),
                ..Counts::default()
            };
            for (row, result) in rows.iter().zip(group.rows) {
                counts.n_scored += usize::from(result.value.is_some());
                counts.n_unparsable += usize::from(result.unparsable);
                counts.n_unresolved += usize::from(result.unresolved);
                counts.n_without_gold += usize::from(result.without_gold);
                report.per_record.push(Record {
                    index: row.index,
                    row: row.sample.row,
                    task: task.key(),
                    qa_type: row.sample.qa_type.clone(),
                    data_source: dataset.to_owned(),
                    score: result.score,
                    value: result.value.filter(|value| value.is_finite()),
                    unparsable: result.unparsable,
                });
            }
            report.counts.entry(key).or_default().add(counts);
            let metrics = group.metrics;
            scored.push((counts, metrics.clone()));
            let metrics = metrics
                .into_iter()
                .filter(|(_, value)| value.is_finite())
                .collect();
            report
                .per_dataset
                .entry(key)
                .or_default()
                .insert(dataset.to_owned(), Group { metrics, counts });
        }
        if !task_errors.contains_key(key)
            && let Err(reason) = set_overall(&mut report, task, &scored)
        {
            task_errors.insert(key, reason);
        }
    }
    report.per_record.sort_by_key(|record| record.index);
    report.leaderboard_3dp = report.overall.as_shown();
    report.task_errors = task_errors;
    report
}

/// Averages the datasets of a task into its headline numbers.
fn set_overall(
    report: &mut Report,
    task: TaskKind,
    groups: &[(Counts, BTreeMap<&'static str, f64>)],
) -> Result<(), String> {
    if groups
        .iter()
        .all(|(counts, _)| counts.n_without_gold == counts.n_rows)
        && task != TaskKind::Tag
    {
        return Err("no row has ground truth".to_owned());
    }
    let mean = |name: &str, weight: &dyn Fn(&Counts) -> f64| {
        let (mut sum, mut total) = (0.0, 0.0);
        for (counts, metrics) in groups {
            if let Some(value) = metrics.get(name) {
                sum += weight(counts) * value;
                total += weight(counts);
            }
        }
        let mean = if total > 0.0 { sum / total } else { 0.0 };
        if mean.is_finite() {
            Ok(Some(mean))
        } else {
            Err(format!("{name} is not a number: an answer holds NaN or infinity"))
        }
    };
    let by_rows = |counts: &Counts| counts.n_rows as f64;
    let by_scored = |counts: &Counts| counts.n_scored as f64;
    let overall = &mut report.overall;
    match task {
        TaskKind::Tag => {
            overall.tag_miou_03 = mean("tag_miou_03", &by_scored)?;
            overall.tag_miou_05 = mean("tag_miou_05", &by_scored)?;
        }
        TaskKind::Stg => overall.stg_miou = mean("stg_miou", &by_scored)?,
        TaskKind::DenseCaptioning => overall.dvc_f1 = mean("dvc_f1", &by_rows)?,
        TaskKind::NextAction => overall.nap_acc = mean("nap_acc", &by_scored)?,
        TaskKind::Cvs => overall.cvs_acc = mean("cvs_acc", &|_| 1.0)?,
        TaskKind::SkillAssessment => overall.sa_acc = mean("sa_acc", &|_| 1.0)?,
        TaskKind::VideoSummary => report.captions.vs_rouge_l = mean("rouge_l", &by_scored)?,
        TaskKind::RegionCaption => report.captions.rc_rouge_l = mean("rouge_l", &by_scored)?,
        TaskKind::OpenQuestion => report.captions.open_rouge_l = mean("rouge_l", &by_scored)?,
    }
    Ok(())
}

/// Scores the rows of one dataset; an error loses the task, as it does in the official scorer.
fn score_group(
    task: TaskKind,
    dataset: &str,
    rows: &[Row<'_>],
    embedder: Option<&dyn TextEmbedder>,
) -> Result<ScoredGroup, String> {
    Ok(match task {
        TaskKind::Tag => tag(rows),
        TaskKind::Stg => stg(rows),
        TaskKind::DenseCaptioning => dense_captioning(rows)?,
        TaskKind::NextAction => next_action_accuracy(dataset, rows, embedder),
        TaskKind::Cvs => exact_scores("cvs_acc", rows, |text| {
            let scores = parse::cvs::parse(text);
            (!scores.is_empty()).then_some(scores)
        }),
        TaskKind::SkillAssessment => exact_scores("sa_acc", rows, |text| {
            let answer = parse::skill::parse(text);
            answer.mean_score.map(|_| answer.aspects)
        }),
        TaskKind::VideoSummary | TaskKind::RegionCaption | TaskKind::OpenQuestion => captions(rows),
    })
}

/// The mean of the numbers, 0 of none.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

/// The mean over rows of one field of their scores.
fn mean_field(rows: &[Scored], field: &str) -> f64 {
    mean(rows.iter().filter_map(|row| row.score.get(field)?.as_f64()))
}

/// TAG: every row counts, 0 where there is no gold span or no predicted one.
fn tag(rows: &[Row<'_>]) -> ScoredGroup {
    let rows: Vec<Scored> = rows
        .iter()
        .map(|row| {
            let spans = parse::tag::parse(row.text);
            let gold = match &row.sample.gold {
                Gold::Spans(gold) => gold.as_slice(),
                _ => &[],
            };
            let fps = row.sample.fps;
            let (predicted, scaled_gold) = (span_iou::scaled(&spans, fps), span_iou::scaled(gold, fps));
            let [low, high] = [0.3, 0.5].map(|t| span_iou::official(&predicted, &scaled_gold, t));
            let score = json!({
                "recall@0.3": low.recall, "meanIoU@0.3": low.mean_iou,
                "recall@0.5": high.recall, "meanIoU@0.5": high.mean_iou,
            });
            Scored {
                without_gold: gold.is_empty(),
                ..Scored::new(score, Some(low.mean_iou), spans.is_empty())
            }
        })
        .collect();
    let metrics = BTreeMap::from([
        ("tag_miou_03", mean_field(&rows, "meanIoU@0.3")),
        ("tag_miou_05", mean_field(&rows, "meanIoU@0.5")),
        ("tag_recall_03", mean_field(&rows, "recall@0.3")),
        ("tag_recall_05", mean_field(&rows, "recall@0.5")),
    ]);
    ScoredGroup { rows, metrics }
}

/// STG: rows without a gold box that can be scored are passed over.
fn stg(rows: &[Row<'_>]) -> ScoredGroup {
    let rows: Vec<Scored> = rows
        .iter()
        .map(|row| {
            let boxes = parse::stg::parse(row.text);
            let score = match &row.sample.gold {
                Gold::Boxes(gold) => box_iou::official(&boxes, gold),
                _ => None,
            };
            match score {
                Some(score) => Scored::new(json!(score), Some(score), boxes.is_empty()),
                None => Scored::without_gold(boxes.is_empty()),
            }
        })
        .collect();
    let metrics = BTreeMap::from([("stg_miou", mean(rows.iter().filter_map(|row| row.value)))]);
    ScoredGroup { rows, metrics }
}

/// DVC: rows without a predicted or a gold event are passed over, yet weigh in the dataset's share.
fn dense_captioning(rows: &[Row<'_>]) -> Result<ScoredGroup, String> {
    let mut scored = Vec::with_capacity(rows.len());
    for row in rows {
        let mut events = parse::dvc::parse(row.text);
        let unparsable = events.is_empty();
        if parse::dvc::has_overlap(&events) {
            events = parse::dvc::flatten_longest(&events);
        }
        let Gold::Segments(gold) = &row.sample.gold else {
            scored.push(Scored::without_gold(unparsable));
            continue;
        };
        let frames = |events: &[medgrpo_datasets::Segment]| -> Option<Vec<dvc_f1::FrameSpan>> {
            let frame = |sec| dvc_f1::frame(sec, row.sample.fps);
            events
                .iter()
                .map(|e| Some([frame(e.span.start_sec)?, frame(e.span.end_sec)?]))
                .collect()
        };
        let (Some(predicted), Some(gold)) = (frames(&events), frames(gold)) else {
            return Err(format!(
                "row {}: a time is too large to be a frame number",
                row.index
            ));
        };
        scored.push(match dvc_f1::official(&predicted, &gold) {
            Some(score) => {
                let value = json!({
                    "temporal_f1": score.f1,
                    "temporal_precision": score.precision,
                    "temporal_recall": score.recall,
                });
                Scored::new(value, Some(score.f1), unparsable)
            }
            None if gold.is_empty() => Scored::without_gold(unparsable),
            None => Scored::new(Value::Null, None, unparsable),
        });
    }
    let metrics = BTreeMap::from([
        ("dvc_f1", mean_field(&scored, "temporal_f1")),
        ("dvc_precision", mean_field(&scored, "temporal_precision")),
        ("dvc_recall", mean_field(&scored, "temporal_recall")),
    ]);
    Ok(ScoredGroup {
        rows: scored,
        metrics,
    })
}

/// The question of a sample: the text of its last user turn.
pub(crate) fn question(sample: &TaskSample) -> String {
    let turn = sample
        .prompt
        .iter()
        .rev()
        .find(|message| message.role == Role::User);
    let texts = turn
        .into_iter()
        .flat_map(|message| &message.content)
        .filter_map(|content| match content {
            Content::Text(text) => Some(text.as_str()),
            Content::Image(_) | Content::Video(_) => None,
        });
    texts.collect::<Vec<_>>().concat()
}

/// NAP: rows whose gold class is empty or not in the list are passed over.
fn next_action_accuracy(dataset: &str, rows: &[Row<'_>], embedder: Option<&dyn TextEmbedder>) -> ScoredGroup {
    let gold = |row: &Row<'_>| match &row.sample.gold {
        Gold::Class(class) => parse::next_action::normalise(dataset, class),
        _ => String::new(),
    };
    let seen: BTreeSet<String> = rows.iter().map(gold).filter(|class| !class.is_empty()).collect();
    let seen: Vec<String> = seen.into_iter().collect();
    let rows: Vec<Scored> = rows
        .iter()
        .map(|row| {
            let answer = parse::next_action::normalise(dataset, row.text);
            let unparsable = answer.is_empty();
            let classes = parse::next_action::classes(dataset, &question(row.sample)).unwrap_or(&seen);
            let gold = gold(row);
            let Some(gold) = classes.iter().position(|class| *class == gold) else {
                return Scored::without_gold(unparsable);
            };
            let resolved = next_action::resolve(&answer, classes, embedder);
            let score = if resolved.class() == Some(gold) { 1.0 } else { 0.0 };
            let unresolved = resolved == next_action::Resolved::Unresolved;
            Scored {
                unresolved,
                ..Scored::new(json!(score), Some(score), unparsable)
            }
        })
        .collect();
    let metrics = BTreeMap::from([("nap_acc", mean(rows.iter().filter_map(|row| row.value)))]);
    ScoredGroup { rows, metrics }
}

/// CVS and SA: exact accuracy by name over the rows that give the name.
fn exact_scores(
    metric: &'static str,
    rows: &[Row<'_>],
    parse: impl Fn(&str) -> Option<BTreeMap<String, i64>>,
) -> ScoredGroup {
    let mut all = ExactByName::default();
    let rows: Vec<Scored> = rows
        .iter()
        .map(|row| {
            let answer = parse(row.text);
            let (Gold::CvsScores(gold) | Gold::SkillScores(gold)) = &row.sample.gold else {
                return Scored::without_gold(answer.is_none());
            };
            if gold.is_empty() {
                return Scored::without_gold(answer.is_none());
            }
            let Some(answer) = answer else {
                return Scored::new(json!({}), None, true);
            };
            let exact = scores::exact(&answer, gold);
            all.add(&exact);
            let right = exact.values().filter(|&&right| right).count();
            let score: serde_json::Map<String, Value> = exact
                .iter()
                .map(|(name, &right)| (name.clone(), json!(u8::from(right))))
                .collect();
            Scored::new(
                Value::Object(score),
                Some(right as f64 / gold.len() as f64),
                false,
            )
        })
        .collect();
    ScoredGroup {
        rows,
        metrics: BTreeMap::from([(metric, all.balanced_accuracy())]),
    }
}

/// VS, RC and open questions: ROUGE-L, an empty answer counting as 0.
fn captions(rows: &[Row<'_>]) -> ScoredGroup {
    let rows: Vec<Scored> = rows
        .iter()
        .map(|row| {
            let unparsable = row.text.trim().is_empty();
            match &row.sample.gold {
                Gold::Text(reference) if !rouge_l::words(reference).is_empty() => {
                    // The official score of a caption is the judge's, which is not computed here.
                    Scored::new(
                        Value::Null,
                        Some(rouge_l::rouge_l(row.text, reference)),
                        unparsable,
                    )
                }
                _ => Scored::without_gold(unparsable),
            }
        })
        .collect();
    let metrics = BTreeMap::from([("rouge_l", mean(rows.iter().filter_map(|row| row.value)))]);
    ScoredGroup { rows, metrics }
}

/// Asks an embedder for each text once.
struct Cached<'a> {
    embedder: &'a dyn TextEmbedder,
    vectors: Mutex<HashMap<String, Option<Vec<f32>>>>,
}

impl<'a> Cached<'a> {
    fn new(embedder: &'a dyn TextEmbedder) -> Self {
        Self {
            embedder,
            vectors: Mutex::default(),
        }
    }
}

impl TextEmbedder for Cached<'_> {
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let mut vectors = self
            .vectors
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = vectors.get(text) {
            return known.clone();
        }
        let vector = self.embedder.embed(text);
        vectors.insert(text.to_owned(), vector.clone());
        vector
    }
}
