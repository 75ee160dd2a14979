//! `medgrpo rewards rescore`: other rewards over the answers that a run has stored.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::{Dataset as _, TaskKind, TaskSample};
use medgrpo_rewards::{Response, Reward, Score, audit::rank::rank_correlation};
use serde::Serialize;

use super::{reward_of, stage_index};
use crate::{
    build::{self, DataFile},
    cli::RescoreArgs,
    config::{self, resolved::Experiment},
    print,
    rollouts::{StoredGroup, StoredLine, Worth, for_each_line},
    run_dir::{CONFIG_FILE, Position, ROLLOUTS_FILE, write_atomic},
};

/// A stored completion with its new reward.
#[derive(Serialize)]
struct Rescored<'a> {
    text: &'a str,
    num_tokens: usize,
    truncated: bool,
    old_reward: Option<f32>,
    #[serde(flatten)]
    worth: Worth,
}

/// A stored group with its new rewards.
#[derive(Serialize)]
struct RescoredGroup<'a> {
    #[serde(flatten)]
    at: Position,
    origin: &'a str,
    row: usize,
    task: &'a str,
    source: &'a str,
    completions: Vec<Rescored<'a>>,
}

/// Old against new, over the groups of a dataset and task.
#[derive(Default)]
struct Comparison {
    groups: usize,
    completions: usize,
    changed: usize,
    unscored: usize,
    old: Vec<f32>,
    new: Vec<f32>,
    correlations: Vec<f64>,
}

/// Rewards that differ by less are the same.
const SAME: f32 = 1e-6;

pub(in super::super) fn run(args: &RescoreArgs) -> Result<()> {
    let own = args.run.join(CONFIG_FILE);
    if !own.exists() {
        bail!(
            "{} holds no run (no {CONFIG_FILE}): give a run directory of `medgrpo train`",
            args.run.display()
        );
    }
    let trained = config::load(&own, &[]).context("the run directory's own config")?;
    let paying = match &args.config {
        Some(path) => config::load(path, &args.overrides)?,
        None => config::load(&own, &args.overrides)?,
    };
    let chosen = match (args.stage, &args.config) {
        (None, None) => None,
        (wanted, _) => Some(stage_index(&paying, wanted)?),
    };
    let mut rewards = Rewards { experiment: &paying, folder: &args.run, chosen, built: BTreeMap::new() };
    let truths = Truths::open(&trained)?;
    let path = args.run.join(ROLLOUTS_FILE);
    let mut comparisons: BTreeMap<(String, TaskKind), Comparison> = BTreeMap::new();
    let mut lines: Vec<u8> = Vec::new();
    for_each_line(&path, |StoredLine { at, group }| {
        let sample = truths.find(&group)?;
        let responses: Vec<Response<'_>> = group
            .completions
            .iter()
            .map(|c| Response { text: &c.text, num_tokens: c.num_tokens, truncated: c.truncated })
            .collect();
        let scores = rewards.of(at.stage)?.score_group(&sample, &responses)?;
        let comparison = comparisons.entry((group.source.clone(), sample.task)).or_default();
        comparison.add(&group, &scores);
        if args.out.is_some() {
            serde_json::to_writer(&mut lines, &rescored(at, &group, &scores))?;
            lines.push(b'\n');
        }
        Ok(())
    })?;
    if comparisons.is_empty() {
        bail!("{}: there are no rollouts in it: the run had no stage with a reward", path.display());
    }
    if let Some(out) = &args.out {
        write_atomic(out, &lines)?;
    }
    print(&table(&comparisons));
    Ok(())
}

/// The rewards by stage, each built once.
struct Rewards<'a> {
    experiment: &'a Experiment,
    /// The run, which may hold calibrations.
    folder: &'a Path,
    /// The stage whose reward is paid for all; otherwise each rollout's own.
    chosen: Option<usize>,
    built: BTreeMap<usize, Arc<dyn Reward>>,
}

impl Rewards<'_> {
    fn of(&mut self, stage: usize) -> Result<Arc<dyn Reward>> {
        let index = stage_index(self.experiment, Some(self.chosen.unwrap_or(stage)))?;
        if let Some(known) = self.built.get(&index) {
            return Ok(Arc::clone(known));
        }
        let reward = reward_of(self.experiment, index, self.folder)?;
        self.built.insert(index, Arc::clone(&reward));
        Ok(reward)
    }
}

/// The records that rollouts answer.
struct Truths {
    files: Vec<DataFile>,
    /// (file, place) by origin.
    by_origin: HashMap<String, (usize, usize)>,
}

