//! In which order rows are seen: a seeded shuffle for every epoch, resumable at any place.
//!
//! The order of an epoch follows from the seed and the epoch's number alone, so the state is three numbers. Weights
//! belong to groups of rows (a task, a source): weight 1 shows each row once an epoch, 2 twice, 0.5 a half of them,
//! another half each epoch. [`Runs`] bring rows that show one clip together.

use std::collections::BTreeMap;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{RowLabel, Runs, SourceId, TaskKind};

/// Where an order stands: all that a checkpoint needs to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CursorState {
    /// Seed of all epochs' orders.
    pub seed: u64,
    /// The epoch in hand, from 0.
    pub epoch: u64,
    /// How many rows of the epoch have been given.
    pub position: usize,
}

/// Rows that share a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The rows.
    pub rows: Vec<usize>,
    /// How often each is seen in an epoch, on average; finite and not negative.
    pub weight: f64,
}

/// What cannot be ordered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CursorError {
    /// A weight that is no weight.
    #[error("the weight of group {group} is {weight}, expected a number of 0 or more")]
    Weight {
        /// Place of the group.
        group: usize,
        /// The weight.
        weight: f64,
    },
    /// Nothing is left to show.
    #[error("an epoch would be empty: no rows, or weights too small to show one")]
    Empty,
    /// The state is of another set of rows.
    #[error(
        "the saved position {position} lies beyond an epoch of {num_rows} rows: the data or its weights have changed"
    )]
    Position {
        /// Position in the state.
        position: usize,
        /// Rows in an epoch now.
        num_rows: usize,
    },
}

/// Gives rows without end, epoch after epoch.
#[derive(Clone, Debug)]
pub struct Cursor {
    groups: Vec<Group>,
    runs: Option<Runs>,
    state: CursorState,
    /// The order of the epoch in hand.
    order: Vec<usize>,
}

impl Cursor {
    /// Every row of `0..num_rows` once an epoch.
    ///
    /// # Errors
    /// No rows.
    pub fn new(num_rows: usize, seed: u64) -> Result<Self, CursorError> {
        Self::weighted(vec![Group { rows: (0..num_rows).collect(), weight: 1.0 }], seed)
    }

    /// Groups by their weights.
    ///
    /// # Errors
    /// A weight that is negative or not finite; an epoch that would be empty.
    pub fn weighted(groups: Vec<Group>, seed: u64) -> Result<Self, CursorError> {
        for (group, &Group { weight, .. }) in groups.iter().enumerate() {
            if !weight.is_finite() || weight < 0.0 {
                return Err(CursorError::Weight { group, weight });
            }
        }
        let order = epoch_order(&groups, None, seed, 0);
        if order.is_empty() {
            return Err(CursorError::Empty);
        }
        Ok(Self { groups, runs: None, state: CursorState { seed, epoch: 0, position: 0 }, order })
    }

    /// The same rows as often, those of one clip in runs; from the start of the epoch in hand.
    ///
    /// # Panics
    /// If `runs` lack a row.
    pub fn in_runs(self, runs: Runs) -> Self {
        let state = CursorState { position: 0, ..self.state };
        let order = epoch_order(&self.groups, Some(&runs), state.seed, state.epoch);
        Self { groups: self.groups, runs: Some(runs), state, order }
    }

    /// The same rows, weights and runs, continued from a saved state.
    ///
    /// # Errors
    /// A state that does not fit the rows.
    pub fn resume(self, state: CursorState) -> Result<Self, CursorError> {
        let order = epoch_order(&self.groups, self.runs.as_ref(), state.seed, state.epoch);
        if state.position > order.len() {
            return Err(CursorError::Position { position: state.position, num_rows: order.len() });
        }
        Ok(Self { groups: self.groups, runs: self.runs, state, order })
    }

