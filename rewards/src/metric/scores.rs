//! Exact agreement of integer scores by name: CVS by component, SA by aspect.

use std::collections::BTreeMap;

/// Which of the gold scores an answer gives, and whether each is exactly right. Names compare with case; a score that the
/// answer lacks is absent, as the official scorer leaves it out of the average.
pub fn exact(predicted: &BTreeMap<String, i64>, gold: &BTreeMap<String, i64>) -> BTreeMap<String, bool> {
    gold.iter()
        .filter_map(|(name, score)| predicted.get(name).map(|given| (name.clone(), given == score)))
        .collect()
}

/// Accuracy by name over records, averaged over the names seen: the "balanced" accuracy of the benchmark.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExactByName {
    /// Correct and total by name.
    pub counts: BTreeMap<String, (usize, usize)>,
}

impl ExactByName {
    /// Adds one record.
    pub fn add(&mut self, record: &BTreeMap<String, bool>) {
        for (name, &correct) in record {
            let (right, total) = self.counts.entry(name.clone()).or_default();
            *right += usize::from(correct);
            *total += 1;
        }
    }

    /// The mean of the accuracies; 0 if nothing was seen.
    pub fn balanced_accuracy(&self) -> f64 {
        if self.counts.is_empty() {
            return 0.0;
        }
        let sum: f64 = self.counts.values().map(|&(right, total)| right as f64 / total as f64).sum();
        sum / self.counts.len() as f64
    }
}

/// Accuracy by name and gold score: what the accuracy of a constant answer cannot raise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByClass {
    /// Correct and total by name, then gold score.
    pub counts: BTreeMap<String, BTreeMap<i64, (usize, usize)>>,
}

impl ByClass {
    /// Adds one score of a record.
    pub fn add(&mut self, name: &str, gold: i64, correct: bool) {
        let classes = self.counts.entry(name.to_owned()).or_default();
        let (right, total) = classes.entry(gold).or_default();
        *right += usize::from(correct);
        *total += 1;
    }

    /// The recall of each gold score, averaged over those of a name that occur, then over names; `None` if nothing was seen.
    pub fn mean_recall(&self) -> Option<f64> {
        let of_name = |classes: &BTreeMap<i64, (usize, usize)>| {
            let sum: f64 = classes.values().map(|&(right, total)| right as f64 / total as f64).sum();
            sum / classes.len() as f64
        };
        let sum: f64 = self.counts.values().map(of_name).sum();
        (!self.counts.is_empty()).then(|| sum / self.counts.len() as f64)
    }
}

/// The mean distance of the given scores from gold ones between `lowest` and `highest`; a score that the answer lacks is
/// as far away as a score can be. `None` without gold.
pub fn mean_distance(
    predicted: Option<&BTreeMap<String, i64>>,
    gold: &BTreeMap<String, i64>,
    lowest: i64,
    highest: i64,
) -> Option<f64> {
    let distance = |(name, &gold): (&String, &i64)| match predicted.and_then(|scores| scores.get(name)) {
        Some(&given) => given.abs_diff(gold),
        None => gold.abs_diff(lowest).max(gold.abs_diff(highest)),
    };
    let sum: u64 = gold.iter().map(distance).fold(0, u64::saturating_add);
    (!gold.is_empty()).then(|| sum as f64 / gold.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_scores_do_not_count() {
        let scores =
            |pairs: &[(&str, i64)]| pairs.iter().map(|&(n, s)| (n.to_owned(), s)).collect::<BTreeMap<_, _>>();
        let gold = scores(&[("a", 1), ("b", 2)]);
        let mut all = ExactByName::default();
        all.add(&exact(&scores(&[("a", 1)]), &gold));
        all.add(&exact(&scores(&[("a", 0), ("b", 2), ("c", 3)]), &gold));
        assert_eq!(all.balanced_accuracy(), (0.5 + 1.0) / 2.0);
        assert_eq!(ExactByName::default().balanced_accuracy(), 0.0);
    }

    #[test]
    fn a_constant_has_the_recall_of_chance_and_silence_the_greatest_distance() {
        let mut all = ByClass::default();
        for gold in [0, 0, 0, 1, 2] {
            all.add("a", gold, gold == 0);
        }
        assert_eq!(all.mean_recall(), Some(1.0 / 3.0));
        assert_eq!(ByClass::default().mean_recall(), None);
        let scores = |score| BTreeMap::from([("a".to_owned(), score), ("b".to_owned(), 1)]);
        assert_eq!(mean_distance(Some(&scores(0)), &scores(2), 0, 2), Some(1.0));
        assert_eq!(mean_distance(None, &scores(2), 0, 2), Some(1.5));
        assert_eq!(mean_distance(None, &BTreeMap::new(), 0, 2), None);
    }
}
