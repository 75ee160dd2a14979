//! A comparison as tables, for the terminal and for the page.

use std::fmt::Write as _;

use super::{
    Comparison, VariantTold,
    signals::Signal,
    statistics::{CONFIDENCE, Estimate},
    table::{Cell, Row},
};
use crate::report::{TextTable, aligned};

const NONE: &str = "–";

/// The tables that a paper needs, first to last.
pub(super) fn tables(comparison: &Comparison) -> Vec<TextTable> {
    let mut tables = vec![variants(&comparison.variants)];
    if comparison.rows.is_empty() {
        return tables;
    }
    let percent = 100.0 * CONFIDENCE;
    tables.push(models(comparison, percent));
    let all: Vec<usize> = (0..comparison.variants.len()).collect();
    let change = |cell: &Cell| cell.change.clone();
    if comparison.rows.iter().any(|row| row.cells.iter().any(|cell| cell.change.is_some())) {
        let title = "Change by the last stage".to_owned();
        let what = format!(
            "Model after less model before, in each run: mean ± half a {percent:.0} % interval over runs."
        );
        tables.push(differences(comparison, title, &what, &all, change));
    }
    if let Some(baseline) = comparison.baseline {
        let others: Vec<usize> = all.into_iter().filter(|&index| index != baseline).collect();
        let title = format!("Difference from {}", comparison.variants[baseline].name);
        let what = format!("In each seed that both have: mean ± half a {percent:.0} % interval over seeds.");
        tables.push(differences(comparison, title, &what, &others, |cell| cell.from_baseline.clone()));
    }
    tables
}

/// What was logged of the last stage; `None` where no run has done all of its steps.
pub(super) fn signals(comparison: &Comparison) -> Option<TextTable> {
    if comparison.signals.is_empty() {
        return None;
    }
    let row = |signal: &Signal| {
        let mut row = vec![signal.metric.to_owned()];
        row.extend(signal.variants.iter().map(|estimate| match estimate {
            None => NONE.to_owned(),
            Some(Estimate { mean, .. }) => match estimate.as_ref().and_then(Estimate::half_width) {
                None => short(*mean),
                Some(half) => format!("{} ± {}", short(*mean), short(half)),
            },
        }));
        row
    };
    Some(TextTable {
        title: "Signals of the last stage".to_owned(),
        legend: "Means over its logged steps, then over the runs that have done all of them. Rewards of recipes that \
                 scale them otherwise are not comparable."
            .to_owned(),
        head: head(&["metric"], comparison.variants.iter()),
        rows: comparison.signals.iter().map(row).collect(),
    })
}

/// Every key in which the variants differ; `None` of one variant.
pub(super) fn settings(variants: &[VariantTold]) -> Option<TextTable> {
    let keys: Vec<&String> = variants.first()?.settings.keys().collect();
    let row = |key: &&String| {
        let values = variants.iter().map(|variant| variant.settings.get(*key).cloned().unwrap_or_default());
        std::iter::once((*key).clone()).chain(values).collect()
    };
    (!keys.is_empty()).then(|| TextTable {
        title: "Keys that differ".to_owned(),
        legend: "Of the resolved experiments.".to_owned(),
        head: head(&["key"], variants.iter()),
        rows: keys.iter().map(row).collect(),
    })
}

/// Tables and remarks for a terminal or a log.
pub(super) fn markdown(tables: &[TextTable], remarks: &[String]) -> String {
    let mut text = String::new();
    for table in tables {
        let lines: Vec<Vec<String>> = std::iter::once(&table.head).chain(&table.rows).cloned().collect();
        let _ = write!(text, "## {}\n\n{}\n{}\n\n", table.title, aligned(&lines), table.legend);
    }
    for remark in remarks {
        let _ = writeln!(text, "- {remark}");
    }
    text.trim_end().to_owned()
}

fn head<'a>(first: &[&str], variants: impl Iterator<Item = &'a VariantTold>) -> Vec<String> {
    first.iter().map(|&name| name.to_owned()).chain(variants.map(|variant| variant.name.clone())).collect()
}

