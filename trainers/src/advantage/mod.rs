//! How much better an answer was than expected: rewards of a batch in, one number per completion out.

mod constant;
mod gdpo;
mod group_mean;
mod rloo;
mod statistics;

use std::{borrow::Cow, fmt::Debug};

pub use constant::Constant;
pub use gdpo::Gdpo;
pub use group_mean::{GroupMean, Scale};
pub use rloo::Rloo;
pub use statistics::{Deviation, Statistics};

/// What a completion was paid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Payment {
    /// The reward.
    pub total: f64,
    /// What it was made of, by name.
    pub parts: Vec<(Cow<'static, str>, f64)>,
}

/// A pure function of the rewards of one batch of groups.
///
/// `None` stands for a completion that could not be scored: it takes no part in any statistic and its advantage is 0.
pub trait Advantage: Debug + Send + Sync {
    /// One advantage per completion, in the shape of `groups`.
    fn advantages(&self, groups: &[Vec<Option<Payment>>]) -> Vec<Vec<f64>>;
}

/// The totals of a group; `None` where there is no payment.
fn totals(group: &[Option<Payment>]) -> Vec<Option<f64>> {
    group.iter().map(|payment| payment.as_ref().map(|payment| payment.total)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Noise, payments};

    fn all() -> Vec<Arc<dyn Advantage>> {
        let scales = [Scale::Group, Scale::Batch, Scale::None];
        let mut all: Vec<Arc<dyn Advantage>> = vec![Arc::new(Rloo), Arc::new(Gdpo::of(["a", "b"]))];
        all.extend(scales.map(|scale| Arc::new(GroupMean::trl(scale)) as Arc<dyn Advantage>));
        all.extend(scales.map(|scale| Arc::new(GroupMean::verl(scale)) as Arc<dyn Advantage>));
        all
    }

    #[test]
    fn permuting_a_group_permutes_its_advantages() {
        let groups = payments(&[&[0.1, 0.9, 0.4, 0.4], &[1.0, 0.0, 0.2, 0.7]]);
        for advantage in all() {
            let before = advantage.advantages(&groups);
            let mut turned = groups.clone();
            turned[1].rotate_left(1);
            let after = advantage.advantages(&turned);
            assert_close(&before[0], &after[0]);
            let mut expected = before[1].clone();
            expected.rotate_left(1);
            assert_close(&expected, &after[1]);
        }
    }

    #[test]
    fn a_constant_group_with_float_noise_gives_about_nothing() {
        let mut noise = Noise::new("float_noise");
        let flat: Vec<f64> = (0..8).map(|_| 0.5 + 1e-7 * noise.uniform()).collect();
        let groups = payments(&[&flat, &[0.0, 1.0, 0.3, 0.5, 0.8, 0.1, 0.9, 0.4]]);
        for advantage in all() {
            let advantages = advantage.advantages(&groups);
            let largest = advantages[0].iter().fold(0.0_f64, |largest, it| largest.max(it.abs()));
            assert!(largest < 0.1, "{advantage:?}: {largest}");
        }
    }

    #[test]
    fn the_unscored_change_nothing_for_the_others() {
        let groups = payments(&[&[0.1, 0.9, 0.4], &[1.0, 0.0, 0.2]]);
        let mut with = groups.clone();
        with[0].insert(1, None);
        with.push(vec![None, None]);
        for advantage in all() {
            let (without, with) = (advantage.advantages(&groups), advantage.advantages(&with));
            assert_close(&without[0], &[with[0][0], with[0][2], with[0][3]]);
            assert_close(&without[1], &with[1]);
            assert_eq!(with[0][1], 0.0);
            assert_eq!(with[2], [0.0, 0.0]);
        }
    }

    fn assert_close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?} {b:?}");
    }
}
