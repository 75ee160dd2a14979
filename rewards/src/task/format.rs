//! The format factor: a multiplier on the metric of tasks whose answers have a form.
//!
//! The paper multiplies the overlap of the grounding tasks by a format factor and does not say which. Here an answer that is exactly in the
//! benchmark's format counts whole, any other is multiplied by a configurable factor, 0 by default: parsers forgive much,
//! and a policy that is paid for what they forgive drifts into text that no longer parses.

use std::{collections::HashSet, sync::LazyLock};

use medgrpo_datasets::{TaskKind, TaskSample};
use regex::Regex;

use crate::{Response, Reward, RewardError, Score, parse::cvs};

static SPANS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[0-9]+\.[0-9]-[0-9]+\.[0-9](?:, [0-9]+\.[0-9]-[0-9]+\.[0-9])* seconds\.$"));
static BOXES: LazyLock<Regex> = LazyLock::new(|| {
    const ENTRY: &str = r"[0-9]+\.[0-9] seconds: \[NUMBER, NUMBER, NUMBER, NUMBER\]";
    pattern(&format!("^{ENTRY}(?: {ENTRY})*$").replace("NUMBER", r"[0-9]+(?:\.[0-9]{1,2})?"))
});
static EVENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[0-9]+\.[0-9]-[0-9]+\.[0-9] seconds: \S.*$"));

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

/// Whether an answer is exactly one event a line, `A-B seconds: description`, times with one decimal.
pub fn is_canonical_events(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.lines().all(|line| EVENT.is_match(line))
}

/// Whether an answer is exactly `Two structures: 0, Cystic plate: 1, …`: components in the benchmark's order, none
/// twice, scores from 0 to 2.
pub fn is_canonical_cvs(text: &str) -> bool {
    let mut names = cvs::COMPONENTS.iter().map(|(_, name)| *name);
    text.trim().split(", ").all(|part| {
        let Some((name, score)) = part.split_once(": ") else { return false };
        let is_known = names.any(|known| known == name.to_lowercase());
        is_known && name.starts_with(|c: char| c.is_uppercase()) && ["0", "1", "2"].contains(&score)
    })
}

/// Whether an answer is exactly `Respect for tissue: 4/5, …`: one name and one score from 1 to 5 out of 5 each, no name
/// twice.
pub fn is_canonical_skill(text: &str) -> bool {
    let mut seen = HashSet::new();
    text.trim().split(", ").all(|part| {
        let Some((name, score)) = part.split_once(": ") else { return false };
        let is_score =
            score.strip_suffix("/5").is_some_and(|digit| ["1", "2", "3", "4", "5"].contains(&digit));
        is_score && !name.trim().is_empty() && !name.contains(['\n', ':']) && seen.insert(name)
    })
}

/// 1 for an answer in its task's canonical format, less for any other.
///
/// Tasks without one always get 1: free text has no format, and the next action is paid only when it is spelt right.
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
            TaskKind::DenseCaptioning => is_canonical_events(text),
            TaskKind::Cvs => is_canonical_cvs(text),
            TaskKind::SkillAssessment => is_canonical_skill(text),
            TaskKind::NextAction
            | TaskKind::VideoSummary
            | TaskKind::RegionCaption
            | TaskKind::OpenQuestion => true,
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

    #[test]
    fn events() {
        assert!(is_canonical_events("0.0-10.0 seconds: cutting: The hook cuts.\n10.0-12.5 seconds: x"));
        for text in
            ["", "0-10 seconds: x", "0.0-10.0 seconds: ", "0.0-10.0 seconds: x\n\ny", "- 0.0-1.0 seconds: x"]
        {
            assert!(!is_canonical_events(text), "{text}");
        }
    }

    #[test]
    fn scores() {
        assert!(is_canonical_cvs("Two structures: 0, Cystic plate: 1, Hepatocystic triangle: 2"));
        for text in
            ["", "Cystic plate: 3", "Cystic plate: 0, Two structures: 0", "Cystic plate: 0, Cystic plate: 1"]
        {
            assert!(!is_canonical_cvs(text), "{text}");
        }
        assert!(is_canonical_skill("Respect for tissue: 4/5, Suture/needle handling: 1/5"));
        for text in
            ["", "Time and motion: 6/5", "Time and motion: 4", "a: 1/5, a: 2/5", "a: 1/5,b: 1/5", ": 1/5"]
        {
            assert!(!is_canonical_skill(text), "{text}");
        }
    }
}
