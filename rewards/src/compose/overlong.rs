//! DAPO's soft punishment of answers that run out of budget.

use std::borrow::Cow;

use medgrpo_datasets::TaskSample;

use crate::{Response, Reward, RewardError, Score};

/// Adds `weight` × the soft overlong punishment of DAPO (arXiv 2503.14476, equation 13), lengths in tokens:
/// 0 up to `max_length - cache_length`, then falling in a straight line to -1 at `max_length`, and -1 beyond.
///
/// The raw metric is untouched: a filter must not mistake a length for an answer.
pub struct Overlong<R> {
    /// What is punished.
    pub reward: R,
    /// Longest completion in tokens.
    pub max_length: usize,
    /// Width of the window before it in tokens, at most `max_length`.
    pub cache_length: usize,
    /// What the punishment is multiplied by.
    pub weight: f32,
}

/// The punishment in `[-1, 0]` of an answer of `num_tokens`.
pub fn overlong_punishment(num_tokens: usize, max_length: usize, cache_length: usize) -> f32 {
    let free = max_length.saturating_sub(cache_length);
    if num_tokens <= free {
        0.0
    } else if num_tokens > max_length {
        -1.0
    } else {
        -((num_tokens - free) as f32) / cache_length as f32
    }
}

impl<R: Reward> Reward for Overlong<R> {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let mut scores = self.reward.score_group(sample, responses)?;
        for (score, response) in scores.iter_mut().zip(responses) {
            if let Score::Scored { value, parts, .. } = score {
                let punishment = overlong_punishment(response.num_tokens, self.max_length, self.cache_length);
                *value += self.weight * punishment;
                parts.push((Cow::Borrowed("overlong"), punishment));
            }
        }
        Ok(scores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_by_hand() {
        for (num_tokens, expected) in [(0, 0.0), (80, 0.0), (85, -0.25), (100, -1.0), (101, -1.0)] {
            assert_eq!(overlong_punishment(num_tokens, 100, 20), expected, "{num_tokens} tokens");
        }
        // Without a window only what is beyond the end is punished.
        assert_eq!((overlong_punishment(100, 100, 0), overlong_punishment(101, 100, 0)), (0.0, -1.0));
    }
}
