//! A rival of the median logistic that needs no calibration: normalise within the group, then sum (GDPO).

use super::{Normaliser, Pair};
use crate::RewardError;

/// `(x - mean) / (std + 1e-6)` over the group, per component: GDPO's decoupled normalisation (Liu et al. 2026). Its last
/// step, normalising the sums over the batch, is `scale_rewards = "batch"`.
///
/// A group of equal values gives zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupZScore;

impl Normaliser for GroupZScore {
    fn normalise(&self, _pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        let (mean, std) = moments(measured);
        let z = |&x: &f32| if std < 1e-6 { 0.0 } else { ((f64::from(x) - mean) / (std + 1e-6)) as f32 };
        Ok(measured.iter().map(z).collect())
    }
}

/// Mean and standard deviation (with `n - 1`); no deviation for fewer than two values.
pub(super) fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean =
        if values.is_empty() { 0.0 } else { values.iter().map(|&x| f64::from(x)).sum::<f64>() / count };
    let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::TaskKind;

    use super::*;

    #[test]
    fn by_hand() {
        let pair = Pair { dataset: "A".to_owned(), task: TaskKind::Tag, component: "iou".to_owned() };
        let z = GroupZScore.normalise(&pair, &[1.0, 2.0, 3.0]).unwrap();
        assert!(
            z.iter().zip([-1.0, 0.0, 1.0]).all(|(found, by_hand)| (found - by_hand).abs() < 2e-6),
            "{z:?}"
        );
        assert_eq!(
            GroupZScore.normalise(&pair, &[0.5, 0.5 + 1e-7]).unwrap(),
            [0.0, 0.0],
            "noise is no signal"
        );
        assert_eq!(GroupZScore.normalise(&pair, &[4.0]).unwrap(), [0.0]);
    }
}
