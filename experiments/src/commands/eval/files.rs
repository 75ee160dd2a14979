//! JSON files of records: one array or one object a line, packed or not.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde_json::Value;

/// More than this is refused: the public test file unpacks to some tens of megabytes, and a small packed file can unpack
/// to anything.
const MAX_BYTES: u64 = 8 << 30;

/// Reads one JSON value, or the list of a `.jsonl` file's lines.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let shown = || path.display().to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let file = BufReader::new(File::open(path).with_context(shown)?);
    let (name, reader): (&str, Box<dyn Read>) = match name.strip_suffix(".gz") {
        Some(name) => (name, Box::new(MultiGzDecoder::new(file))),
        None => (&name, Box::new(file)),
    };
    let mut text = String::new();
    reader.take(MAX_BYTES).read_to_string(&mut text).with_context(shown)?;
    if text.len() as u64 == MAX_BYTES {
        bail!("{}: more than {} GiB of text", shown(), MAX_BYTES >> 30);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if !(name.ends_with(".jsonl") || name.ends_with(".ndjson")) {
        return serde_json::from_str(text).with_context(|| format!("{}: not JSON", shown()));
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(index, line)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {}: not JSON", shown(), index + 1))
    };
    lines.map(read).collect::<Result<_>>().map(Value::Array)
}

/// Reads a list of records: objects with a `qa_type`.
pub(crate) fn read_records(path: &Path) -> Result<Vec<Value>> {
    let Value::Array(records) = read_json(path)? else {
        bail!("{}: expected a list of records", path.display());
    };
    if records.is_empty() {
        bail!("{}: holds no record", path.display());
    }
    if let Some(row) = records.iter().position(|record| !record["qa_type"].is_string()) {
        bail!("{}, row {row}: no `qa_type`, so this is no list of MedVidBench records", path.display());
    }
    Ok(records)
}
