//! Splits that keep a video whole: all clips of one video fall into one part.
//!
//! The part of a video follows from the seed, its source and its id alone. So it doesn't change when rows or other
//! videos are added; the fractions hold on average over videos, not exactly over rows.

use crate::{Dataset, DatasetError, RowLabel, SourceId, TaskSample};

/// Named parts with their shares of the videos.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    seed: u64,
    /// The name of each part and the sum of the shares up to its end.
    parts: Vec<(String, f64)>,
}

/// What is no split.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SplitError {
    /// A share that is no share.
    #[error("the share of \"{name}\" is {fraction}, expected a number above 0")]
    Fraction {
        /// The part.
        name: String,
        /// Its share.
        fraction: f64,
    },
    /// Shares that do not make a whole.
    #[error("the shares of the parts add up to {sum}, expected 1")]
    Sum {
        /// Their sum.
        sum: f64,
    },
    /// Two parts of one name.
    #[error("two parts are named \"{name}\"")]
    Name {
        /// The name.
        name: String,
    },
}

impl Split {
    /// Parts with their shares of the videos, which add up to 1. Growing the last part at the cost of the one before
    /// it moves only videos between those two.
    ///
    /// # Errors
    /// Shares that are not positive or do not add up to 1; a name that repeats.
    pub fn new(seed: u64, parts: &[(&str, f64)]) -> Result<Self, SplitError> {
        let mut sum = 0.0;
        let mut ends = Vec::with_capacity(parts.len());
        for &(name, fraction) in parts {
            if !fraction.is_finite() || fraction <= 0.0 {
                return Err(SplitError::Fraction { name: name.to_owned(), fraction });
            }
            if ends.iter().any(|(other, _)| other == name) {
                return Err(SplitError::Name { name: name.to_owned() });
            }
            sum += fraction;
            ends.push((name.to_owned(), sum));
        }
        if (sum - 1.0_f64).abs() > 1e-9 {
            return Err(SplitError::Sum { sum });
        }
        Ok(Self { seed, parts: ends })
    }

    /// The parts' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|(name, _)| name.as_str())
    }

    /// The part of a video.
    pub fn part_of(&self, source: &SourceId, video_id: &str) -> usize {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"split");
        hasher.update(&self.seed.to_le_bytes());
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hasher.update(&(source.as_str().len() as u64).to_le_bytes());
        hasher.update(source.as_str().as_bytes());
        hasher.update(video_id.as_bytes());
        let head = hasher.finalize().as_bytes().first_chunk::<8>().copied().expect("a hash has 32 bytes");
        // 53 bits, so that the place in [0, 1) is exact.
        let place = (u64::from_le_bytes(head) >> 11) as f64 / (1_u64 << 53) as f64;
        self.parts.iter().position(|(_, end)| place < *end).unwrap_or(self.parts.len() - 1)
    }

    /// The rows of each part, in order: places in `labels`.
    pub fn rows(&self, labels: &[RowLabel]) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.parts.len()];
        for (at, label) in labels.iter().enumerate() {
            rows[self.part_of(&label.source, &label.video_id)].push(at);
        }
        rows
    }
}

/// Some rows of a dataset.
#[derive(Clone, Debug)]
pub struct Subset<D> {
    inner: D,
    rows: Vec<usize>,
}

impl<D: Dataset> Subset<D> {
    /// The given rows, in the given order.
    ///
    /// # Panics
    /// If a row lies outside of the dataset.
    pub fn new(inner: D, rows: Vec<usize>) -> Self {
        let num_rows = inner.len();
        assert!(rows.iter().all(|&row| row < num_rows), "a row outside of a dataset of {num_rows} rows");
        Self { inner, rows }
    }

    /// The rows in the dataset beneath.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn get(&self, index: usize) -> Result<TaskSample, DatasetError> {
        self.inner.get(self.rows[index])
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{Split, SplitError, Subset};
    use crate::{Dataset, OnBadRow, RowLabel, SourceId, TaskKind, Usable, usable::tests::Rows};