    /// The next row. An epoch is left only when a row of the next is asked for, so that after its last row the state
    /// still names it.
    pub fn next_row(&mut self) -> usize {
        if self.state.position == self.order.len() {
            self.state.epoch += 1;
            self.state.position = 0;
            self.order = epoch_order(&self.groups, self.runs.as_ref(), self.state.seed, self.state.epoch);
        }
        let row = self.order[self.state.position];
        self.state.position += 1;
        row
    }

    /// Where the order stands.
    pub fn state(&self) -> CursorState {
        self.state
    }

    /// Rows in an epoch, the same for every epoch.
    pub fn num_rows_per_epoch(&self) -> usize {
        self.order.len()
    }
}

/// Groups labelled rows by task and source, with the product of both weights; what is not named has weight 1. Rows of a
/// group are places in `labels`.
pub fn group_by_label(
    labels: &[RowLabel],
    task_weights: &BTreeMap<TaskKind, f64>,
    source_weights: &BTreeMap<SourceId, f64>,
) -> Vec<Group> {
    let mut groups = BTreeMap::<(TaskKind, &SourceId), Vec<usize>>::new();
    for (at, label) in labels.iter().enumerate() {
        groups.entry((label.task, &label.source)).or_default().push(at);
    }
    groups
        .into_iter()
        .map(|((task, source), rows)| {
            let task_weight = task_weights.get(&task).copied().unwrap_or(1.0);
            Group { rows, weight: task_weight * source_weights.get(source).copied().unwrap_or(1.0) }
        })
        .collect()
}

