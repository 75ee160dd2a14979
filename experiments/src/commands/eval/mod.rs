//! `medgrpo eval`: what answers are worth.

pub(super) mod files;
mod page;
pub(super) mod predictions;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail};
use medgrpo_datasets::TaskSample;
use medgrpo_rewards::{
    judge::JudgeStats,
    leaderboard::{Bootstrap, Options, Report, Rules, constant_baseline, evaluate_some, samples},
};
use serde_json::{Value, json};

use crate::{
    build::{open_embedder, open_judge},
    cli::EvalArgs,
    run_dir::write_atomic,
};

/// An evaluation with what it is compared with.
struct Evaluation {
    report: Report,
    /// What constant answers are worth by the same rules, without a judge.
    baseline: Report,
    /// What the constant answers are made of.
    baseline_source: BaselineSource,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BaselineSource {
    /// Training records.
    Training,
    /// The truth itself: more than a constant could know.
    Oracle,
}

impl BaselineSource {
    fn name(self) -> &'static str {
        match self {
            Self::Training => "constant",
            Self::Oracle => "constant (oracle)",
        }
    }

    fn explained(self) -> &'static str {
        match self {
            Self::Training => "constant: one answer per task and source, made of the training records",
            Self::Oracle => {
                "constant (oracle): one answer per task and source, made of this very ground truth; \
                 --train makes it of training records"
            }
        }
    }
}

pub(super) fn run(args: &EvalArgs) -> Result<()> {
    // Slow or paid work comes after everything that can be wrong with the arguments.
    for out in [Some(&args.out), args.html.as_ref()].into_iter().flatten() {
        writable(out)?;
    }
    let rules = Rules::from(args.rules);
    let embedder = args.embedder.as_deref().map(open_embedder).transpose()?;
    let judge = open_judge(&args.judge, rules, embedder.as_ref())?;
    let records = files::read_records(&args.ground_truth)?;
    let train = args.train.as_deref().map(files::read_records).transpose()?;
    let answers = predictions::read_predictions(&args.predictions)?;
    let matched = predictions::match_rows(&records, answers, rules, args.partial)
        .with_context(|| args.predictions.display().to_string())?;
    let predictions: Vec<Value> =
        matched.predictions.into_iter().map(|prediction| json!({ "prediction": prediction })).collect();
    matched.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    let bootstrap = match args.bootstrap {
        Some(0) => bail!("--bootstrap 0: expected the number of resamples, 1000 for one"),
        other => other.map(|num_resamples| Bootstrap { num_resamples, ..Bootstrap::default() }),
    };
    let options = Options { rules, embedder: embedder.as_deref(), judge: judge.as_deref(), bootstrap };
    let report = evaluate_some(&records, &matched.rows, &predictions, &options)?;
    let baseline = baseline(&records, &matched.rows, train.as_deref(), rules)?;
    let baseline_source = if train.is_some() { BaselineSource::Training } else { BaselineSource::Oracle };
    let evaluation = Evaluation { report, baseline, baseline_source, warnings: matched.warnings };
    let judge_stats = judge.as_ref().and_then(|judge| judge.stats());

    let metrics = metrics(args, &evaluation, judge_stats.as_ref())?;
    write_atomic(&args.out, &serde_json::to_vec_pretty(&metrics)?)?;
    if let Some(path) = &args.html {
        let texts = matched.rows.iter().zip(&predictions);
        let texts =
            texts.map(|(&row, entry)| (row, entry["prediction"].as_str().unwrap_or_default())).collect();
        write_atomic(path, page::html(args, &evaluation, &records, &texts)?.as_bytes())?;
    }
    crate::print(&table::text(&evaluation));
    if let Some(stats) = judge_stats {
        crate::print(&format!(
            "- the judge was asked {} times for {} captions ({} known from before); {} requests failed, {} replies held no \
             scores, {} captions have no judgement; {} tokens",
            stats.requests,
            stats.pairs,
            stats.cache_hits,
            stats.failures,
            stats.unparsable,
            stats.unjudged,
            stats.prompt_tokens + stats.completion_tokens
        ));
    }
    let lost: Vec<String> = ["dvc_llm", "vs_llm", "rc_llm"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", evaluation.report.task_errors.get(name)?)))
        .collect();
    if judge.is_some() && !lost.is_empty() {
        bail!("the judge gave no number ({}); {} holds the others", lost.join("; "), args.out.display());
    }
    Ok(())
}

/// Fails where a file cannot be put there.
pub(super) fn writable(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        bail!("{}: there is no folder {}", path.display(), folder.display());
    }
    if path.is_dir() {
        bail!("{}: is a folder, expected a file to write", path.display());
    }
    Ok(())
}

/// Answers that never look, for the same rows.
fn baseline(records: &[Value], rows: &[usize], train: Option<&[Value]>, rules: Rules) -> Result<Report> {
    let usable = |records: &[Value]| -> Vec<TaskSample> {
        samples(records, rules).into_iter().filter_map(Result::ok).collect()
    };
    let test = usable(records);
    let known = train.map(usable);
    let texts = constant_baseline(known.as_deref().unwrap_or(&test), &test);
    let mut answers = vec![json!({ "prediction": "" }); records.len()];
    for (sample, text) in test.iter().zip(texts) {
        answers[sample.row] = json!({ "prediction": text });
    }
    let answers: Vec<Value> = rows.iter().map(|&row| answers[row].take()).collect();
    Ok(evaluate_some(records, rows, &answers, &Options { rules, ..Options::default() })?)
}

/// The file of results: the report with what it was made of.
fn metrics(args: &EvalArgs, evaluation: &Evaluation, judge_stats: Option<&JudgeStats>) -> Result<Value> {
    let mut metrics = serde_json::to_value(&evaluation.report)?;
    metrics["ground_truth"] = json!(args.ground_truth);
    metrics["predictions"] = json!(args.predictions);
    if let Some(stats) = judge_stats {
        metrics["judge_stats"] = json!(stats);
    }
    metrics["warnings"] = json!(evaluation.warnings);
    metrics["baseline"] = json!({
        "name": evaluation.baseline_source.name(),
        "made_of": args.train.as_ref().unwrap_or(&args.ground_truth),
        "overall": evaluation.baseline.overall,
        "captions": evaluation.baseline.captions,
        "caption_metrics": evaluation.baseline.caption_metrics,
    });
    Ok(metrics)
}
