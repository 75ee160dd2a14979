//! What a finished run leaves to look at: the table on the terminal and in JSON, the curves, the page.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use medgrpo_datasets::{Dataset, TaskKind};
use medgrpo_rewards::{
    audit::{self, Audit},
    leaderboard::Report,
};
use serde_json::{Value, json};

use super::{
    BASE_LABEL, CONSTANT_LABEL,
    best::{self, BestCheckpoint},
    evaluation::SplitResult,
};
use crate::{
    alarms::Alarms,
    build::EvalSplit,
    calibrate::calibration_file,
    cards::{answer, card},
    config::resolved::Experiment,
    predict::read_predictions,
    report::{EvaluationTable, History, Page, Row, SampleCard, TextTable, curves_svg, page_html},
    reward_check::reward_check_file,
    run_dir::{CURVES_FILE, EVALUATION_FILE, METRICS_FILE, PAGE_FILE, RunDir, write_atomic},
};

/// Samples shown of each task.
const CARDS_PER_TASK: usize = 3;

/// Writes `evaluation.json`, `curves.svg` and `index.html`, and prints the table.
pub(super) fn write(
    experiment: &Experiment,
    run_dir: &RunDir,
    eval: &[EvalSplit],
    columns: &[(String, Vec<SplitResult>)],
) -> Result<()> {
    let root = run_dir.path();
    let stages: Vec<String> = experiment.stages.iter().map(|stage| stage.name.clone()).collect();
    let has_base = columns.iter().any(|(name, _)| name == BASE_LABEL);
    let table = EvaluationTable {
        columns: EvaluationTable::columns_of(!columns.is_empty(), has_base, &stages),
        rows: rows(columns),
    };
    if !columns.is_empty() {
        let reports = |result: &SplitResult| json!({ "official": result.official, "strict": result.strict });
        let by_column: BTreeMap<&str, BTreeMap<&str, Value>> = columns
            .iter()
            .map(|(name, results)| {
                let by_split = results.iter().map(|result| (result.split.as_str(), reports(result)));
                (name.as_str(), by_split.collect())
            })
            .collect();
        write_atomic(&root.join(EVALUATION_FILE), &serde_json::to_vec_pretty(&by_column)?)?;
        crate::print(&table.to_markdown());
    }
    let history = History::read(&root.join(METRICS_FILE))?;
    let curves = curves_svg(&history, &stages)?;
    write_atomic(&root.join(CURVES_FILE), curves.as_bytes())?;
    let labels: Vec<&str> =
        columns.iter().map(|(name, _)| name.as_str()).filter(|name| *name != CONSTANT_LABEL).collect();
    let page = Page {
        title: root.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned()),
        facts: facts(experiment, &best::write(experiment, root)?),
        alarms: alarms(experiment, &history),
        table: (!columns.is_empty()).then_some(table),
        first_tables: Vec::new(),
        curves_svg: Some(curves),
        calibrations: calibrations(root, &stages)?,
        tables: reward_checks(root, &stages)?,
        cards: cards(&run_dir.predictions(), eval, &labels)?,
        config_toml: experiment.to_toml(),
    };
    write_atomic(&root.join(PAGE_FILE), page_html(&page)?.as_bytes())?;
    Ok(())
}

/// Every alarm of the run, with its place.
fn alarms(experiment: &Experiment, history: &History) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for (index, stage) in experiment.stages.iter().enumerate() {
        let logged = history.stages.get(&index).filter(|_| stage.recipe.on_policy().is_some());
        for alarm in logged.into_iter().flat_map(|logged| Alarms::new(experiment.alarms).look_back(logged)) {
            told.push((format!("{}, step {}: {}", stage.name, alarm.step, alarm.name), alarm.to_string()));
        }
    }
    told
}

/// The pictures of the stages' own calibrations.
fn calibrations(root: &Path, stages: &[String]) -> Result<Vec<(String, String)>> {
    let mut pictures = Vec::new();
    for stage in stages {
        let path = calibration_file(root, stage).with_extension("svg");
        if path.exists() {
            let svg = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            pictures.push((stage.clone(), svg));
        }
    }
    Ok(pictures)
}

