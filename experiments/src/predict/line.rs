//! One answer to one benchmark row, as every command stores and reads it: a line of JSON.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::TaskSample;
use medgrpo_trainers::predict::Answer;
use serde::{Deserialize, Serialize};

/// `finish_reason` of a row that could not be asked.
pub const UNUSABLE: &str = "unusable";

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    /// Row of the records' file, from 0: the only key, because ids repeat.
    pub index: usize,
    /// The record's own id.
    pub id: String,
    /// The record's `qa_type`.
    pub qa_type: String,
    /// What the model said.
    pub prediction: String,
    /// `stop`, `length`, what an API says, or [`UNUSABLE`].
    pub finish_reason: String,
    /// Length of the answer in tokens, the stop token included; `None` where an API does not tell.
    pub num_tokens: Option<usize>,
}

impl Prediction {
    /// What a model of ours answered to `sample`.
    pub fn new(sample: &TaskSample, answer: Answer) -> Self {
        Self {
            index: sample.row,
            id: sample.id.clone(),
            qa_type: sample.qa_type.clone(),
            prediction: answer.text,
            finish_reason: answer.finish_reason.as_str().to_owned(),
            num_tokens: Some(answer.num_tokens),
        }
    }

    /// The line with its end.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("plain fields serialise");
        line.push(b'\n');
        line
    }
}

/// Reads a whole file of answers.
///
/// # Errors
/// A file that cannot be read, and a line that is no answer, by its number.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let (predictions, num_bytes) = whole_lines(&bytes);
    if num_bytes < bytes.len() {
        bail!(
            "{}, line {}: not an answer as `medgrpo generate --records` writes it, or cut short",
            path.display(),
            predictions.len() + 1
        );
    }
    Ok(predictions)
}

/// The answers up to the first line that is none or has no end, and how many bytes they are.
pub(super) fn whole_lines(bytes: &[u8]) -> (Vec<Prediction>, usize) {
    let mut num_bytes = 0;
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    let predictions = lines
        .map_while(|line| {
            let prediction = line.ends_with(b"\n").then(|| serde_json::from_slice(line).ok())??;
            num_bytes += line.len();
            Some(prediction)
        })
        .collect();
    (predictions, num_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::predict) fn prediction(index: usize) -> Prediction {
        Prediction {
            index,
            id: "0.5$v$1$2".to_owned(),
            qa_type: "tal".to_owned(),
            prediction: "1.0-2.0 seconds.\n\"ä\"".to_owned(),
            finish_reason: "stop".to_owned(),
            num_tokens: Some(9),
        }
    }

    #[test]
    fn lines_read_back_and_end_at_the_first_that_is_torn() {
        let line = prediction(3).to_line();
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"index\":3,\"id\":\"0.5$v$1$2\",\"qa_type\":\"tal\",\"prediction\":\"1.0-2.0 seconds.\\n\\\"ä\\\"\",\
             \"finish_reason\":\"stop\",\"num_tokens\":9}\n"
        );
        let both = [line.clone(), prediction(4).to_line()].concat();
        for cut in 0..=both.len() {
            let (read, num_bytes) = whole_lines(&both[..cut]);
            let whole = [0, line.len(), both.len()].into_iter().rposition(|end| end <= cut).unwrap();
            assert_eq!(read, [prediction(3), prediction(4)][..whole]);
            assert_eq!(num_bytes, [0, line.len(), both.len()][whole]);
        }
        let spoilt = [line.clone(), b"{}\n".to_vec(), line.clone()].concat();
        assert_eq!(whole_lines(&spoilt).1, line.len());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        fs::write(&path, &spoilt).unwrap();
        let error = read_predictions(&path).unwrap_err().to_string();
        assert!(error.contains("p.jsonl, line 2"), "{error}");
    }
}
