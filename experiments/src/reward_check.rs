//! What a stage's reward pays for the right answer, for nothing, for half an answer and for tricks, over records that the
//! stage trains on.

use std::path::{Path, PathBuf};

use anyhow::Result;
use medgrpo_datasets::{Content, Dataset as _, TaskKind, TaskSample, video::clip_info};
use medgrpo_rewards::{
    Reward,
    audit::{Audit, Auditor, Clip, Finding, Limits},
};

use crate::{build::DataFile, print, progress::Progress, run_dir::write_atomic};

/// Findings of one kind told on the terminal; all are in the JSON.
const MAX_TOLD: usize = 3;

/// Where a run keeps what was found of a stage's reward; the tables are beside it as Markdown.
pub(crate) fn reward_check_file(folder: &Path, stage: &str) -> PathBuf {
    folder.join(format!("rewards-check-{stage}.json"))
}

/// What was found.
pub(crate) struct RewardCheck {
    pub(crate) audit: Audit,
    /// Clips whose frames could not be looked at.
    num_unseen: usize,
}

impl RewardCheck {
    /// Tries the reward on up to `limit` records of the tasks from each file, spread evenly.
    pub(crate) fn of(
        reward: &dyn Reward,
        files: &[DataFile],
        tasks: &[TaskKind],
        limit: usize,
        limits: Limits,
    ) -> Result<Self> {
        let chosen: Vec<_> = files.iter().map(|file| (file, file.spread(tasks, limit))).collect();
        let num_records: usize = chosen.iter().map(|(_, places)| places.len()).sum();
        let mut auditor = Auditor::new(reward, limits);
        let mut num_unseen = 0;
        let progress = Progress::start("check rewards", num_records, "records");
        let mut done = 0;
        for (file, places) in chosen {
            for place in places {
                let sample = file.usable.get(place)?;
                let clip = look_at(&sample).unwrap_or_else(|| {
                    num_unseen += 1;
                    Clip::of(&sample)
                });
                auditor.add(&file.origin(&sample), &sample, clip)?;
                done += 1;
                progress.set(done);
            }
        }
        progress.finish();
        Ok(Self { audit: auditor.finish(), num_unseen })
    }

    /// Writes all of it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(write_atomic(path, &serde_json::to_vec_pretty(&self.audit)?)?)
    }

    /// The tables of what was paid.
    pub(crate) fn to_markdown(&self) -> String {
        let mut text = self.audit.to_markdown();
        if self.num_unseen > 0 {
            text += &format!(
                "\n{} clips could not be read: whole-frame boxes took 1920x1080 for their size\n",
                self.num_unseen
            );
        }
        text
    }

    /// Prints what did not hold; gives how often.
    pub(crate) fn tell(&self) -> Result<usize> {
        let audit = &self.audit;
        if !audit.unscored.is_empty() {
            print(&format!("{} records had answers that could not be scored:", audit.unscored.len()));
            for unscored in audit.unscored.iter().take(MAX_TOLD) {
                print(&format!("  {}: {}", unscored.origin, unscored.reason));
            }
        }
        let seldom = audit.findings.len() - audit.violations().count();
        if seldom > 0 {
            print(&format!(
                "{seldom} times a trick was by chance better than a half-right answer (not counted)"
            ));
        }
        let violations: Vec<&Finding> = audit.violations().collect();
        let kind = |finding: &Finding| (finding.task, finding.law, finding.answer);
        let mut kinds: Vec<_> = violations.iter().map(|finding| kind(finding)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (task, law, answer) in kinds {
            let of_kind: Vec<_> =
                violations.iter().filter(|finding| kind(finding) == (task, law, answer)).collect();
            let law = serde_json::to_value(law)?.as_str().unwrap_or_default().replace('_', " ");
            print(&format!(
                "{task}: the law \"{law}\" is broken by {}, {} times:",
                answer.as_str(),
                of_kind.len()
            ));
            for finding in of_kind.iter().take(MAX_TOLD) {
                print(&format!(
                    "  {}: {:.4} against {:.4}, {:?}",
                    finding.origin, finding.value, finding.limit, finding.text
                ));
            }
        }
        match (violations.is_empty(), audit.records > audit.unscored.len()) {
            (false, _) => {}
            (true, true) => print("every law of rewards holds"),
            (true, false) => print("no record could be checked"),
        }
        Ok(violations.len())
    }
}

/// Length and size of the sample's clip; `None` without one that can be read.
fn look_at(sample: &TaskSample) -> Option<Clip> {
    let mut contents = sample.prompt.iter().flat_map(|message| &message.content);
    let video = contents.find_map(|content| match content {
        Content::Video(video) => Some(video),
        Content::Text(_) | Content::Image(_) => None,
    })?;
    let info = clip_info(video).ok()?;
    Some(Clip { frame_size: [f64::from(info.width), f64::from(info.height)], ..Clip::of(sample) })
}
