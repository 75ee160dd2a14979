//! An evaluation on the terminal.

use medgrpo_rewards::leaderboard::{Report, Rules};

use super::Evaluation;
use crate::report::{TextTable, aligned};

/// A headline number as a report has it.
pub(super) fn value(report: &Report, name: &str) -> Option<f64> {
    report.headlines().into_iter().find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// The ten numbers, then those of ours that could be computed.
pub(super) fn names(report: &Report) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = report.overall.entries().iter().map(|(name, _)| *name).collect();
    for (name, _) in report.headlines() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// By whose rules, over how much, judged by whom.
pub(super) fn heading(report: &Report) -> String {
    let rules = match report.rules {
        Rules::Official => "official rules",
        Rules::Strict => "strict rules: not comparable with published numbers",
    };
    let judge = report.judge.as_ref().map_or("nobody", |judging| judging.name.as_str());
    format!("{} records · {rules} · captions judged by {judge}", report.per_record.len())
}

/// Everything that a number alone would hide.
pub(super) fn notes(evaluation: &Evaluation) -> Vec<String> {
    let report = &evaluation.report;
    let mut notes = vec![evaluation.baseline_source.explained().to_owned()];
    notes.extend(report.task_errors.iter().map(|(name, reason)| format!("{name}: no number: {reason}")));
    if let Some(judging) = &report.judge {
        notes.extend(judging.fallbacks.iter().map(|(name, what)| format!("{name}: not the judge's: {what}")));
        notes.extend(
            judging.failures.iter().map(|(name, first)| {
                format!("{name}: judgements failed and are left out; the first: {first}")
            }),
        );
    }
    if let Some((row, reason)) = report.row_errors.first_key_value() {
        notes
            .push(format!("{} rows cannot be read; the first: row {row}: {reason}", report.row_errors.len()));
    }
    notes
}

/// The field's caption metrics of the answers and of the constants; `None` without captions.
pub(super) fn captions(evaluation: &Evaluation) -> Option<TextTable> {
    let Evaluation { report, baseline, baseline_source, .. } = evaluation;
    let mut rows = Vec::new();
    for (name, report) in [("", report), (baseline_source.name(), baseline)] {
        for (task, metrics) in &report.caption_metrics {
            let separator = if name.is_empty() { "" } else { ", " };
            let mut row = vec![format!("{task}{separator}{name}"), metrics.num_captions.to_string()];
            row.extend(metrics.entries().map(|(_, value)| format!("{value:.4}")));
            rows.push(row);
        }
    }
    rows.sort();
    let names = report.caption_metrics.values().next()?.entries().map(|(name, _)| name.to_owned());
    Some(TextTable {
        title: "Captions without a judge".to_owned(),
        legend: "CIDEr-D (0 to 10) weighs words by these very references; METEOR is without synonyms."
            .to_owned(),
        head: ["captions", "compared"].into_iter().map(str::to_owned).chain(names).collect(),
        rows,
    })
}

/// The metrics that depend on how datasets are averaged; `None` where none does.
pub(super) fn averages(report: &Report) -> Option<TextTable> {
    let all = report.averages.iter().flat_map(|(task, metrics)| {
        metrics.iter().map(move |(name, averages)| (format!("{task} {name}"), *averages))
    });
    let differ = all.filter(|(_, averages)| (averages.over_rows - averages.over_datasets).abs() >= 5e-4);
    let rows: Vec<Vec<String>> = differ
        .map(|(name, averages)| {
            vec![name, format!("{:.4}", averages.over_rows), format!("{:.4}", averages.over_datasets)]
        })
        .collect();
    (!rows.is_empty()).then(|| TextTable {
        title: "Where datasets differ".to_owned(),
        legend: "Numbers that change with the weight of a dataset: by its rows, or each dataset once."
            .to_owned(),
        head: ["metric", "over rows", "over datasets"].map(str::to_owned).to_vec(),
        rows,
    })
}

/// The whole text.
pub(super) fn text(evaluation: &Evaluation) -> String {
    let Evaluation { report, baseline, baseline_source, .. } = evaluation;
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    let has_intervals = !report.intervals.is_empty();
    let mut head = vec!["metric".to_owned(), "value".to_owned()];
    head.extend(has_intervals.then(|| "95 of 100".to_owned()));
    head.push(baseline_source.name().to_owned());
    let mut numbers = vec![head];
    for name in names(report) {
        let mut line = vec![name.to_owned(), shown(value(report, name))];
        if has_intervals {
            let interval = report.intervals.get(name);
            line.push(interval.map_or_else(String::new, |i| format!("{:.4} to {:.4}", i.low, i.high)));
        }
        line.push(shown(value(baseline, name)));
        numbers.push(line);
    }
    let heads = ["task", "n_total", "n_parsed", "n_skipped", "n_judged", "n_failed", "without truth"];
    let mut counts = vec![heads.map(str::to_owned).to_vec()];
    for (task, count) in &report.counts {
        let of = [
            count.n_total,
            count.n_parsed,
            count.n_skipped,
            count.n_judged,
            count.n_failed,
            count.n_without_gold,
        ];
        counts.push(std::iter::once((*task).to_owned()).chain(of.map(|n| n.to_string())).collect());
    }
    let further: String = [captions(evaluation), averages(report)]
        .into_iter()
        .flatten()
        .map(|table| format!("\n{}:\n{}", table.title, aligned(&[vec![table.head], table.rows].concat())))
        .collect();
    let notes: Vec<String> = notes(evaluation).into_iter().map(|note| format!("- {note}")).collect();
    format!(
        "{}\n\n{}\n{}{further}\n{}",
        heading(report),
        aligned(&numbers),
        aligned(&counts),
        notes.join("\n")
    )
}
