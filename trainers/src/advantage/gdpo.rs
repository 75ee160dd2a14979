//! GDPO's advantage: every part of the reward on its own scale before they are added.

use std::borrow::Cow;

use super::{Advantage, Deviation, GroupMean, Payment, Statistics};

/// Each named part as distance from its group's mean in units of its group's deviation, the weighted sum of these, and
/// that again as distance from the batch's mean in units of the batch's deviation.
///
/// A completion may lack some of the parts: those count 0. One that has none of them was not scored. Parts without a
/// weight take no part.
///
/// Sources: GDPO (Liu et al. 2026, group reward-decoupled normalisation); TRL 1.16
/// (`multi_objective_aggregation = "normalize_then_sum"`).
#[derive(Clone, Debug, PartialEq)]
pub struct Gdpo {
    /// Name and weight of each part.
    pub weights: Vec<(Cow<'static, str>, f64)>,
    /// Added to both denominators.
    pub epsilon: f64,
}

impl Gdpo {
    /// These parts, each with weight 1, with TRL's epsilon.
    pub fn of(names: impl IntoIterator<Item = &'static str>) -> Self {
        let weights = names.into_iter().map(|name| (Cow::Borrowed(name), 1.0)).collect();
        Self { weights, epsilon: GroupMean::TRL_EPSILON }
    }

    /// The weighted sums of normalised parts, before the batch's statistics; `None` for what was not scored.
    pub fn sums(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Vec<Option<f64>>> {
        groups.iter().map(|group| self.sums_of(group)).collect()
    }

    fn sums_of(&self, group: &[Option<Payment>]) -> Vec<Option<f64>> {
        let mut sums: Vec<Option<f64>> = vec![None; group.len()];
        for (name, weight) in &self.weights {
            let part = |payment: &Option<Payment>| {
                payment.as_ref()?.parts.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
            };
            let values: Vec<Option<f64>> = group.iter().map(part).collect();
            let statistics = Statistics::of(&values, Deviation::Sample);
            for (sum, value) in sums.iter_mut().zip(values) {
                if let Some(value) = value {
                    *sum.get_or_insert(0.0) += weight * statistics.normalise(value, self.epsilon);
                }
            }
        }
        sums
    }
}

impl Advantage for Gdpo {
    fn advantages(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Vec<f64>> {
        let sums = self.sums(groups);
        let batch = Statistics::of(sums.iter().flatten(), Deviation::Sample);
        let advantage = |sum: Option<f64>| sum.map_or(0.0, |sum| batch.normalise(sum, self.epsilon));
        sums.into_iter().map(|group| group.into_iter().map(advantage).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(a: f64, b: Option<f64>) -> Option<Payment> {
        let mut parts = vec![(Cow::Borrowed("a"), a), (Cow::Borrowed("other"), 1e9)];
        parts.extend(b.map(|b| (Cow::Borrowed("b"), b)));
        Some(Payment { total: 0.0, parts })
    }

    #[test]
    fn a_part_on_a_large_scale_does_not_drown_another() {
        let groups = [vec![paid(0.0, Some(1000.0)), paid(1.0, Some(0.0))]];
        let sums = Gdpo::of(["a", "b"]).sums(&groups).concat();
        assert!(sums.iter().flatten().all(|sum| sum.abs() < 1e-3), "{sums:?}");
        let weighted = Gdpo { weights: vec![("a".into(), 1.0), ("b".into(), 3.0)], ..Gdpo::of([]) };
        let advantages = weighted.advantages(&groups).concat();
        assert!(advantages[0] > 0.7 && advantages[1] < -0.7, "{advantages:?}");
    }

    #[test]
    fn lacking_parts_count_nothing_and_none_at_all_is_unscored() {
        let groups = [vec![paid(0.0, None), paid(1.0, Some(5.0)), paid(0.5, None)]];
        let sums = Gdpo::of(["a", "b"]).sums(&groups);
        assert_eq!(sums, Gdpo::of(["a"]).sums(&groups));
        assert_eq!(Gdpo::of(["c"]).sums(&groups).concat(), [None; 3]);
        assert_eq!(Gdpo::of(["c"]).advantages(&groups).concat(), [0.0; 3]);
    }
}
