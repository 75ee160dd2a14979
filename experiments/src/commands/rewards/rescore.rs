//! `medgrpo rewards rescore`: other rewards over the answers that a run has stored.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::{Dataset as _, TaskKind, TaskSample};
use medgrpo_rewards::{PerTask, Response, Reward as _, Score, audit::rank::rank_correlation};
use serde::{Deserialize, Serialize};

use super::{reward_of, stage_index};
use crate::{
    build::{self, DataFile},
    cli::RescoreArgs,
    config::{self, resolved::Experiment},
    print,
    run_dir::{CONFIG_FILE, ROLLOUTS_FILE, write_atomic},
};

/// A line of `rollouts.jsonl`, as far as it is needed.
#[derive(Deserialize)]
struct Stored {
    stage: usize,
    step: usize,
    /// Absent in runs from before it was written.
    origin: Option<String>,
    row: usize,
    task: String,
    source: String,
    completions: Vec<StoredCompletion>,
}

#[derive(Deserialize)]
struct StoredCompletion {
    text: String,
    num_tokens: usize,
    truncated: bool,
    reward: Option<f32>,
}

/// The same with its new rewards.
#[derive(Serialize)]
struct Rescored<'a> {
    stage: usize,
    step: usize,
    origin: &'a str,
    row: usize,
    task: &'a str,
    source: &'a str,
    completions: Vec<RescoredCompletion<'a>>,
}

#[derive(Serialize)]
struct RescoredCompletion<'a> {
    text: &'a str,
    num_tokens: usize,
    truncated: bool,
    old_reward: Option<f32>,
    reward: Option<f32>,
    raw: Option<f32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unscored: Option<String>,
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
    let mut rewards = Rewards { experiment: &paying, chosen, built: BTreeMap::new() };
    let truths = Truths::open(&trained)?;
    let path = args.run.join(ROLLOUTS_FILE);
    let mut comparisons: BTreeMap<(String, TaskKind), Comparison> = BTreeMap::new();
    let mut lines: Vec<u8> = Vec::new();
    let mut reader = BufReader::new(File::open(&path).with_context(|| path.display().to_string())?);
    let mut line = Vec::new();
    for number in 1.. {
        let at = || format!("{}, line {number}", path.display());
        line.clear();
        reader.read_until(b'\n', &mut line).with_context(at)?;
        // A run that goes on, or was killed, may end in half a line.
        if !line.ends_with(b"\n") {
            break;
        }
        let stored: Stored = serde_json::from_slice(&line).with_context(at)?;
        let sample = truths.find(&stored).with_context(at)?;
        let responses: Vec<Response<'_>> = stored
            .completions
            .iter()
            .map(|c| Response { text: &c.text, num_tokens: c.num_tokens, truncated: c.truncated })
            .collect();
        let scores = rewards.of(stored.stage)?.score_group(&sample, &responses).with_context(at)?;
        let comparison = comparisons.entry((stored.source.clone(), sample.task)).or_default();
        comparison.add(&stored, &scores);
        if args.out.is_some() {
            serde_json::to_writer(&mut lines, &rescored(&stored, &truths.origin_of(&stored), scores))?;
            lines.push(b'\n');
        }
    }
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
    /// The stage whose reward is paid for all; otherwise each rollout's own.
    chosen: Option<usize>,
    built: BTreeMap<usize, PerTask>,
}

impl Rewards<'_> {
    fn of(&mut self, stage: usize) -> Result<&PerTask> {
        let index = stage_index(self.experiment, Some(self.chosen.unwrap_or(stage)))?;
        match self.built.entry(index) {
            std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                Ok(free.insert(reward_of(self.experiment, index)?))
            }
        }
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

    /// The origin as stored; in older runs what can be told of it.
    fn origin_of(&self, stored: &Stored) -> String {
        match (&stored.origin, self.files.as_slice()) {
            (Some(origin), _) => origin.clone(),
            (None, [only]) => only.origin_of(stored.row),
            (None, _) => format!("row {}", stored.row),
        }
    }

    fn find(&self, stored: &Stored) -> Result<TaskSample> {
        let origin = self.origin_of(stored);
        let Some(&(file, place)) = self.by_origin.get(&origin) else {
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
    fn add(&mut self, stored: &Stored, scores: &[Score]) {
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
            self.changed += usize::from(match (completion.reward, value) {
                (Some(before), Some(now)) => (before - now).abs() > SAME,
                (before, now) => before.is_some() != now.is_some(),
            });
            self.old.extend(completion.reward);
            self.new.extend(value);
            if let (Some(before), Some(now)) = (completion.reward, value) {
                old.push(before);
                new.push(now);
            }
        }
        self.correlations.extend(rank_correlation(&old, &new));
    }
}

fn rescored<'a>(stored: &'a Stored, origin: &'a str, scores: Vec<Score>) -> Rescored<'a> {
    let completion = |(stored, score): (&'a StoredCompletion, Score)| {
        let mut line = RescoredCompletion {
            text: &stored.text,
            num_tokens: stored.num_tokens,
            truncated: stored.truncated,
            old_reward: stored.reward,
            reward: None,
            raw: None,
            parts: BTreeMap::new(),
            unscored: None,
        };
        match score {
            Score::Scored { value, raw, parts } => {
                (line.reward, line.raw) = (Some(value), Some(raw));
                line.parts = parts.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
            }
            Score::Unscored(reason) => line.unscored = Some(reason),
        }
        line
    };
    Rescored {
        stage: stored.stage,
        step: stored.step,
        origin,
        row: stored.row,
        task: &stored.task,
        source: &stored.source,
        completions: stored.completions.iter().zip(scores).map(completion).collect(),
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

    fn stored(rewards: &[Option<f32>]) -> Stored {
        let completion = |reward: &Option<f32>| StoredCompletion {
            text: String::new(),
            num_tokens: 1,
            truncated: false,
            reward: *reward,
        };
        Stored {
            stage: 0,
            step: 1,
            origin: None,
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
