//! Groups whose answers are all equally good teach nothing.

use medgrpo_rewards::Score;

use super::{GroupFilter, Verdict};
use crate::rollout::RolloutCompletion;

/// Drops a group whose raw metrics all lie within a tolerance of each other.
///
/// Source: DAPO (Yu et al. 2025), eq. 11 (dynamic sampling), where the metric is right or wrong; for metrics on a scale a
/// tolerance takes the place of equality. What could not be scored takes no part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ZeroVariance {
    /// Largest distance between the best and the worst metric that is still none.
    pub tolerance: f32,
}

impl GroupFilter for ZeroVariance {
    fn verdict(&self, completions: &[RolloutCompletion]) -> Verdict {
        let raw = completions.iter().filter_map(|completion| match completion.score {
            Some(Score::Scored { raw, .. }) => Some(raw),
            _ => None,
        });
        let (mut count, mut worst, mut best) = (0, f32::INFINITY, f32::NEG_INFINITY);
        for raw in raw {
            (count, worst, best) = (count + 1, worst.min(raw), best.max(raw));
        }
        if count < 2 {
            Verdict::Drop("too_few_scored")
        } else if best - worst <= self.tolerance {
            Verdict::Drop("zero_variance")
        } else {
            Verdict::Keep
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scored_group;

    const FILTER: ZeroVariance = ZeroVariance { tolerance: 1e-6 };

    /// The verdict on a group of these `(raw metric, shaped reward)`.
    fn verdict(scores: &[Option<(f32, f32)>]) -> Verdict {
        FILTER.verdict(&scored_group(scores).completions)
    }

    #[test]
    fn equal_metrics_are_dropped_whatever_shaping_made_of_them() {
        assert_eq!(verdict(&[Some((0.0, -0.5)), Some((0.0, 0.1))]), Verdict::Drop("zero_variance"));
        assert_eq!(verdict(&[Some((0.3, 0.3)), Some((0.3 + 1e-7, 0.3))]), Verdict::Drop("zero_variance"));
        assert_eq!(verdict(&[Some((0.3, 0.5)), Some((0.4, 0.5))]), Verdict::Keep);
    }

    #[test]
    fn the_unscored_take_no_part() {
        assert_eq!(verdict(&[Some((0.3, 0.3)), None]), Verdict::Drop("too_few_scored"));
        assert_eq!(verdict(&[None, None]), Verdict::Drop("too_few_scored"));
        assert_eq!(verdict(&[]), Verdict::Drop("too_few_scored"));
        assert_eq!(verdict(&[Some((0.3, 0.3)), None, Some((0.3, 0.3))]), Verdict::Drop("zero_variance"));
        assert_eq!(verdict(&[Some((0.3, 0.3)), None, Some((0.9, 0.9))]), Verdict::Keep);
    }

    #[test]
    fn one_different_answer_keeps_a_group_in_any_order() {
        for different in 0..4 {
            let mut scores = [Some((1.0, 1.0)); 4];
            scores[different] = Some((0.0, 0.0));
            assert_eq!(verdict(&scores), Verdict::Keep);
        }
    }
}
