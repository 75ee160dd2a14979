//! The metrics of a run, read back as series.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use serde_json::Value;

use super::ReportError;
use crate::run_dir::Position;

/// All series of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The stages that have metrics, by index.
    pub stages: BTreeMap<usize, StageHistory>,
}

/// The series of one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StageHistory {
    /// Points (step, value) in the order of steps, by name of the metric. Values that are not finite are left out.
    pub series: BTreeMap<String, Vec<(usize, f64)>>,
}

impl History {
    /// Reads a `metrics.jsonl`: objects with `stage`, `step` and numbers. Fields that are not numbers are passed over.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or a line is no such object. A last line without its end, as a running or killed
    /// process leaves it, is no error.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let shown = path.display().to_string();
        let failure = |source| ReportError::Io { path: shown.clone(), source };
        let mut reader = BufReader::new(File::open(path).map_err(failure)?);
        let mut history = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(failure)?;
            if !line.ends_with(b"\n") {
                break;
            }
            history.add(&line).map_err(|error| ReportError::Metrics {
                path: shown.clone(),
                line: number,
                message: error.to_string(),
            })?;
        }
        Ok(history)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), serde_json::Error> {
        let position: Position = serde_json::from_slice(line)?;
        let fields: BTreeMap<String, Value> = serde_json::from_slice(line)?;
        let stage = self.stages.entry(position.stage).or_default();
        for (name, value) in fields {
            if matches!(name.as_str(), "stage" | "step") {
                continue;
            }
            if let Some(value) = value.as_f64().filter(|value| value.is_finite()) {
                stage.series.entry(name).or_default().push((position.step, value));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_series_and_a_torn_last_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let text = "{\"stage\":0,\"step\":1,\"loss\":2.5,\"note\":\"x\",\"nan\":null}\n\
                    {\"stage\":0,\"step\":2,\"loss\":2}\n\
                    {\"stage\":1,\"step\":1,\"reward\":0.5}\n\
                    {\"stage\":1,\"st";
        std::fs::write(&path, text).unwrap();
        let history = History::read(&path).unwrap();
        assert_eq!(history.stages[&0].series["loss"], [(1, 2.5), (2, 2.0)]);
        assert_eq!(history.stages[&0].series.len(), 1);
        assert_eq!(history.stages[&1].series["reward"], [(1, 0.5)]);

        std::fs::write(&path, "{\"stage\":0,\"step\":1}\n{\"step\":1}\n").unwrap();
        let error = History::read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("stage"), "{error}");
    }
}