/// What the stages' rewards were found to pay.
fn reward_checks(root: &Path, stages: &[String]) -> Result<Vec<TextTable>> {
    let mut tables = Vec::new();
    for stage in stages {
        let path = reward_check_file(root, stage);
        if path.exists() {
            let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
            // Rewards that are not finite are no JSON; the file's own words for them are enough.
            let audit: Audit = match serde_json::from_slice(&bytes) {
                Ok(audit) => audit,
                Err(error) => {
                    tracing::warn!("{}: is left out of the page: {error}", path.display());
                    continue;
                }
            };
            let head = ["task and answer", "mean reward", "highest", "beats half right"];
            tables.push(TextTable {
                title: format!("Reward check of stage {stage}"),
                legend: "What the reward pays for the right answer, for nothing, for half an answer and for tricks. Last: \
                         how often a trick is paid more than the half-right answer."
                    .to_owned(),
                head: head.map(str::to_owned).to_vec(),
                rows: audit.rows.iter().filter(|row| row.is_reward()).map(paid).collect(),
            });
        }
    }
    Ok(tables)
}

fn paid(row: &audit::Row) -> Vec<String> {
    let share = row.beaten_share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
    let name = format!("{}: {}", row.task, row.answer.as_str());
    vec![name, format!("{:.3}", row.mean), format!("{:.3}", row.max), share]
}

fn facts(experiment: &Experiment, best: &BTreeMap<String, BestCheckpoint>) -> Vec<(String, String)> {
    let mut facts = vec![("seed".to_owned(), experiment.seed.to_string())];
    for stage in &experiment.stages {
        facts.push((format!("stage {}", stage.name), format!("{} steps", stage.trainer.max_steps)));
        if let Some(BestCheckpoint { best, checkpoint }) = best.get(&stage.name) {
            let what =
                format!("step {} ({} = {:.4}), {}", best.step, best.metric, best.value, checkpoint.display());
            facts.push((format!("stage {}, best", stage.name), what));
        }
    }
    facts
}

/// One row per split and headline number; where the strict rules say otherwise, theirs below it.
fn rows(columns: &[(String, Vec<SplitResult>)]) -> Vec<Row> {
    let Some((_, first)) = columns.first() else { return Vec::new() };
    let mut rows = Vec::new();
    for (place, split) in first.iter().enumerate() {
        let mut names: Vec<&'static str> = Vec::new();
        for (name, _) in columns.iter().flat_map(|(_, results)| results[place].official.headlines()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let values = |report: fn(&SplitResult) -> &Report| -> Vec<Option<f64>> {
                columns.iter().map(|(_, results)| headline(report(&results[place]), name)).collect()
            };
            let (official, strict) = (values(|result| &result.official), values(|result| &result.strict));
            let differ = strict.iter().any(Option::is_some) && strict != official;
            let num_records = records_of(&split.official, name);
            let metric = format!("{} / {name}", split.split);
            let strict =
                differ.then(|| Row { metric: format!("{metric}, strict"), num_records, values: strict });
            rows.push(Row { metric, num_records, values: official });
            rows.extend(strict);
        }
    }
    rows
}

fn headline(report: &Report, name: &str) -> Option<f64> {
    report.headlines().into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// Records behind a headline number: its name starts with the task's short one.
fn records_of(report: &Report, headline: &str) -> usize {
    let task = headline.split('_').next().and_then(TaskKind::from_key);
    report.per_record.iter().filter(|record| TaskKind::from_qa_type(&record.qa_type) == task).count()
}

/// A few samples of each task with every model's answer.
fn cards(predictions: &Path, eval: &[EvalSplit], labels: &[&str]) -> Result<Vec<SampleCard>> {
    let mut cards = Vec::new();
    for split in eval {
        let mut answers: Vec<(&str, BTreeMap<usize, String>)> = Vec::new();
        for label in labels {
            let path = predictions.join(format!("{}-{label}.jsonl", split.name));
            let stored = if path.exists() { read_predictions(&path)? } else { Vec::new() };
            let texts = stored.into_iter().map(|answer| (answer.index, answer.prediction));
            answers.push((*label, texts.collect()));
        }
        for task in TaskKind::BENCHMARK {
            let answered = |place: &usize| {
                let row = split.file.usable.labels()[*place].row;
                answers.iter().any(|(_, texts)| texts.contains_key(&row))
            };
            let places: Vec<usize> = split.file.places(&[task]).into_iter().filter(answered).collect();
            let count = CARDS_PER_TASK.min(places.len());
            for number in 0..count {
                let sample = split.file.usable.get(places[number * places.len() / count])?;
                let answers = answers.iter().filter_map(|(label, texts)| {
                    texts.get(&sample.row).map(|text| answer(sample.task, label, text))
                });
                cards.push(card(&sample, answers.collect(), true));
            }
        }
    }
    Ok(cards)
}
