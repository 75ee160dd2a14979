//! Losses, gradients, metrics and advantages against values that TRL itself computed.
//!
//! The files are those of `tests/data/grpo` and of the folder that `MEDGRPO_GRPO_CASES` names. An entry that cannot be
//! understood (a config key or a loss type that is not known here) is a failure, never a pass.

mod advantages;
mod logits;
mod losses;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// What became of the entries of all files.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    /// Entries in which the original failed.
    skipped: usize,
    failures: Vec<String>,
    /// Metrics of the files that this crate does not report.
    unreported: Vec<String>,
}

impl Tally {
    /// Runs each entry of a list.
    fn entries(
        &mut self,
        what: &str,
        entries: &Value,
        mut run: impl FnMut(&Value) -> Result<Vec<String>, String>,
    ) {
        for (index, entry) in entries.as_array().into_iter().flatten().enumerate() {
            if entry.get("error").is_some_and(|error| !error.is_null()) {
                self.skipped += 1;
                continue;
            }
            match run(entry) {
                Ok(unreported) => {
                    self.passed += 1;
                    self.unreported.extend(unreported);
                }
                Err(message) => self.failures.push(format!("{what}[{index}]: {message}")),
            }
        }
    }
}

#[test]
fn grpo_cases_are_those_of_trl() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/grpo");
    let mut files = json_files(&own);
    assert!(!files.is_empty(), "{} holds no cases", own.display());
    if let Some(further) = env::var_os("MEDGRPO_GRPO_CASES") {
        let further = PathBuf::from(further);
        let found = json_files(&further);
        assert!(!found.is_empty(), "MEDGRPO_GRPO_CASES: {} holds no *.json", further.display());
        files.extend(found);
    }
    let mut failures = Vec::new();
    for path in files {
        let tally = run(&path);
        println!(
            "{}: {} passed, {} skipped (the original failed), {} failed; not reported here: {:?}",
            path.display(),
            tally.passed,
            tally.skipped,
            tally.failures.len(),
            tally.unreported
        );
        assert!(tally.passed + tally.skipped + tally.failures.len() > 0, "{} holds no cases", path.display());
        failures.extend(tally.failures.into_iter().map(|failure| format!("{}: {failure}", path.display())));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn json_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

fn run(path: &Path) -> Tally {
    // Python writes numbers that JSON does not have.
    let text = fs::read_to_string(path).unwrap();
    let text = ["-Infinity", "Infinity", "NaN"].iter().fold(text, |text, word| text.replace(word, "null"));
    let file: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tally = Tally::default();
    tally.entries("loss_cases", &file["loss_cases"], |entry| losses::check(entry, &file["inputs"]));
    tally.entries("advantage_cases", &file["advantage_cases"], |entry| {
        advantages::check(entry).map(|()| Vec::new())
    });
    if file.get("logits_case").is_some() {
        let entry = Value::Array(vec![file["logits_case"].clone()]);
        tally.entries("logits_case", &entry, |entry| logits::check(entry).map(|()| Vec::new()));
    }
    tally.unreported.sort();
    tally.unreported.dedup();
    tally
}

/// How far a value may be from the original's: in units of 1 or of its size, whichever is larger.
fn close(what: &str, ours: f64, theirs: f64, tolerance: f64) -> Result<(), String> {
    // The original has no number: a mean of nothing.
    if theirs.is_nan() || (ours - theirs).abs() <= tolerance * theirs.abs().max(1.0) {
        Ok(())
    } else {
        Err(format!("{what}: {ours} instead of {theirs} ({:.1e} away)", (ours - theirs).abs()))
    }
}

fn all_close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) -> Result<(), String> {
    if ours.len() != theirs.len() {
        return Err(format!("{what}: {} numbers instead of {}", ours.len(), theirs.len()));
    }
    let mut pairs = ours.iter().zip(theirs).enumerate();
    pairs
        .try_for_each(|(place, (ours, theirs))| close(&format!("{what}[{place}]"), *ours, *theirs, tolerance))
}

/// A number; null is one that the original does not have.
fn number(value: &Value) -> Result<f64, String> {
    match value {
        Value::Null => Ok(f64::NAN),
        Value::Bool(value) => Ok(f64::from(u8::from(*value))),
        other => other.as_f64().ok_or_else(|| format!("{other} is no number")),
    }
}

fn list(value: &Value) -> Result<Vec<f64>, String> {
    value.as_array().ok_or_else(|| format!("{value} is no list"))?.iter().map(number).collect()
}

fn table(value: &Value) -> Result<Vec<Vec<f64>>, String> {
    value.as_array().ok_or_else(|| format!("{value} is no table"))?.iter().map(list).collect()
}

/// Whether the original computed in f32.
fn is_f32(entry: &Value) -> bool {
    entry["dtype"].as_str().is_some_and(|dtype| dtype.contains("32"))
}
