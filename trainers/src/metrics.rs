//! What a step reports, under TRL's names where it has one; `…/TASK/DATASET` is the same of one dataset and task.

use std::collections::{BTreeMap, HashSet};

use medgrpo_datasets::ClipId;
use medgrpo_rewards::{Score, parse::is_readable};

use crate::rollout::{RolloutCompletion, RolloutGroup};

/// Named numbers of one step.
pub type Metrics = BTreeMap<String, f64>;

/// Rewards smaller apart than this are one: what rounding leaves of equal ones.
const FLAT: f64 = 1e-6;

/// Rewards, lengths and counts of all groups that a step has drawn.
pub(crate) fn rollout_metrics<'g>(groups: impl Iterator<Item = &'g RolloutGroup> + Clone) -> Metrics {
    let mut metrics = Metrics::new();
    let completions = || groups.clone().flat_map(|group| &group.completions);
    let lens: Vec<f64> = completions().map(|completion| completion.token_ids.len() as f64).collect();
    metrics.insert("completions/mean_length".to_owned(), mean(&lens));
    metrics.insert("completions/min_length".to_owned(), lens.iter().copied().fold(f64::INFINITY, f64::min));
    metrics.insert("completions/max_length".to_owned(), lens.iter().copied().fold(0.0, f64::max));
    let prompts: Vec<f64> =
        groups.clone().map(|group| group.prepared.prompt.input_ids.len() as f64).collect();
    metrics.insert("prompts/mean_length".to_owned(), mean(&prompts));
    if completions().all(|completion| completion.score.is_none()) {
        return metrics;
    }
    let mut all = Tally::default();
    let mut by_pair: BTreeMap<String, Tally> = BTreeMap::new();
    for group in groups {
        let sample = &group.prepared.sample;
        all.add(group);
        by_pair.entry(format!("{}/{}", sample.task, sample.source)).or_default().add(group);
    }
    metrics.insert("reward".to_owned(), mean(&all.rewards));
    metrics.insert("reward_std".to_owned(), mean(&all.deviations));
    metrics.extend(all.shares().map(|(name, share)| (name.to_owned(), share)));
    for (pair, tally) in by_pair {
        metrics.insert(format!("rewards/{pair}/mean"), mean(&tally.rewards));
        metrics.insert(format!("rewards/{pair}/std"), deviation(&tally.rewards));
        if !tally.raw.is_empty() {
            metrics.insert(format!("raw/{pair}/mean"), mean(&tally.raw));
        }
        metrics.extend(tally.shares().map(|(name, share)| (format!("{name}/{pair}"), share)));
        for (name, values) in &tally.parts {
            metrics.insert(format!("parts/{pair}/{name}/mean"), mean(values));
        }
    }
    metrics
}

/// How many clips the prompts of `groups` show.
pub(crate) fn num_clips<'g>(groups: impl Iterator<Item = &'g RolloutGroup>) -> usize {
    let clips: HashSet<ClipId> = groups.filter_map(|group| group.prepared.sample.clip()).collect();
    clips.len()
}

/// Share of the tokens of a step that are learned from with an advantage other than 0: of the gradient's terms, those that say
/// anything. `None` for demonstrations.
pub(crate) fn effective_tokens(
    groups: &[RolloutGroup],
    advantages: &[Vec<f32>],
    leaves_out: impl Fn(&RolloutCompletion) -> bool,
) -> Option<f64> {
    let (mut told, mut all) = (0, 0);
    let mut is_scored = false;
    for (group, advantages) in groups.iter().zip(advantages) {
        for (completion, advantage) in group.completions.iter().zip(advantages) {
            is_scored |= completion.score.is_some();
            let num_tokens = completion.token_ids.len();
            all += num_tokens;
            if f64::from(advantage.abs()) > FLAT && !leaves_out(completion) {
                told += num_tokens;
            }
        }
    }
    is_scored.then(|| share(told, all))
}

/// Some groups.
#[derive(Default)]
struct Tally {
    rewards: Vec<f64>,
    raw: Vec<f64>,
    parts: BTreeMap<String, Vec<f64>>,
    /// Of each group.
    deviations: Vec<f64>,
    num_completions: usize,
    truncated: usize,
    unscored: usize,
    /// Of those answers that a parser reads, and those in which it finds nothing.
    parsed: [usize; 2],
}

impl Tally {
    fn add(&mut self, group: &RolloutGroup) {
        let rewards: Vec<f64> =
            group.completions.iter().filter_map(|it| it.reward()).map(f64::from).collect();
        self.deviations.push(deviation(&rewards));
        self.rewards.extend(rewards);
        for completion in &group.completions {
            self.num_completions += 1;
            self.truncated += usize::from(completion.truncated);
            self.unscored += usize::from(completion.reward().is_none());
            if let Some(is_readable) = is_readable(group.prepared.sample.task, &completion.text) {
                self.parsed[0] += 1;
                self.parsed[1] += usize::from(!is_readable);
            }
            let Some(Score::Scored { raw, parts, .. }) = &completion.score else { continue };
            self.raw.push(f64::from(*raw));
            for (name, value) in parts {
                self.parts.entry(name.to_string()).or_default().push(f64::from(*value));
            }
        }
    }

