//! The completions a run has stored: one line of `rollouts.jsonl` a group.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Context, Result};
use medgrpo_rewards::Score;
use medgrpo_trainers::rollout::RolloutGroup;
use serde::{Deserialize, Serialize};

use crate::run_dir::Position;

/// A group of completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredGroup {
    /// File and row of the sample.
    pub(crate) origin: String,
    /// Its row.
    pub(crate) row: usize,
    /// Its task's key.
    pub(crate) task: String,
    /// Its dataset.
    pub(crate) source: String,
    /// Why the group was not learned from; absent if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dropped: Option<String>,
    /// The answers.
    pub(crate) completions: Vec<StoredCompletion>,
}

/// A completion with what it was worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredCompletion {
    pub(crate) text: String,
    pub(crate) num_tokens: usize,
    pub(crate) truncated: bool,
    #[serde(flatten)]
    pub(crate) worth: Worth,
    pub(crate) advantage: f32,
    /// Its distance from the reference, where the advantage was taken of what that left of the reward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kl: Option<f32>,
}

/// A score as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Worth {
    /// `None` if it was not or could not be scored.
    pub(crate) reward: Option<f32>,
    /// The task's metric before any shaping.
    pub(crate) raw: Option<f32>,
    /// What the reward was made of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) parts: BTreeMap<String, f32>,
    /// Why it could not be scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unscored: Option<String>,
}

impl From<&Score> for Worth {
    fn from(score: &Score) -> Self {
        match score {
            Score::Scored { value, raw, parts } => Self {
                reward: Some(*value),
                raw: Some(*raw),
                parts: parts.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
                unscored: None,
            },
            Score::Unscored(reason) => Self { unscored: Some(reason.clone()), ..Self::default() },
        }
    }
}

impl StoredGroup {
    /// A group as a step leaves it; one without advantages was dropped, for this reason.
    pub(crate) fn new(group: &RolloutGroup, advantages: Result<&[f32], &str>) -> Self {
        let sample = &group.prepared.sample;
        let completions = group.completions.iter().enumerate().map(|(place, completion)| StoredCompletion {
            text: completion.text.clone(),
            num_tokens: completion.token_ids.len(),
            truncated: completion.truncated,
            worth: completion.score.as_ref().map(Worth::from).unwrap_or_default(),
            advantage: advantages.map_or(0.0, |advantages| advantages[place]),
            kl: completion.kl,
        });
        Self {
            origin: group.prepared.origin.clone(),
            row: sample.row,
            task: sample.task.key().to_owned(),
            source: sample.source.to_string(),
            dropped: advantages.err().map(str::to_owned),
            completions: completions.collect(),
        }
    }
}

/// A group with the step it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredLine {
    #[serde(flatten)]
    pub(crate) at: Position,
    #[serde(flatten)]
    pub(crate) group: StoredGroup,
}

/// Hands every whole line to `f`; errors of both name file and line. A run that goes on, or was killed, may end in half a
/// line, which is left out.
pub(crate) fn for_each_line(path: &Path, mut f: impl FnMut(StoredLine) -> Result<()>) -> Result<()> {
    let mut reader = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
    let mut line = Vec::new();
    for number in 1.. {
        let at = || format!("{}, line {number}", path.display());
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(at)?;
        if !line.ends_with(b"\n") {
            break;
        }
        f(serde_json::from_slice(&line).with_context(at)?).with_context(at)?;
    }
    Ok(())
}
