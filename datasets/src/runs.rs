//! Questions on one clip next to each other: the order of an epoch as a shuffle of short runs.
//!
//! A step decodes a clip once for all questions on it that it shows, and those in one micro-batch are encoded with it
//! once. That is paid for with variety: the questions of a step are about fewer clips.

use std::collections::HashMap;

use rand::{Rng, seq::SliceRandom};

use crate::ClipId;

/// Which rows stand together.
#[derive(Clone, Debug)]
pub struct Runs {
    /// What each row shows; a row that shows nothing stands alone.
    pub clips: Vec<Option<ClipId>>,
    /// Most rows of a run. With 1 the rows stay as they were shuffled.
    pub max_len: usize,
}

impl Runs {
    /// Cuts the rows of each clip, as they come in `order`, into runs that never hold a row twice, and shuffles the runs.
    /// `order` is itself shuffled.
    ///
    /// # Panics
    /// If there is a row without its entry in `clips`.
    pub(crate) fn gather(&self, order: Vec<usize>, rng: &mut impl Rng) -> Vec<usize> {
        if self.max_len <= 1 {
            return order;
        }
        let mut runs: Vec<Vec<usize>> = Vec::new();
        // The run that a clip's next row joins. Weights show a row several times: its first showings, of all rows of a
        // clip, make runs of their own, and so do the second ones.
        let mut open: HashMap<(ClipId, usize), usize> = HashMap::new();
        let mut num_shown = vec![0; self.clips.len()];
        for row in order {
            let showing = num_shown[row];
            num_shown[row] += 1;
            let Some(clip) = self.clips[row] else {
                runs.push(vec![row]);
                continue;
            };
            match open.get(&(clip, showing)) {
                Some(&run) if runs[run].len() < self.max_len => runs[run].push(row),
                _ => {
                    open.insert((clip, showing), runs.len());
                    runs.push(vec![row]);
                }
            }
        }
        runs.shuffle(rng);
        runs.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;
    use crate::{ClipId, Cursor, cursor::Group};

    /// Rows of clips of these sizes, dealt out in turn, and five rows that show nothing.
    fn clips(sizes: &[usize]) -> Vec<Option<ClipId>> {
        let largest = sizes.iter().copied().max().unwrap();
        let turns = (0..largest).flat_map(|turn| (0..sizes.len()).filter(move |clip| turn < sizes[*clip]));
        turns.map(|clip| Some(ClipId(clip as u128))).chain([None; 5]).collect()
    }

    fn epoch(cursor: &mut Cursor) -> Vec<usize> {
        (0..cursor.num_rows_per_epoch()).map(|_| cursor.next_row()).collect()
    }

    /// How often two rows that follow each other show one clip.
    fn num_met(order: &[usize], clips: &[Option<ClipId>]) -> usize {
        order.windows(2).filter(|pair| clips[pair[0]].is_some() && clips[pair[0]] == clips[pair[1]]).count()
    }

    #[test]
    fn an_epoch_shows_what_the_plain_shuffle_shows_and_more_of_one_clip_meets() {
        let clips = clips(&[1, 2, 3, 7, 8, 11, 4, 4, 1, 30]);
        let half = clips.len() / 2;
        let groups = vec![
            Group { rows: (0..half).collect(), weight: 2.5 },
            Group { rows: (half..clips.len()).collect(), weight: 0.5 },
        ];
        let mut met_before = 0;
        for max_len in [1, 2, 4, 8] {
            let mut plain = Cursor::weighted(groups.clone(), 6).unwrap();
            let mut gathered = plain.clone().in_runs(Runs { clips: clips.clone(), max_len });
            let mut met = 0;
            for _ in 0..3 {
                let [mut theirs, mut ours] = [epoch(&mut plain), epoch(&mut gathered)];
                met += num_met(&ours, &clips);
                theirs.sort_unstable();
                ours.sort_unstable();
                assert_eq!(ours, theirs, "{max_len}");
            }
            assert!(met > met_before, "{max_len}: {met} after {met_before}");
            met_before = met;
        }
    }

    #[test]
    fn a_run_is_of_one_clip_as_long_as_may_be_and_holds_no_row_twice() {
        for max_len in [2, 3, 5] {
            // Each clip is a number of whole runs, so that every run is whole and starts at a multiple.
            let sizes: Vec<usize> = (0..12).map(|clip| max_len * (1 + clip % 3)).collect();
            let mut clips = clips(&sizes);
            clips.truncate(sizes.iter().sum());
            let groups = vec![Group { rows: (0..clips.len()).collect(), weight: 2.0 }];
            let mut cursor =
                Cursor::weighted(groups, 1).unwrap().in_runs(Runs { clips: clips.clone(), max_len });
            let [first, second] = [epoch(&mut cursor), epoch(&mut cursor)];
            for run in first.chunks(max_len) {
                assert!(run.iter().all(|row| clips[*row] == clips[run[0]]), "{run:?}");
                assert!((1..max_len).all(|at| !run[..at].contains(&run[at])), "{run:?}");
            }
            let sorted = |order: &[usize]| {
                let mut runs: Vec<Vec<usize>> = order.chunks(max_len).map(<[usize]>::to_vec).collect();
                runs.iter_mut().for_each(|run| run.sort_unstable());
                runs.sort();
                runs
            };
            assert_ne!(sorted(&first), sorted(&second), "other rows meet in the next epoch");
            let met = num_met(&first, &clips);
            assert!(met < first.len() - first.len() / max_len + first.len() / 4, "runs are shuffled: {met}");
        }
    }

    #[test]
    fn a_row_that_shows_nothing_stands_alone() {
        let clips = vec![None; 40];
        let mut cursor = Cursor::new(40, 2).unwrap().in_runs(Runs { clips, max_len: 8 });
        let mut order = epoch(&mut cursor);
        assert_ne!(order, (0..40).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn resuming_at_any_place_gives_the_same_continuation() {
        let clips = clips(&[5, 1, 9]);
        let groups = vec![Group { rows: (0..clips.len()).collect(), weight: 1.4 }];
        let new = |seed| {
            let runs = Runs { clips: clips.clone(), max_len: 4 };
            Cursor::weighted(groups.clone(), seed).unwrap().in_runs(runs)
        };
        let mut cursor = new(9);
        let whole: Vec<usize> = (0..100).map(|_| cursor.next_row()).collect();
        let mut cursor = new(9);
        for at in 0..80 {
            let mut resumed = new(0).resume(cursor.state()).unwrap();
            let next: Vec<usize> = (0..20).map(|_| resumed.next_row()).collect();
            assert_eq!(next, whole[at..at + 20], "at {at}");
            cursor.next_row();
        }
    }
}
