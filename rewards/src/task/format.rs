//! The format factor of the grounding tasks: a multiplier on the metric.
//!
//! The paper multiplies the overlap by a format factor and does not say which. Here an answer that is exactly in the
//! benchmark's format counts whole, any other is multiplied by a configurable factor, 0 by default: parsers forgive much,
//! and a policy that is paid for what they forgive drifts into text that no longer parses.

use std::sync::LazyLock;

use medgrpo_datasets::{TaskKind, TaskSample};
use regex::Regex;

use crate::{Response, Reward, RewardError, Score};

static SPANS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[0-9]+\.[0-9]-[0-9]+\.[0-9](?:, [0-9]+\.[0-9]-[0-9]+\.[0-9])* seconds\.$"));
static BOXES: LazyLock<Regex> = LazyLock::new(|| {
    const ENTRY: &str = r"[0-9]+\.[0-9] seconds: \[NUMBER, NUMBER, NUMBER, NUMBER\]";
    pattern(&format!("^{ENTRY}(?: {ENTRY})*$").replace("NUMBER", r"[0-9]+(?:\.[0-9]{1,2})?"))
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are constants and tests compile them")
}

/// Whether an answer, blanks around it aside, is exactly `A-B, C-D seconds.` with one decimal each.
pub fn is_canonical_spans(text: &str) -> bool {
    SPANS.is_match(text.trim())
}

/// Whether an answer, blanks around it aside, is exactly `T seconds: [a, b, c, d] …`: times with one decimal, corners with
/// at most two, single blanks.
pub fn is_canonical_boxes(text: &str) -> bool {
    BOXES.is_match(text.trim())
}

/// 1 for an answer in its task's canonical format, less for any other. Tasks without one always get 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FormatReward {
    /// What an answer that is not in the canonical format gets, in `[0, 1]`.
    pub otherwise: f32,
}

impl Reward for FormatReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let is_canonical = |text: &str| match sample.task {
            TaskKind::Tag => is_canonical_spans(text),
            TaskKind::Stg => is_canonical_boxes(text),
            _ => true,
        };
        let score = |response: &Response<'_>| {
            Score::metric(if is_canonical(response.text) { 1.0 } else { self.otherwise.clamp(0.0, 1.0) })
        };
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for text in ["20.7-55.7 seconds.", " 66.0-66.0, 124.0-126.0 seconds.\n"] {
            assert!(is_canonical_spans(text), "{text}");
        }
        for text in [
            "",
            "seconds.",
            "20.7-55.7 seconds",
            "20-55 seconds.",
            "1.0-2.0,3.0-4.0 seconds.",
            "It is 1.0-2.0 seconds.",
        ] {
            assert!(!is_canonical_spans(text), "{text}");
        }
    }

    #[test]
    fn boxes() {
        for text in [
            "66.0 seconds: [117.54, 339.5, 626, 1005.62]",
            "0.0 seconds: [1, 2, 3, 4] 8.0 seconds: [1, 2, 3, 4]",
        ] {
            assert!(is_canonical_boxes(text), "{text}");
        }
        for text in [
            "",
            "66 seconds: [1, 2, 3, 4]",
            "6.0 seconds: [1, 2, 3]",
            "6.0 seconds: [-1, 2, 3, 4]",
            "6.0 seconds: [1, 2, 3, 4].",
        ] {
            assert!(!is_canonical_boxes(text), "{text}");
        }
    }
}