fn variants(variants: &[VariantTold]) -> TextTable {
    let row = |variant: &VariantTold| {
        let mut seeds: Vec<u64> = variant.runs.iter().map(|run| run.replicate.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        let join = |words: &mut dyn Iterator<Item = String>| words.collect::<Vec<_>>().join(" ");
        let evaluated = variant.num_evaluated();
        vec![
            variant.name.clone(),
            format!("{evaluated} of {}", variant.runs.len()),
            join(&mut seeds.iter().map(ToString::to_string)),
            variant.stages.last().cloned().unwrap_or_default(),
            variant.max_steps.to_string(),
            join(&mut variant.trained.iter().map(|&task| task.to_owned())),
        ]
    };
    TextTable {
        title: "Variants".to_owned(),
        legend: "Runs that differ in nothing but their seed are one variant.".to_owned(),
        head: ["variant", "evaluated runs", "seeds", "last stage", "its steps", "trains on"]
            .map(str::to_owned)
            .to_vec(),
        rows: variants.iter().map(row).collect(),
    }
}

fn models(comparison: &Comparison, percent: f64) -> TextTable {
    let Comparison { variants, rows, .. } = comparison;
    let has_shared = rows.iter().any(|row| row.before.is_some());
    let has_own = !has_shared && rows.iter().any(|row| row.cells.iter().any(|cell| cell.before.is_some()));
    let mut head: Vec<String> = ["metric", "records", "constant"].map(str::to_owned).to_vec();
    head.extend(has_shared.then(|| "before".to_owned()));
    for variant in variants {
        head.extend(has_own.then(|| format!("before {}", variant.name)));
        head.push(variant.name.clone());
    }
    let seeds = comparison.num_seeds();
    let row = |row: &Row| {
        let (least, most) = row.num_records;
        let records = if least == most { least.to_string() } else { format!("{least}–{most}") };
        let constant = row.constant.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"));
        let mut line = vec![marked(row), records, constant];
        line.extend(has_shared.then(|| value(row.before.as_ref(), seeds)));
        for (cell, variant) in row.cells.iter().zip(variants) {
            let runs = variant.num_evaluated();
            line.extend(has_own.then(|| value(cell.before.as_ref(), runs)));
            line.push(value(cell.after.as_ref(), runs));
        }
        line
    };
    TextTable {
        title: "Trained models".to_owned(),
        legend: format!(
            "Mean ± half a {percent:.0} % interval (Student's t over runs), without one where there is one run. before: the \
             model that the last stage started from. {MARKS}"
        ),
        head,
        rows: rows.iter().map(row).collect(),
    }
}

/// What the marks behind a metric's name mean.
const MARKS: &str = "†: the last stage trained on this task; (†): that of some variants did.";

fn marked(row: &Row) -> String {
    let trained = row.cells.iter().filter(|cell| cell.is_trained).count();
    let mark = if trained == 0 {
        ""
    } else if trained == row.cells.len() {
        " †"
    } else {
        " (†)"
    };
    format!("{}{mark}", row.title)
}

fn differences(
    comparison: &Comparison,
    title: String,
    what: &str,
    variants: &[usize],
    of: impl Fn(&Cell) -> Option<Estimate>,
) -> TextTable {
    let mut num_intervals = 0;
    let mut rows = Vec::new();
    for row in &comparison.rows {
        let mut line = vec![marked(row)];
        for &index in variants {
            let estimate = of(&row.cells[index]);
            num_intervals += usize::from(estimate.as_ref().is_some_and(Estimate::has_spread));
            line.push(difference(estimate.as_ref(), comparison.variants[index].num_evaluated()));
        }
        rows.push(line);
    }
    let by_chance = num_intervals as f64 * (1.0 - CONFIDENCE);
    let chance = if num_intervals > 0 {
        format!(
            " *: the interval excludes 0; of {num_intervals} intervals about {by_chance:.1} do so by chance."
        )
    } else {
        String::new()
    };
    TextTable {
        title,
        legend: format!("{what}{chance}"),
        head: head(&["metric"], variants.iter().map(|&index| &comparison.variants[index])),
        rows,
    }
}

/// `0.676 ± 0.012`, with the number of runs where it is not `expected`.
fn value(estimate: Option<&Estimate>, expected: usize) -> String {
    with_interval(estimate, expected, |mean| format!("{mean:.3}"))
}

/// `+0.046 ± 0.012 *`
fn difference(estimate: Option<&Estimate>, expected: usize) -> String {
    let text = with_interval(estimate, expected, |mean| {
        if mean.abs() < 5e-4 { "0.000".to_owned() } else { format!("{mean:+.3}") }
    });
    if estimate.is_some_and(Estimate::excludes_zero) { format!("{text} *") } else { text }
}

fn with_interval(estimate: Option<&Estimate>, expected: usize, mean_text: impl Fn(f64) -> String) -> String {
    let Some(estimate) = estimate else { return NONE.to_owned() };
    let mut text = mean_text(estimate.mean);
    if let Some(half) = estimate.half_width() {
        let _ = write!(text, " ± {half:.3}");
    }
    if estimate.n != expected {
        let _ = write!(text, " (n = {})", estimate.n);
    }
    text
}

/// A number of any size in few digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1e-3 => format!("{value:.1e}"),
        size if size < 100.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_say_as_much_as_the_runs_do() {
        let of = |values: &[f64]| Estimate::of(values);
        let shown = |values: &[f64]| value(of(values).as_ref(), 3);
        assert_eq!(shown(&[0.5, 0.7, 0.9]), "0.700 ± 0.497");
        assert_eq!(shown(&[0.5]), "0.500 (n = 1)");
        assert_eq!(shown(&[]), "–");
        let changed = |values: &[f64]| difference(of(values).as_ref(), values.len());
        assert_eq!(changed(&[0.1, 0.11, 0.12]), "+0.110 ± 0.025 *");
        assert_eq!(changed(&[-0.1, 0.11, 0.12]), "+0.043 ± 0.309");
        assert_eq!(changed(&[-0.0001]), "0.000");
        assert_eq!(changed(&[-0.2; 3]), "-0.200 ± 0.000");
    }

    #[test]
    fn numbers_of_any_size_are_short() {
        let shown = [0.0, 2.5e-4, -0.12345, 12.3456, 1234.5].map(short);
        assert_eq!(shown, ["0", "2.5e-4", "-0.123", "12.346", "1234.5"]);
    }
}
