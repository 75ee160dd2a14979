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
}
