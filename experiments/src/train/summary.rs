//! What a finished run leaves to look at: the table on the terminal and in JSON, the curves, the page.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use medgrpo_datasets::{Content, Dataset, Frames, Gold, TaskKind, TaskSample, VideoRef, video::load_frames};
use medgrpo_rewards::{leaderboard::Report, parse};
use serde_json::{Value, json};

use super::evaluation::SplitResult;
use crate::{
    build::EvalSplit,
    config::resolved::Experiment,
    predict::read_predictions,
    report::{Answer, BoxAt, EvaluationTable, Frame, History, Page, Row, SampleCard, curves_svg, page_html},
    run_dir::{CURVES_FILE, METRICS_FILE, PAGE_FILE, RunDir, write_atomic},
};

/// The evaluation of a run as a file.
const EVALUATION_FILE: &str = "evaluation.json";
/// Samples shown of each task.
const CARDS_PER_TASK: usize = 3;
/// Frames shown of a sample without boxes.
const FRAMES_PER_CARD: usize = 4;

/// Writes `evaluation.json`, `curves.svg` and `index.html`, and prints the table.
pub(super) fn write(
    experiment: &Experiment,
    run_dir: &RunDir,
    eval: &[EvalSplit],
    columns: &[(String, Vec<SplitResult>)],
) -> Result<()> {
    let root = run_dir.path();
    let stages: Vec<String> = experiment.stages.iter().map(|stage| stage.name.clone()).collect();
    let has_base = columns.iter().any(|(name, _)| name == "base");
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
        columns.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "constant").collect();
    let page = Page {
        title: root.file_name().map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned()),
        facts: facts(experiment),
        table: (!columns.is_empty()).then_some(table),
        curves_svg: Some(curves),
        cards: cards(&run_dir.predictions(), eval, &labels)?,
        config_toml: experiment.to_toml(),
    };
    write_atomic(&root.join(PAGE_FILE), page_html(&page)?.as_bytes())?;
    Ok(())
}

fn facts(experiment: &Experiment) -> Vec<(String, String)> {
    let mut facts = vec![("seed".to_owned(), experiment.seed.to_string())];
    for stage in &experiment.stages {
        facts.push((format!("stage {}", stage.name), format!("{} steps", stage.trainer.max_steps)));
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
                cards.push(card(&sample, &answers)?);
            }
        }
    }
    Ok(cards)
}

fn card(sample: &TaskSample, answers: &[(&str, BTreeMap<usize, String>)]) -> Result<SampleCard> {
    let question: String = sample
        .prompt
        .iter()
        .flat_map(|message| &message.content)
        .filter_map(|content| match content {
            Content::Text(text) => Some(text.trim()),
            Content::Image(_) | Content::Video(_) => None,
        })
        .collect();
    let clip = sample.prompt.iter().flat_map(|message| &message.content).find_map(|content| match content {
        Content::Video(clip) => Some(clip),
        Content::Text(_) | Content::Image(_) => None,
    });
    let frames = clip.map(|clip| frames(sample, clip)).transpose()?.unwrap_or_default();
    let answers = answers
        .iter()
        .filter_map(|(label, texts)| texts.get(&sample.row).map(|text| answer(sample.task, label, text)))
        .collect();
    Ok(SampleCard {
        title: format!("{} · {} · row {}", sample.task.key().to_uppercase(), sample.source, sample.row),
        question,
        gold_answer: sample.answer.clone().unwrap_or_default(),
        duration_sec: clip.and_then(|clip| duration_sec(clip, sample.fps)),
        gold_spans: match &sample.gold {
            Gold::Spans(spans) => spans.clone(),
            Gold::Segments(segments) => segments.iter().map(|segment| segment.span).collect(),
            _ => Vec::new(),
        },
        frames,
        answers,
    })
}

fn answer(task: TaskKind, label: &str, text: &str) -> Answer {
    let mut answer = Answer { label: label.to_owned(), text: text.to_owned(), ..Answer::default() };
    match task {
        TaskKind::Tag => answer.spans = parse::tag::parse(text),
        TaskKind::Stg => {
            answer.boxes = parse::stg::entries(text)
                .into_iter()
                .filter_map(|entry| Some(BoxAt { time_sec: entry.time_sec, box_xyxy: entry.box_xyxy? }))
                .collect();
        }
        _ => {}
    }
    answer
}

fn duration_sec(clip: &VideoRef, fps: f64) -> Option<f64> {
    match &clip.frames {
        Frames::Files { paths, .. } => Some(paths.len() as f64 / fps),
        Frames::Video { start_sec, end_sec, .. } => Some(end_sec.as_ref()? - start_sec.unwrap_or(0.0)),
    }
}

/// Frames at the times of the true boxes, or a few spread over the clip.
fn frames(sample: &TaskSample, clip: &VideoRef) -> Result<Vec<Frame>> {
    let Frames::Files { paths, fps } = &clip.frames else { return Ok(Vec::new()) };
    let wanted: Vec<(usize, Option<[f64; 4]>)> = match &sample.gold {
        Gold::Boxes(boxes) => boxes
            .iter()
            .map(|timed| ((timed.time_sec * fps).round() as usize, Some(timed.box_xyxy)))
            .filter(|(index, _)| *index < paths.len())
            .collect(),
        _ => {
            // A drawn region's frame must be among those asked for.
            let count = FRAMES_PER_CARD.min(paths.len());
            let region = clip.region.map(|region| region.frame_index);
            region
                .into_iter()
                .chain((0..count).map(|number| number * paths.len() / count))
                .map(|index| (index, None))
                .collect()
        }
    };
    let indices: Vec<usize> = wanted.iter().map(|(index, _)| *index).collect();
    let images = match load_frames(clip, &indices) {
        Ok(images) => images,
        Err(error) => {
            tracing::warn!("no frames on the page: {error}");
            return Ok(Vec::new());
        }
    };
    Ok(wanted
        .into_iter()
        .zip(images)
        .map(|((index, gold_box), image)| Frame {
            time_sec: index as f64 / fps,
            box_size: image.dimensions(),
            image,
            gold_box,
        })
        .collect())
}
