//! REINFORCE with the rest of the group as baseline.

use super::{Advantage, Deviation, Payment, Statistics, totals};

/// The reward minus the mean reward of the group's other completions; 0 where there is no other.
///
/// Source: Ahmadian et al. 2024 (Back to Basics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rloo;

impl Advantage for Rloo {
    fn advantages(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Vec<f64>> {
        let of_group = |group: &Vec<Option<Payment>>| {
            let totals = totals(group);
            let count = totals.iter().flatten().count() as f64;
            let mean = Statistics::of(&totals, Deviation::Sample).mean;
            // r - (n · mean - r) / (n - 1), with the subtraction of nearly equal numbers first.
            let scale = if count > 1.0 { count / (count - 1.0) } else { 0.0 };
            totals.iter().map(|total| total.map_or(0.0, |total| (total - mean) * scale)).collect()
        };
        groups.iter().map(of_group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let paid = |totals: &[Option<f64>]| {
            totals.iter().map(|total| total.map(|total| Payment { total, parts: Vec::new() })).collect()
        };
        let groups = [
            paid(&[Some(1.0), Some(0.0), Some(0.5)]),
            paid(&[Some(1.0), None]),
            paid(&[Some(1.0), None, Some(4.0)]),
        ];
        let advantages = Rloo.advantages(&groups);
        assert_eq!(advantages[0], [0.75, -0.75, 0.0]);
        assert_eq!(advantages[1], [0.0, 0.0]);
        assert_eq!(advantages[2], [-3.0, 0.0, 3.0]);
    }
}