fn epoch_order(groups: &[Group], runs: Option<&Runs>, seed: u64, epoch: u64) -> Vec<usize> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"epoch order");
    hasher.update(&seed.to_le_bytes());
    hasher.update(&epoch.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(hasher.finalize().into());
    let mut order = Vec::new();
    for group in groups {
        let num_rows = group.rows.len();
        let num_shown = (group.weight * num_rows as f64).round() as usize;
        if num_rows == 0 {
            continue;
        }
        for _ in 0..num_shown / num_rows {
            order.extend_from_slice(&group.rows);
        }
        let mut rows = group.rows.clone();
        let (part, _) = rows.partial_shuffle(&mut rng, num_shown % num_rows);
        order.extend_from_slice(part);
    }
    order.shuffle(&mut rng);
    match runs {
        Some(runs) => runs.gather(order, &mut rng),
        None => order,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Cursor, CursorError, CursorState, Group, group_by_label};
    use crate::{ClipId, RowLabel, Runs, SourceId, TaskKind};

    fn take(cursor: &mut Cursor, num: usize) -> Vec<usize> {
        (0..num).map(|_| cursor.next_row()).collect()
    }

    #[test]
    fn an_epoch_shows_every_row_once_and_epochs_differ() {
        let mut cursor = Cursor::new(50, 3).unwrap();
        let (first, second) = (take(&mut cursor, 50), take(&mut cursor, 50));
        for epoch in [&first, &second] {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(first, second);
        assert_ne!(first, take(&mut Cursor::new(50, 4).unwrap(), 50));
        assert_eq!(cursor.state(), CursorState { seed: 3, epoch: 1, position: 50 });
    }

    #[test]
    fn resuming_at_any_place_gives_the_same_continuation() {
        let groups = vec![
            Group { rows: (0..7).collect(), weight: 1.5 },
            Group { rows: (7..10).collect(), weight: 0.4 },
            Group { rows: vec![10], weight: 3.0 },
        ];
        let mut cursor = Cursor::weighted(groups.clone(), 9).unwrap();
        assert_eq!(cursor.num_rows_per_epoch(), 11 + 1 + 3);
        let whole = take(&mut cursor, 60);
        let mut cursor = Cursor::weighted(groups.clone(), 9).unwrap();
        for at in 0..45 {
            let saved = serde_json::to_string(&cursor.state()).unwrap();
            let state = serde_json::from_str(&saved).unwrap();
            let mut resumed = Cursor::weighted(groups.clone(), 0).unwrap().resume(state).unwrap();
            assert_eq!(take(&mut resumed, 15), whole[at..at + 15], "at {at}");
            cursor.next_row();
        }
    }

    /// Written down when there were no runs: checkpoints of then name places in these orders.
    #[test]
    fn the_order_without_runs_stays_what_it_was() {
        let groups = vec![
            Group { rows: (0..4).collect(), weight: 1.5 },
            Group { rows: (4..10).collect(), weight: 0.5 },
        ];
        let plain = [4, 11, 1, 5, 10, 9, 6, 2, 7, 3, 0, 8, 11, 10, 0, 9, 6, 1, 7, 2, 4, 8, 3, 5];
        let weighted = [3, 1, 2, 2, 7, 9, 0, 8, 3, 0, 2, 7, 1, 3, 9, 1, 8, 3];
        let runs_of_one = Runs { clips: vec![Some(ClipId(0)); 12], max_len: 1 };
        let cursors = || [Cursor::new(12, 3).unwrap(), Cursor::weighted(groups.clone(), 7).unwrap()];
        for mut cursors in [cursors(), cursors().map(|cursor| cursor.in_runs(runs_of_one.clone()))] {
            assert_eq!(take(&mut cursors[0], plain.len()), plain);
            assert_eq!(take(&mut cursors[1], weighted.len()), weighted);
        }
    }

    #[test]
    fn weights_count_and_halves_change_from_epoch_to_epoch() {
        let groups = vec![
            Group { rows: (0..10).collect(), weight: 2.0 },
            Group { rows: (10..20).collect(), weight: 0.5 },
            Group { rows: (20..30).collect(), weight: 0.0 },
        ];
        let mut cursor = Cursor::weighted(groups, 1).unwrap();
        let mut halves = Vec::new();
        let mut num_seen = [0; 30];
        for _ in 0..40 {
            let epoch = take(&mut cursor, 25);
            epoch.iter().for_each(|&row| num_seen[row] += 1);
            let mut half: Vec<usize> = epoch.into_iter().filter(|row| (10..20).contains(row)).collect();
            half.sort_unstable();
            half.dedup();
            assert_eq!(half.len(), 5);
            halves.push(half);
        }
        assert!(halves.iter().any(|half| *half != halves[0]));
        assert!(num_seen[..10].iter().all(|&num| num == 80) && num_seen[20..].iter().all(|&num| num == 0));
        assert!(num_seen[10..20].iter().all(|&num| num > 5), "{num_seen:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        let group = |weight| vec![Group { rows: vec![0], weight }];
        assert!(matches!(Cursor::weighted(group(-1.0), 0), Err(CursorError::Weight { group: 0, .. })));
        assert!(matches!(Cursor::weighted(group(f64::NAN), 0), Err(CursorError::Weight { .. })));
        assert_eq!(Cursor::weighted(group(0.2), 0).err(), Some(CursorError::Empty));
        assert_eq!(Cursor::new(0, 0).err(), Some(CursorError::Empty));
        let state = CursorState { seed: 0, epoch: 0, position: 9 };
        let error = Cursor::new(5, 0).unwrap().resume(state).unwrap_err();
        assert_eq!(error, CursorError::Position { position: 9, num_rows: 5 });
    }

    #[test]
    fn groups_are_by_task_and_source_with_the_product_of_weights() {
        let label = |row, source: &str, task| RowLabel {
            row,
            source: source.into(),
            task,
            video_id: "v".into(),
            clip: None,
        };
        let labels = [
            label(0, "AVOS", TaskKind::Tag),
            label(3, "AVOS", TaskKind::Stg),
            label(4, "AVOS", TaskKind::Tag),
            label(5, "JIGSAWS", TaskKind::Tag),
        ];
        let tasks = BTreeMap::from([(TaskKind::Tag, 2.0)]);
        let sources = BTreeMap::from([(SourceId::from("AVOS"), 0.25)]);
        assert_eq!(
            group_by_label(&labels, &tasks, &sources),
            [
                Group { rows: vec![0, 2], weight: 0.5 },
                Group { rows: vec![3], weight: 2.0 },
                Group { rows: vec![1], weight: 0.25 },
            ]
        );
    }
}