impl Truths {
    fn open(experiment: &Experiment) -> Result<Self> {
        let files = build::open_train(experiment).context("the data that the run was trained on")?;
        let mut by_origin = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            for (place, label) in file.usable.labels().iter().enumerate() {
                by_origin.insert(file.origin_of(label.row), (number, place));
            }
        }
        Ok(Self { files, by_origin })
    }

    fn find(&self, stored: &StoredGroup) -> Result<TaskSample> {
        let origin = &stored.origin;
        let Some(&(file, place)) = self.by_origin.get(origin) else {
            bail!(
                "{origin} is not among the usable rows of `data.train` of the run: bring the data back to where it was"
            );
        };
        let sample = self.files[file].usable.get(place)?;
        if sample.task.key() != stored.task || sample.source.as_str() != stored.source {
            bail!(
                "{origin} is now of task {} and source {}, but the rollout was of {} and {}: the file has changed since",
                sample.task,
                sample.source,
                stored.task,
                stored.source
            );
        }
        Ok(sample)
    }
}

impl Comparison {
    fn add(&mut self, stored: &StoredGroup, scores: &[Score]) {
        self.groups += 1;
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (completion, score) in stored.completions.iter().zip(scores) {
            self.completions += 1;
            let value = match score {
                Score::Scored { value, .. } => Some(*value),
                Score::Unscored(_) => {
                    self.unscored += 1;
                    None
                }
            };
            self.changed += usize::from(match (completion.worth.reward, value) {
                (Some(before), Some(now)) => (before - now).abs() > SAME,
                (before, now) => before.is_some() != now.is_some(),
            });
            self.old.extend(completion.worth.reward);
            self.new.extend(value);
            if let (Some(before), Some(now)) = (completion.worth.reward, value) {
                old.push(before);
                new.push(now);
            }
        }
        self.correlations.extend(rank_correlation(&old, &new));
    }
}

fn rescored<'a>(at: Position, stored: &'a StoredGroup, scores: &[Score]) -> RescoredGroup<'a> {
    let completions = stored.completions.iter().zip(scores).map(|(stored, score)| Rescored {
        text: &stored.text,
        num_tokens: stored.num_tokens,
        truncated: stored.truncated,
        old_reward: stored.worth.reward,
        worth: score.into(),
    });
    RescoredGroup {
        at,
        origin: &stored.origin,
        row: stored.row,
        task: &stored.task,
        source: &stored.source,
        completions: completions.collect(),
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

fn table(comparisons: &BTreeMap<(String, TaskKind), Comparison>) -> String {
    let mut table = String::from(
        "| dataset | task | groups | completions | changed | unscored | old mean | new mean | rank correlation |\n\
         |---|---|---|---|---|---|---|---|---|",
    );
    for ((source, task), comparison) in comparisons {
        let shown = |mean: Option<f64>| mean.map_or("-".to_owned(), |mean| format!("{mean:.4}"));
        let old = shown(mean(comparison.old.iter().map(|value| f64::from(*value))));
        let new = shown(mean(comparison.new.iter().map(|value| f64::from(*value))));
        let correlation = shown(mean(comparison.correlations.iter().copied()));
        table += &format!(
            "\n| {source} | {task} | {} | {} | {} | {} | {old} | {new} | {correlation} |",
            comparison.groups, comparison.completions, comparison.changed, comparison.unscored
        );
    }
    table + "\n\nThe rank correlation is the mean over groups whose rewards differ, old and new."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollouts::StoredCompletion;

    fn stored(rewards: &[Option<f32>]) -> StoredGroup {
        let completion = |reward: &Option<f32>| StoredCompletion {
            text: String::new(),
            num_tokens: 1,
            truncated: false,
            worth: Worth { reward: *reward, ..Worth::default() },
            advantage: 0.0,
            kl: None,
        };
        StoredGroup {
            dropped: None,
            origin: "train.json, row 0".into(),
            row: 0,
            task: "tag".into(),
            source: "AVOS".into(),
            completions: rewards.iter().map(completion).collect(),
        }
    }

    #[test]
    fn old_and_new_by_hand() {
        let mut comparison = Comparison::default();
        let scores = |values: [Option<f32>; 3]| {
            values.map(|value| value.map_or(Score::Unscored("late".into()), Score::metric))
        };
        comparison
            .add(&stored(&[Some(0.0), Some(0.5), Some(1.0)]), &scores([Some(1.0), Some(0.5), Some(0.0)]));
        comparison.add(&stored(&[None, Some(0.5), Some(1.0)]), &scores([None, None, Some(1.0)]));
        assert_eq!((comparison.changed, comparison.unscored, comparison.completions), (3, 2, 6));
        assert_eq!(comparison.correlations, [-1.0]);
        let table = table(&BTreeMap::from([(("AVOS".to_owned(), TaskKind::Tag), comparison)]));
        assert!(table.contains("| AVOS | tag | 2 | 6 | 3 | 2 | 0.6000 | 0.6250 | -1.0000 |"), "{table}");
    }
}
