//! An evaluation as a page: the table, and of each task the best, the middle and the worst answer.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use medgrpo_datasets::{
    TaskKind, TaskSample,
    medvidbench::{convert, schema},
};
use medgrpo_rewards::leaderboard::{official_task, report::Record, samples};
use serde_json::Value;

use super::{
    Evaluation,
    table::{averages, captions, heading, names, notes, value},
};
use crate::{
    cards::{answer, card},
    cli::EvalArgs,
    report::{Column, EvaluationTable, Page, Row, SampleCard, page_html},
};

/// The page; `texts` are the answers by row.
pub(super) fn html(
    args: &EvalArgs,
    evaluation: &Evaluation,
    records: &[Value],
    texts: &BTreeMap<usize, &str>,
) -> Result<String> {
    let report = &evaluation.report;
    let column = |name: &str| Column { name: name.to_owned(), delta_from: None };
    let row = |name: &'static str| {
        let task = name.split('_').next().and_then(TaskKind::from_key).map(TaskKind::key);
        let in_task = report.per_record.iter().filter(|record| Some(record.task) == task);
        Row {
            metric: name.to_owned(),
            num_records: in_task.count(),
            values: vec![value(report, name), value(&evaluation.baseline, name)],
        }
    };
    let mut facts = vec![
        ("evaluation".to_owned(), heading(report)),
        ("ground truth".to_owned(), args.ground_truth.display().to_string()),
        ("predictions".to_owned(), args.predictions.display().to_string()),
    ];
    facts.extend(report.counts.iter().map(|(task, n)| {
        let counts = format!(
            "{} rows, {} parsed, {} skipped, {} of {} judgements failed",
            n.n_total, n.n_parsed, n.n_skipped, n.n_failed, n.n_judged
        );
        ((*task).to_owned(), counts)
    }));
    facts.extend(evaluation.warnings.iter().map(|warning| ("warning".to_owned(), warning.clone())));
    facts.extend(notes(evaluation).into_iter().map(|note| ("note".to_owned(), note)));
    let page = Page {
        title: args.predictions.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        facts,
        table: Some(EvaluationTable {
            columns: vec![column("predictions"), column(evaluation.baseline_source.name())],
            rows: names(report).into_iter().map(row).collect(),
        }),
        tables: [captions(evaluation), averages(report)].into_iter().flatten().collect(),
        cards: cards(args, evaluation, records, texts),
        ..Page::default()
    };
    Ok(page_html(&page)?)
}

fn cards(
    args: &EvalArgs,
    evaluation: &Evaluation,
    records: &[Value],
    texts: &BTreeMap<usize, &str>,
) -> Vec<SampleCard> {
    let mut cards = Vec::new();
    for task in TaskKind::BENCHMARK {
        let mut of_task: Vec<&Record> =
            evaluation.report.per_record.iter().filter(|record| record.task == task.key()).collect();
        of_task.sort_by(|a, b| worth(b).total_cmp(&worth(a)));
        let last = of_task.len().saturating_sub(1);
        let mut places = vec![0, last / 2, last];
        places.dedup();
        for found in places.into_iter().filter_map(|place| of_task.get(place)) {
            let Some(sample) = sample(args, &records[found.index], found.index, evaluation) else { continue };
            let mut said = answer(task, "prediction", texts.get(&found.index).copied().unwrap_or_default());
            said.raw = found.value;
            said.note = judged(found);
            cards.push(card(&sample, vec![said], args.media_root.is_some()));
        }
    }
    cards
}

/// What a row is worth among those of its task: the judge's score where there is one.
fn worth(record: &Record) -> f64 {
    record.caption_score.or(record.value).unwrap_or(-1.0)
}

/// The judge's scores in words.
fn judged(record: &Record) -> String {
    let mean = record.caption_score.map(|score| format!("judge: {score:.2}"));
    let aspects = record.score.as_object().filter(|scores| scores.contains_key("R2")).map(|scores| {
        let scores: Vec<String> = scores.iter().map(|(aspect, score)| format!("{aspect} {score}")).collect();
        format!("({})", scores.join(", "))
    });
    let failed = (record.n_failed > 0).then(|| format!("{} judgements failed", record.n_failed));
    [mean, aspects, failed].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The sample of a record with its media, or without where the record says too little about them.
fn sample(args: &EvalArgs, record: &Value, row: usize, evaluation: &Evaluation) -> Option<TaskSample> {
    let root = args.media_root.as_deref().unwrap_or(Path::new(""));
    let bytes = serde_json::to_vec(record).ok()?;
    let with_media = schema::Record::from_slice(&bytes).and_then(|record| convert(record, row, root));
    match with_media {
        Ok(sample) => Some(sample),
        Err(reason) => {
            if args.media_root.is_some() {
                tracing::warn!("row {row}: no frames on the page: {reason}");
            }
            official_task(record["qa_type"].as_str()?)?;
            let read = samples(std::slice::from_ref(record), evaluation.report.rules).pop()?;
            read.ok().map(|sample| TaskSample { row, ..sample })
        }
    }
}
