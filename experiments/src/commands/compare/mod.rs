//! `medgrpo compare`: run directories side by side, as the tables and curves of a paper.
//!
//! Runs are only read. What they were evaluated on must be the same; what is missing or uneven is said.

mod records;
mod remarks;
mod run;
mod settings;
mod signals;
mod statistics;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod variants;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use self::{
    run::{Replicate, Run},
    signals::{Signal, StageCurves},
    table::Row,
    variants::Variant,
};
use crate::{
    cli::CompareArgs,
    print,
    report::{Page, blocks_svg, page_html},
    run_dir::{CONFIG_FILE, CURVES_FILE, PAGE_FILE, write_atomic},
};

/// All numbers of a comparison.
const COMPARE_FILE: &str = "compare.json";

/// A comparison as it is told and written.
#[derive(Debug, Serialize)]
struct Comparison {
    /// Of every interval.
    confidence: f64,
    variants: Vec<VariantTold>,
    /// Index of the variant that differences are counted from beside each run's own start.
    baseline: Option<usize>,
    rows: Vec<Row>,
    signals: Vec<Signal>,
    curves: Vec<StageCurves>,
    remarks: Vec<String>,
}

/// A variant as it is told.
#[derive(Debug, Serialize)]
struct VariantTold {
    name: String,
    /// Every key in which variants differ.
    settings: BTreeMap<String, String>,
    stages: Vec<String>,
    max_steps: usize,
    /// Tasks of the last stage.
    trained: Vec<&'static str>,
    runs: Vec<RunTold>,
}

/// A run as it is told.
#[derive(Debug, Serialize)]
struct RunTold {
    path: String,
    #[serde(flatten)]
    replicate: Replicate,
    /// Steps of the last stage.
    steps_done: usize,
    is_evaluated: bool,
}

impl VariantTold {
    fn new(variant: &Variant) -> Self {
        let run = |run: &Run| RunTold {
            path: run.path.display().to_string(),
            replicate: run.replicate,
            steps_done: run.steps_done(),
            is_evaluated: run.lacks().is_none(),
        };
        // All of a variant but the seed is the same in its runs.
        let first = &variant.runs[0];
        Self {
            name: variant.name.clone(),
            settings: variant.settings.clone(),
            stages: first.stages.clone(),
            max_steps: first.max_steps,
            trained: first.trained.iter().map(|task| task.key()).collect(),
            runs: variant.runs.iter().map(run).collect(),
        }
    }

    fn num_evaluated(&self) -> usize {
        self.runs.iter().filter(|run| run.is_evaluated).count()
    }
}

impl Comparison {
    /// Different seeds of evaluated runs.
    fn num_seeds(&self) -> usize {
        let runs = self.variants.iter().flat_map(|variant| &variant.runs);
        let mut seeds: Vec<Replicate> =
            runs.filter(|run| run.is_evaluated).map(|run| run.replicate).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds.len()
    }
}

pub(super) fn run(args: &CompareArgs) -> Result<()> {
    check_out(&args.out)?;
    let mut runs = args.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> = runs.iter_mut().map(|run| &mut run.settings).collect();
    settings::ignore(&mut all, &args.ignored)?;
    let variants = variants::group(runs)?;
    let baseline = args.baseline.as_deref().map(|wanted| baseline(&variants, wanted)).transpose()?;
    let all: Vec<&Run> = variants.iter().flat_map(|variant| &variant.runs).collect();
    let of_records = records::check(&all)?;
    let rows = table::rows(&variants, baseline);
    let curves = signals::curves(&variants);
    if rows.is_empty() && curves.is_empty() {
        bail!("none of the runs has logged a step or has been evaluated: there is nothing to compare");
    }
    let mut remarks = remarks::remarks(&variants, &rows, baseline);
    remarks.extend(of_records);
    let comparison = Comparison {
        confidence: statistics::CONFIDENCE,
        variants: variants.iter().map(VariantTold::new).collect(),
        baseline,
        rows,
        signals: signals::signals(&variants),
        curves,
        remarks,
    };
    write(&comparison, &variants, args)
}

/// Refuses a folder whose files are another's.
fn check_out(out: &Path) -> Result<()> {
    if out.join(CONFIG_FILE).exists() {
        bail!("--out {} is a run directory, with a page of its own: choose another folder", out.display());
    }
    let is_empty = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !out.exists(),
    };
    if !is_empty && !out.join(COMPARE_FILE).exists() {
        bail!("--out {} holds something else than a comparison: choose another folder", out.display());
    }
    Ok(())
}

/// The variant that is meant by a name, or by the values in it.
fn baseline(variants: &[Variant], wanted: &str) -> Result<usize> {
    let values = |variant: &Variant| {
        variant.keys.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut found = variants
        .iter()
        .enumerate()
        .filter(|(_, variant)| variant.name == wanted || values(variant) == wanted)
        .map(|(index, _)| index);
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        _ => {
            let names: Vec<String> = variants.iter().map(|variant| format!("\"{}\"", variant.name)).collect();
            bail!("--baseline {wanted}: the variants are {}", names.join(", "))
        }
    }
}

/// Names for the legend of curves: the values alone, where they are all of one key.
fn labels(variants: &[Variant]) -> Vec<&str> {
    let is_short = variants
        .iter()
        .all(|variant| matches!(&variant.keys[..], [(key, _)] if *key == variants[0].keys[0].0));
    variants
        .iter()
        .map(|Variant { name, keys, .. }| if is_short { keys[0].1.as_str() } else { name.as_str() })
        .collect()
}

fn write(comparison: &Comparison, variants: &[Variant], args: &CompareArgs) -> Result<()> {
    let out = &args.out;
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let mut told = text::tables(comparison);
    told.extend(text::signals(comparison));
    let curves = blocks_svg(&signals::blocks(&comparison.curves, &labels(variants)))?;
    let name =
        out.file_name().map_or_else(|| "comparison".to_owned(), |name| name.to_string_lossy().into_owned());
    let page = Page {
        title: name,
        facts: comparison.remarks.iter().map(|remark| ("remark".to_owned(), remark.clone())).collect(),
        first_tables: told.clone(),
        curves_svg: Some(curves.clone()),
        tables: text::settings(&comparison.variants).into_iter().collect(),
        ..Page::default()
    };
    // First: it is what says that the folder is a comparison's.
    write_atomic(&out.join(COMPARE_FILE), &serde_json::to_vec_pretty(comparison)?)?;
    write_atomic(&out.join(CURVES_FILE), curves.as_bytes())?;
    write_atomic(&out.join(PAGE_FILE), page_html(&page)?.as_bytes())?;
    if args.json {
        print(&serde_json::to_string(comparison)?);
    } else {
        print(&text::markdown(&told, &comparison.remarks));
        print(&format!("\npage: {}", out.join(PAGE_FILE).display()));
    }
    Ok(())
}
