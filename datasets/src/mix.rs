//! Several datasets as one.
//!
//! A mixture is their rows one after the other; a part's weight says how often its rows are seen in an epoch, and takes
//! effect through the [`Cursor`] over [`Mixture::groups`].

use std::sync::Arc;

use crate::{
    Dataset, DatasetError, TaskSample,
    cursor::{Cursor, CursorError, Group},
};

/// One dataset of a mixture.
#[derive(Clone)]
pub struct Part {
    /// The dataset.
    pub dataset: Arc<dyn Dataset>,
    /// How often each of its rows is seen in an epoch, on average.
    pub weight: f64,
}

/// Several datasets, addressed as one. [`TaskSample::row`] stays the row in the sample's own file.
#[derive(Clone)]
pub struct Mixture {
    parts: Vec<Part>,
    /// First row of each part, and the number of all.
    starts: Vec<usize>,
}

impl Mixture {
    /// Puts datasets one after the other.
    pub fn new(parts: Vec<Part>) -> Self {
        let mut starts = vec![0];
        for part in &parts {
            starts.push(starts[starts.len() - 1] + part.dataset.len());
        }
        Self { parts, starts }
    }

    /// Which part a row belongs to, and its row there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn locate(&self, index: usize) -> (usize, usize) {
        assert!(index < self.len(), "row {index} of a mixture of {} rows", self.len());
        let part = self.starts.partition_point(|&start| start <= index) - 1;
        (part, index - self.starts[part])
    }

    /// The rows of each part with its weight.
    pub fn groups(&self) -> Vec<Group> {
        let ranges = self.starts.windows(2).map(|pair| pair[0]..pair[1]);
        ranges
            .zip(&self.parts)
            .map(|(rows, part)| Group { rows: rows.collect(), weight: part.weight })
            .collect()
    }

    /// The order that the weights ask for.
    ///
    /// # Errors
    /// As [`Cursor::weighted`].
    pub fn cursor(&self, seed: u64) -> Result<Cursor, CursorError> {
        Cursor::weighted(self.groups(), seed)
    }
}

impl Dataset for Mixture {
    fn len(&self) -> usize {
        self.starts[self.parts.len()]
    }

    fn get(&self, index: usize) -> Result<TaskSample, DatasetError> {
        let (part, row) = self.locate(index);
        self.parts[part].dataset.get(row)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::{Mixture, Part};
    use crate::{Dataset, TaskKind, usable::tests::Rows};

    fn part(source: &'static str, num_rows: usize, weight: f64) -> Part {
        let rows = (0..num_rows).map(|row| Some((source, TaskKind::Tag, format!("v{row}")))).collect();
        Part { dataset: Arc::new(Rows(rows)), weight }
    }

    #[test]
    fn rows_follow_each_other_and_empty_parts_take_no_place() {
        let mixture = Mixture::new(vec![part("a", 2, 1.0), part("b", 0, 1.0), part("c", 3, 1.0)]);
        assert_eq!(mixture.len(), 5);
        let ids: Vec<String> = (0..5).map(|index| mixture.get(index).unwrap().id).collect();
        assert_eq!(ids, ["a0", "a1", "c0", "c1", "c2"]);
        assert_eq!(mixture.locate(2), (2, 0));
    }

    #[test]
    fn weights_decide_how_often_a_part_is_seen() {
        let mixture = Mixture::new(vec![part("a", 4, 3.0), part("b", 8, 0.25)]);
        let mut cursor = mixture.cursor(5).unwrap();
        let mut num_seen = BTreeMap::<String, usize>::new();
        for _ in 0..cursor.num_rows_per_epoch() {
            let sample = mixture.get(cursor.next_row()).unwrap();
            *num_seen.entry(sample.source.to_string()).or_default() += 1;
        }
        assert_eq!(num_seen, BTreeMap::from([("a".into(), 12), ("b".into(), 2)]));
        let again: Vec<usize> =
            (0..14).scan(mixture.cursor(5).unwrap(), |cursor, _| Some(cursor.next_row())).collect();
        let first: Vec<usize> =
            (0..14).scan(mixture.cursor(5).unwrap(), |cursor, _| Some(cursor.next_row())).collect();
        assert_eq!(again, first);
        assert!(Mixture::new(Vec::new()).cursor(0).is_err());
    }
}