    /// Shares of groups and of completions.
    fn shares(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let flat = self.deviations.iter().filter(|deviation| **deviation < FLAT).count();
        let [parsed, unparsed] = self.parsed;
        [
            ("frac_reward_zero_std", share(flat, self.deviations.len())),
            ("completions/clipped_ratio", share(self.truncated, self.num_completions)),
            ("frac_unscored", share(self.unscored, self.num_completions)),
        ]
        .into_iter()
        // Captions and names are never unreadable.
        .chain((parsed > 0).then(|| ("frac_unparsed", share(unparsed, parsed))))
    }
}

fn share(count: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let center = mean(values);
    (values.iter().map(|value| (value - center).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use medgrpo_datasets::{Content, ImageRef, Message, Role, SourceId, TaskKind};

    use super::*;
    use crate::testing::scored_group;

    fn group(task: TaskKind, source: &str, rewards: &[Option<(f32, f32)>]) -> RolloutGroup {
        let mut group = scored_group(rewards);
        let sample = Arc::make_mut(&mut group.prepared.sample);
        (sample.task, sample.source) = (task, SourceId::from(source));
        group
    }

    #[test]
    fn a_pair_of_dataset_and_task_has_its_own_numbers() {
        let mut told = group(TaskKind::Tag, "AVOS", &[Some((0.5, 1.0)), Some((0.0, 0.0)), None]);
        told.completions[0].text = "1.0-2.0 seconds.".to_owned();
        told.completions[1].truncated = true;
        let flat = group(TaskKind::Tag, "AVOS", &[Some((0.2, 0.5)), Some((0.2, 0.5))]);
        let captions = group(TaskKind::VideoSummary, "CoPESD", &[Some((0.1, 0.2)), Some((0.3, 0.4))]);
        let groups = [told, flat, captions];
        let metrics = rollout_metrics(groups.iter());
        let close = |name: &str, expected: f64| {
            assert!((metrics[name] - expected).abs() < 1e-6, "{name}: {}", metrics[name]);
        };
        close("rewards/tag/AVOS/mean", 0.5);
        // Of 1, 0, 0.5, 0.5: squares 0.5 over 3.
        close("rewards/tag/AVOS/std", (0.5_f64 / 3.0).sqrt());
        close("raw/tag/AVOS/mean", 0.225);
        close("frac_reward_zero_std/tag/AVOS", 0.5);
        close("completions/clipped_ratio/tag/AVOS", 0.2);
        close("frac_unscored/tag/AVOS", 0.2);
        close("frac_unparsed/tag/AVOS", 0.8);
        close("frac_unparsed", 0.8);
        close("frac_reward_zero_std", 1.0 / 3.0);
        close("completions/clipped_ratio/vs/CoPESD", 0.0);
        close("raw/vs/CoPESD/mean", 0.2);
        assert!(!metrics.contains_key("frac_unparsed/vs/CoPESD"), "a caption is never unreadable");
    }

    #[test]
    fn a_clip_counts_once_however_many_prompts_show_it() {
        let shows = |paths: &[&str]| {
            let mut group = scored_group(&[]);
            let images = paths.iter().map(|path| Content::Image(ImageRef { path: path.into() }));
            let content = images.chain([Content::Text("?".to_owned())]).collect();
            Arc::make_mut(&mut group.prepared.sample).prompt = vec![Message { role: Role::User, content }];
            group
        };
        let groups = [shows(&["a"]), shows(&["b"]), shows(&["a"]), shows(&[]), shows(&["a", "b"])];
        assert_eq!(num_clips(groups.iter()), 3);
    }

    #[test]
    fn only_tokens_with_an_advantage_count() {
        let mut groups = [scored_group(&[Some((0.0, 0.0)), Some((1.0, 1.0)), None])];
        for (completion, len) in groups[0].completions.iter_mut().zip([2, 3, 5]) {
            completion.token_ids = vec![0; len];
        }
        groups[0].completions[1].truncated = true;
        let advantages = [vec![-1.0, 1.0, 0.0]];
        assert_eq!(effective_tokens(&groups, &advantages, |_| false), Some(0.5));
        assert_eq!(effective_tokens(&groups, &advantages, |completion| completion.truncated), Some(0.2));
        groups[0].completions.iter_mut().for_each(|completion| completion.score = None);
        assert_eq!(effective_tokens(&groups, &advantages, |_| false), None);
    }
}
