//! What a recipe makes of recorded groups, beside what the run made of them.

use std::collections::BTreeMap;

use medgrpo_trainers::replay::Share;
use serde::Serialize;

use crate::run_dir::Position;

/// A completion under one recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Under {
    pub(super) advantage: f32,
    /// Its part of the step's loss.
    pub(super) loss: f64,
    /// Its part of the step's gradient: absolute values of the weights of its tokens, added up.
    pub(super) gradient_weight: f64,
}

impl Under {
    pub(super) fn new(advantage: f32, share: Share) -> Self {
        Self { advantage, loss: share.loss, gradient_weight: share.gradient }
    }
}

/// A completion under both.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ReplayedCompletion {
    pub(super) num_tokens: usize,
    pub(super) truncated: bool,
    pub(super) recorded: Under,
    /// `None` where the recipe would not learn from its group.
    pub(super) replayed: Option<Under>,
}

/// A group under both.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ReplayedGroup {
    #[serde(flatten)]
    pub(super) at: Position,
    pub(super) origin: String,
    pub(super) task: String,
    pub(super) source: String,
    /// Why the recipe would not learn from it.
    pub(super) left_out: Option<&'static str>,
    pub(super) completions: Vec<ReplayedCompletion>,
}

/// Sums over some completions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    groups: usize,
    zero_groups: usize,
    completions: usize,
    tokens: usize,
    advantage: f64,
    loss: f64,
    gradient: f64,
}

/// Sums as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Told {
    /// 0 where the completions of a group stand in several rows.
    pub(super) groups: usize,
    pub(super) completions: usize,
    pub(super) tokens: usize,
    /// Mean of the absolute advantages.
    pub(super) mean_abs_advantage: f64,
    /// Share of groups in which every advantage is 0.
    pub(super) zero_groups: f64,
    /// Part of the loss of a step, on average.
    pub(super) loss: f64,
    /// Part of the gradient's weight, on average over steps.
    pub(super) gradient_weight: f64,
    /// The same as a share of the whole.
    pub(super) gradient_share: f64,
}

/// One row: recorded and replayed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) recorded: Told,
    pub(super) replayed: Told,
}

/// Advantages closer to 0 than this are 0: an equal reward leaves rounding.
const ZERO: f32 = 1e-6;

impl Sums {
    fn add(&mut self, completion: &ReplayedCompletion, under: Under) {
        self.completions += 1;
        self.tokens += completion.num_tokens;
        self.advantage += f64::from(under.advantage.abs());
        self.loss += under.loss;
        self.gradient += under.gradient_weight;
    }

    fn told(self, num_steps: usize, whole: Self) -> Told {
        let per = |sum: f64, count: f64| if count == 0.0 { 0.0 } else { sum / count };
        Told {
            groups: self.groups,
            completions: self.completions,
            tokens: self.tokens,
            mean_abs_advantage: per(self.advantage, self.completions as f64),
            zero_groups: per(self.zero_groups as f64, self.groups as f64),
            loss: per(self.loss, num_steps as f64),
            gradient_weight: per(self.gradient, num_steps as f64),
            gradient_share: per(self.gradient, whole.gradient),
        }
    }
}

/// Rows of groups by `key`, each over `num_steps` steps.
fn rows<K: Ord>(
    groups: &[ReplayedGroup],
    num_steps: usize,
    key: impl Fn(&ReplayedGroup, &ReplayedCompletion) -> K,
    name: impl Fn(&K) -> String,
) -> Vec<Row> {
    let mut sums: BTreeMap<K, [Sums; 2]> = BTreeMap::new();
    let mut whole = [Sums::default(); 2];
    for group in groups {
        let sides: [Vec<Option<Under>>; 2] = [
            group.completions.iter().map(|completion| Some(completion.recorded)).collect(),
            group.completions.iter().map(|completion| completion.replayed).collect(),
        ];
        for (side, all) in sides.iter().enumerate() {
            for (completion, under) in group.completions.iter().zip(all) {
                let entry = sums.entry(key(group, completion)).or_default();
                if let Some(under) = under {
                    entry[side].add(completion, *under);
                    whole[side].add(completion, *under);
                }
            }
            let Some(first) = group.completions.first().filter(|_| all.iter().all(Option::is_some)) else {
                continue;
            };
            let entry = &mut sums.entry(key(group, first)).or_default()[side];
            entry.groups += 1;
            entry.zero_groups += usize::from(all.iter().flatten().all(|under| under.advantage.abs() < ZERO));
        }
    }
    let row = |(key, [recorded, replayed]): (K, [Sums; 2])| Row {
        name: name(&key),
        recorded: recorded.told(num_steps, whole[0]),
        replayed: replayed.told(num_steps, whole[1]),
    };
    sums.into_iter().map(row).collect()
}

/// Steps that `groups`, in their order, belong to.
pub(super) fn count_steps(groups: &[ReplayedGroup]) -> usize {
    groups.chunk_by(|a, b| a.at == b.at).count()
}

/// One row over all.
pub(super) fn total(groups: &[ReplayedGroup]) -> Vec<Row> {
    rows(groups, count_steps(groups), |_, _| (), |()| "all".to_owned())
}