    fn labels(rng: &mut ChaCha8Rng, num_rows: usize) -> Vec<RowLabel> {
        (0..num_rows)
            .map(|row| RowLabel {
                row,
                source: SourceId::from(["AVOS", "CoPESD", "NurViD"][rng.random_range(0..3)]),
                task: TaskKind::BENCHMARK[rng.random_range(0..8)],
                video_id: format!("{}", rng.random_range(0..400)).into(),
                clip: None,
            })
            .collect()
    }

    #[test]
    fn no_video_is_in_two_parts_and_adding_rows_moves_none() {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let split = Split::new(seed, &[("train", 0.7), ("dev", 0.15), ("test", 0.15)]).unwrap();
        let mut all = labels(&mut rng, 4000);
        let parts_of = |rows: &[RowLabel]| {
            let mut part_of_video = BTreeMap::new();
            let mut num_rows = 0;
            for (part, members) in split.rows(rows).into_iter().enumerate() {
                for at in members {
                    num_rows += 1;
                    let video = (rows[at].source.clone(), Arc::clone(&rows[at].video_id));
                    assert_eq!(*part_of_video.entry(video).or_insert(part), part);
                }
            }
            assert_eq!(num_rows, rows.len(), "every row is in one part");
            part_of_video
        };
        let before = parts_of(&all);
        all.splice(100..100, labels(&mut rng, 1000));
        let after = parts_of(&all);
        assert!(before.iter().all(|(video, part)| after[video] == *part));
        let share = after.values().filter(|&&part| part == 0).count() as f64 / after.len() as f64;
        assert!((share - 0.7).abs() < 0.08, "{share} of {} videos, five standard deviations", after.len());
    }

    #[test]
    fn videos_of_one_name_in_two_sources_are_two_videos() {
        let split = Split::new(1, &[("a", 0.5), ("b", 0.5)]).unwrap();
        let part = |source: &str, video: &str| split.part_of(&SourceId::from(source), video);
        assert!((0..64).any(|video| part("AVOS", &video.to_string()) != part("CoPESD", &video.to_string())));
        let other = Split::new(2, &[("a", 0.5), ("b", 0.5)]).unwrap();
        let source = SourceId::from("AVOS");
        assert!(
            (0..64)
                .any(|video| other.part_of(&source, &video.to_string()) != part("AVOS", &video.to_string()))
        );
    }

    #[test]
    fn a_split_must_be_a_whole() {
        let reason = |parts: &[(&str, f64)]| Split::new(0, parts).expect_err("no whole");
        assert!(matches!(reason(&[("a", 0.5), ("b", 0.4)]), SplitError::Sum { .. }));
        assert!(matches!(reason(&[("a", 1.5), ("b", -0.5)]), SplitError::Fraction { .. }));
        assert!(matches!(reason(&[("a", 0.5), ("a", 0.5)]), SplitError::Name { .. }));
        assert!(matches!(reason(&[]), SplitError::Sum { .. }));
        assert_eq!(Split::new(0, &[("all", 1.0)]).unwrap().names().collect::<Vec<_>>(), ["all"]);
    }

    #[test]
    fn parts_of_a_dataset_with_bad_rows() {
        let rows = (0..60)
            .map(|row| (row % 7 != 0).then(|| ("AVOS", TaskKind::Tag, format!("v{}", row / 3))))
            .collect();
        let usable = Arc::new(Usable::new(Rows(rows), OnBadRow::Skip).unwrap());
        let split = Split::new(5, &[("train", 0.5), ("test", 0.5)]).unwrap();
        let parts =
            split.rows(usable.labels()).into_iter().map(|rows| Subset::new(Arc::clone(&usable), rows));
        let videos: Vec<Vec<String>> = parts
            .map(|part| (0..part.len()).map(|index| part.get(index).unwrap().video_id).collect())
            .collect();
        assert_eq!(videos[0].len() + videos[1].len(), usable.len());
        assert!(!videos[0].is_empty() && videos[0].iter().all(|video| !videos[1].contains(video)));
    }
}
