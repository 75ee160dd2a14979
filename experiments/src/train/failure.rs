//! The batch of a step whose numbers were not finite, in a folder for a person to look at.
//!
//! `failure.json` says what was not finite and where, `groups.jsonl` holds a line for each group of the step.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use medgrpo_datasets::{Content, Frames, Message};
use medgrpo_trainers::{
    failure::{Culprit, FailedStep},
    rollout::RolloutGroup,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{rollouts::Worth, run_dir::write_folder};

/// What went wrong.
#[derive(Serialize)]
struct Failure<'a> {
    stage_index: usize,
    stage: &'a str,
    step: usize,
    /// Of the step's iterations over its batch, from 0.
    iteration: usize,
    error: String,
    /// The first micro-batch that is not finite; null where only the sum over all of them is.
    first_not_finite: Option<&'a Culprit>,
}

/// A group of the step.
#[derive(Serialize)]
struct FailedGroup<'a> {
    group: usize,
    origin: &'a str,
    row: usize,
    id: &'a str,
    task: &'static str,
    source: String,
    prompt: Vec<Value>,
    /// Vision tokens included.
    prompt_tokens: usize,
    completions: Vec<FailedCompletion<'a>>,
}

/// One of its completions. A number that is not finite is null.
#[derive(Serialize)]
struct FailedCompletion<'a> {
    text: &'a str,
    token_ids: &'a [u32],
    truncated: bool,
    #[serde(flatten)]
    worth: Worth,
    advantage: Option<f32>,
    /// Its distance from the reference, where that is part of the reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    kl: Option<f32>,
    /// Of each token under the policy before its update; absent where nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probs: Option<&'a [f32]>,
    /// The same as told by the engine that drew it; absent where that was the policy itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling_log_probs: Option<&'a [f32]>,
    /// Whether it is the first that is not finite by itself.
    first_not_finite: bool,
}

/// Writes the folder of a failed step of a stage (its index and name) into a run directory; one of an earlier try of the same
/// step is replaced.
pub(super) fn write(
    run: &Path,
    (stage_index, stage): (usize, &str),
    failed: &FailedStep<'_>,
) -> Result<PathBuf> {
    let step = failed.done + 1;
    let dir = run.join(format!("failure-{stage_index:02}-{stage}-step-{step:06}"));
    let failure = Failure {
        stage_index,
        stage,
        step,
        iteration: failed.iteration,
        error: failed.error.to_string(),
        first_not_finite: failed.culprit.as_ref(),
    };
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| dir.display().to_string())?;
    }
    write_folder(&dir, |dir| {
        write_synced(&dir.join("failure.json"), &serde_json::to_vec_pretty(&failure)?)?;
        let mut lines = Vec::new();
        for (place, group) in failed.groups.iter().enumerate() {
            serde_json::to_writer(&mut lines, &failed_group(failed, place, group))?;
            lines.push(b'\n');
        }
        write_synced(&dir.join("groups.jsonl"), &lines)
    })?;
    Ok(dir)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

fn failed_group<'a>(failed: &FailedStep<'a>, place: usize, group: &'a RolloutGroup) -> FailedGroup<'a> {
    let sample = &group.prepared.sample;
    let first = failed.culprit.as_ref().and_then(|culprit| culprit.completion);
    let completions = group.completions.iter().enumerate().map(|(number, completion)| FailedCompletion {
        text: &completion.text,
        token_ids: &completion.token_ids,
        truncated: completion.truncated,
        worth: completion.score.as_ref().map(Worth::from).unwrap_or_default(),
        advantage: failed.advantages.get(place).and_then(|group| group.get(number)).copied(),
        kl: completion.kl,
        log_probs: failed
            .log_probs
            .get(place)
            .and_then(|group| group.get(number))
            .map(Vec::as_slice)
            .filter(|log_probs| !log_probs.is_empty()),
        sampling_log_probs: completion.sampling_log_probs.as_deref(),
        first_not_finite: first == Some((place, number)),
    });
    FailedGroup {
        group: place,
        origin: &group.prepared.origin,
        row: sample.row,
        id: &sample.id,
        task: sample.task.key(),
        source: sample.source.to_string(),
        prompt: sample.prompt.iter().map(message).collect(),
        prompt_tokens: group.prepared.prompt.input_ids.len(),
        completions: completions.collect(),
    }
}

/// A message with the files behind its media.
fn message(message: &Message) -> Value {
    let part = |content: &Content| match content {
        Content::Text(text) => json!({ "type": "text", "text": text }),
        Content::Image(image) => json!({ "type": "image", "image": image.path.display().to_string() }),
        Content::Video(clip) => match &clip.frames {
            Frames::Files { paths, fps } => {
                let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
                json!({ "type": "video", "video": paths, "fps": fps })
            }
            Frames::Video { path, fps, start_sec, end_sec } => {
                let path = path.display().to_string();
                json!({ "type": "video", "video": path, "fps": fps, "start_sec": start_sec, "end_sec": end_sec })
            }
        },
    };
    json!({ "role": message.role.as_str(), "content": message.content.iter().map(part).collect::<Vec<_>>() })
}
