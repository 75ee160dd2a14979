//! The steps of a run as it recorded them: `rollouts.jsonl` and the tokens behind it, read side by side.

use std::path::Path;

use anyhow::{Result, bail};
use medgrpo_rewards::Score;
use medgrpo_trainers::rollout::RolloutCompletion;

use crate::{
    archive::{ARCHIVE_FILE, ArchiveReader},
    rollouts::{StoredCompletion, StoredGroup, StoredLine, Worth, for_each_line},
    run_dir::{Position, ROLLOUTS_FILE},
};

/// A group that the run learned from.
pub(super) struct Recorded {
    pub(super) stored: StoredGroup,
    pub(super) prompt_tokens: usize,
    pub(super) completions: Vec<RolloutCompletion>,
    /// Of each token of each completion, under the policy before its update.
    pub(super) log_probs: Vec<Vec<f32>>,
    /// Of each completion, as the run took it.
    pub(super) advantages: Vec<f32>,
}

/// Hands the groups of every whole step to `f`, those left out that the run drew and did not learn from; gives how many
/// those are.
pub(super) fn for_each_step(
    run: &Path,
    mut f: impl FnMut(Position, Vec<Recorded>) -> Result<()>,
) -> Result<usize> {
    if !run.join(ARCHIVE_FILE).exists() {
        bail!(
            "{}: there is no {ARCHIVE_FILE} in it: the run has no stage with a reward, or an earlier version of medgrpo \
             made it",
            run.display()
        );
    }
    let mut steps = Steps { archive: ArchiveReader::open(run)?, pending: Vec::new(), num_dropped: 0 };
    for_each_line(&run.join(ROLLOUTS_FILE), |line| {
        if steps.pending.last().is_some_and(|last| last.at != line.at) {
            steps.flush(&mut f)?;
        }
        steps.pending.push(line);
        Ok(())
    })?;
    steps.flush(&mut f)?;
    Ok(steps.num_dropped)
}

struct Steps {
    archive: ArchiveReader,
    /// Lines of one step.
    pending: Vec<StoredLine>,
    num_dropped: usize,
}

impl Steps {
    fn flush(&mut self, f: &mut impl FnMut(Position, Vec<Recorded>) -> Result<()>) -> Result<()> {
        let lines = std::mem::take(&mut self.pending);
        let Some(at) = lines.first().map(|line| line.at) else { return Ok(()) };
        // A run that goes on has written the lines of a step before its tokens.
        let Some(tokens) = self.archive.next_step()? else { return Ok(()) };
        let differs = || {
            anyhow::anyhow!(
                "{ARCHIVE_FILE} does not fit {ROLLOUTS_FILE} at step {} of stage {}: one of them has been changed, or the \
                 run was begun by an earlier version of medgrpo",
                at.step,
                at.stage
            )
        };
        if tokens.len() != lines.len() || tokens.iter().any(|group| group.at != at) {
            return Err(differs());
        }
        let mut groups = Vec::with_capacity(lines.len());
        for (StoredLine { group: stored, .. }, archived) in lines.into_iter().zip(tokens) {
            let lens = archived.token_ids.iter().map(Vec::len);
            if !lens.eq(stored.completions.iter().map(|completion| completion.num_tokens)) {
                return Err(differs());
            }
            let Some(log_probs) = archived.log_probs.filter(|_| stored.dropped.is_none()) else {
                self.num_dropped += 1;
                continue;
            };
            let told = archived.sampling_log_probs.into_iter().flatten().map(Some);
            let told = told.chain(std::iter::repeat(None));
            let completions = stored.completions.iter().zip(archived.token_ids).zip(told);
            groups.push(Recorded {
                completions: completions
                    .map(|((stored, token_ids), told)| completion(stored, token_ids, told))
                    .collect(),
                advantages: stored.completions.iter().map(|completion| completion.advantage).collect(),
                prompt_tokens: archived.prompt_tokens,
                log_probs,
                stored,
            });
        }
        if groups.is_empty() { Ok(()) } else { f(at, groups) }
    }
}

fn completion(
    stored: &StoredCompletion,
    token_ids: Vec<u32>,
    sampling_log_probs: Option<Vec<f32>>,
) -> RolloutCompletion {
    RolloutCompletion {
        token_ids,
        text: stored.text.clone(),
        truncated: stored.truncated,
        score: Some(score(&stored.worth)),
        sampling_log_probs,
        kl: stored.kl,
    }
}

fn score(worth: &Worth) -> Score {
    match (worth.reward, worth.raw) {
        (Some(value), Some(raw)) => {
            let parts = worth.parts.iter().map(|(name, part)| (name.clone().into(), *part)).collect();
            Score::Scored { value, raw, parts }
        }
        _ => Score::Unscored(worth.unscored.clone().unwrap_or_default()),
    }
}
