//! `medgrpo submit`: a file for the leaderboard, written or looked through.

use std::path::Path;

use anyhow::{Context, Result, bail};
use medgrpo_rewards::leaderboard::{
    Rules, Submission,
    submission::{Findings, check},
};
use serde_json::{Value, json};

use super::eval::{
    files::{read_json, read_records},
    predictions::{match_rows, read_predictions},
    writable,
};
use crate::{cli::SubmitArgs, report::aligned, run_dir::write_atomic};

pub(super) fn run(args: &SubmitArgs) -> Result<()> {
    let records = read_records(&args.test)?;
    match (&args.check, &args.predictions, &args.out) {
        (Some(file), _, _) => {
            let Value::Array(entries) = read_json(file)? else {
                bail!("{}: expected a list of {{id, qa_type, prediction}}", file.display());
            };
            tell(file, &check(&records, &entries))
        }
        (None, Some(predictions), Some(out)) => write(&records, predictions, out),
        _ => bail!("expected --predictions and --out, or --check"),
    }
}

fn write(records: &[Value], predictions: &Path, out: &Path) -> Result<()> {
    writable(out)?;
    let shown = || predictions.display().to_string();
    let answers = read_predictions(predictions)?;
    // The strict match: a submission in the wrong order is worth nothing and cannot be taken back.
    let matched = match_rows(records, answers, Rules::Strict, false).with_context(shown)?;
    let mut entries = Vec::with_capacity(records.len());
    for (row, prediction) in matched.rows.into_iter().zip(matched.predictions) {
        let Value::String(text) = prediction else {
            bail!("{}: the answer to row {row} is {prediction:.40}, not text", shown());
        };
        entries.push(json!(Submission::new(&records[row], text)));
    }
    let findings = check(records, &entries);
    if findings.errors.is_empty() {
        write_atomic(out, &serde_json::to_vec_pretty(&entries)?)?;
    }
    tell(out, &findings)
}

/// Prints what was found; errors make the command fail.
fn tell(file: &Path, findings: &Findings) -> Result<()> {
    findings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    if !findings.errors.is_empty() {
        bail!("{}: {}", file.display(), findings.errors.join("; "));
    }
    let mut lines = vec![["task", "entries", "parsed", "empty"].map(str::to_owned).to_vec()];
    for (task, counts) in &findings.tasks {
        let counts = [counts.n_total, counts.n_parsed, counts.n_empty].map(|count| count.to_string());
        lines.push(std::iter::once(task.clone()).chain(counts).collect());
    }
    let total: usize = findings.tasks.values().map(|counts| counts.n_total).sum();
    crate::print(&format!("{}\n{}: {total} entries, valid", aligned(&lines), file.display()));
    Ok(())
}