/// A row for each dataset and task.
pub(super) fn by_pair(groups: &[ReplayedGroup]) -> Vec<Row> {
    let key = |group: &ReplayedGroup, _: &ReplayedCompletion| (group.source.clone(), group.task.clone());
    rows(groups, count_steps(groups), key, |(source, task)| format!("{source}, {task}"))
}

/// A row for each step.
pub(super) fn by_step(groups: &[ReplayedGroup]) -> Vec<Row> {
    let steps = groups.chunk_by(|a, b| a.at == b.at);
    steps.flat_map(|step| rows(step, 1, |group, _| group.at.step, |step| format!("step {step}"))).collect()
}

/// A row for each quarter of the completions by length, fewer where many are equally long.
pub(super) fn by_length(groups: &[ReplayedGroup]) -> Vec<Row> {
    let completions = groups.iter().flat_map(|group| &group.completions);
    let mut lens: Vec<usize> = completions.map(|completion| completion.num_tokens).collect();
    lens.sort_unstable();
    let mut ends: Vec<usize> = (1..=4)
        .filter_map(|quarter| lens.get((quarter * lens.len()).div_ceil(4).max(1) - 1).copied())
        .collect();
    ends.dedup();
    let bucket = |completion: &ReplayedCompletion| ends.partition_point(|end| *end < completion.num_tokens);
    let name = |bucket: &usize| {
        let first =
            bucket.checked_sub(1).map_or(lens.first().copied().unwrap_or(0), |before| ends[before] + 1);
        format!("{first} to {} tokens", ends[*bucket])
    };
    let mut rows = rows(groups, count_steps(groups), |_, completion| bucket(completion), name);
    for told in rows.iter_mut().flat_map(|row| [&mut row.recorded, &mut row.replayed]) {
        (told.groups, told.zero_groups) = (0, 0.0);
    }
    rows
}

/// Largest distance between a recorded advantage and its replay.
pub(super) fn largest_advantage_difference(groups: &[ReplayedGroup]) -> f64 {
    let completions = groups.iter().flat_map(|group| &group.completions);
    let differences = completions.filter_map(|completion| {
        let replayed = completion.replayed?;
        Some((f64::from(replayed.advantage) - f64::from(completion.recorded.advantage)).abs())
    });
    differences.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(step: usize, source: &str, completions: &[(usize, f32, Option<f32>)]) -> ReplayedGroup {
        let under =
            |advantage: f32| Under { advantage, loss: -1.0, gradient_weight: f64::from(advantage.abs()) };
        ReplayedGroup {
            at: Position { stage: 1, step },
            origin: String::new(),
            task: "tag".to_owned(),
            source: source.to_owned(),
            left_out: None,
            completions: completions
                .iter()
                .map(|&(num_tokens, recorded, replayed)| ReplayedCompletion {
                    num_tokens,
                    truncated: false,
                    recorded: under(recorded),
                    replayed: replayed.map(under),
                })
                .collect(),
        }
    }

    fn groups() -> [ReplayedGroup; 3] {
        [
            group(1, "A", &[(4, 1.0, Some(0.5)), (8, -1.0, Some(-0.5))]),
            group(1, "B", &[(4, 0.0, None), (4, 0.0, None)]),
            group(2, "A", &[(2, 3.0, Some(1.0)), (6, -3.0, Some(-1.0))]),
        ]
    }

    #[test]
    fn sums_by_hand() {
        let groups = groups();
        let all = total(&groups).remove(0);
        assert_eq!((all.recorded.groups, all.recorded.completions, all.recorded.tokens), (3, 6, 28));
        assert_eq!((all.replayed.groups, all.replayed.completions, all.replayed.zero_groups), (2, 4, 0.0));
        assert!((all.recorded.mean_abs_advantage - 8.0 / 6.0).abs() < 1e-12);
        assert!((all.recorded.zero_groups - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(
            (all.recorded.loss, all.recorded.gradient_weight, all.recorded.gradient_share),
            (-3.0, 4.0, 1.0)
        );
        let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let steps = by_step(&groups);
        assert_eq!(names(&steps), ["step 1", "step 2"]);
        assert_eq!((steps[0].recorded.loss, steps[1].replayed.gradient_weight), (-4.0, 2.0));
        assert_eq!(names(&by_pair(&groups)), ["A, tag", "B, tag"]);
        assert_eq!(largest_advantage_difference(&groups), 2.0);
    }

    #[test]
    fn quarters_hold_every_completion_once() {
        // Sorted lengths: 2, 4, 4, 4, 6, 8.
        let groups = groups();
        let rows = by_length(&groups);
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["2 to 4 tokens", "5 to 6 tokens", "7 to 8 tokens"]);
        assert_eq!(rows.iter().map(|row| row.recorded.completions).collect::<Vec<_>>(), [4, 1, 1]);
        let shares: f64 = rows.iter().map(|row| row.replayed.gradient_share).sum();
        assert!((shares - 1.0).abs() < 1e-12);
        assert!(by_length(&[]).is_empty());
        let equal = [group(1, "A", &[(5, 1.0, None), (5, 0.0, None)])];
        assert_eq!(by_length(&equal)[0].name, "5 to 5 tokens");
    }
}
