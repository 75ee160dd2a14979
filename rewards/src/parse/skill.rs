//! Skill assessment: scores out of five by aspect.
//!
//! Official rules: the text is cut at commas and each part gives its first `name: d/5`, the name being all text since
//! the previous colon, case kept. Separate lines therefore lose all but the first aspect.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use super::python::{compile, parse_float, parse_score, strip};

/// The aspects of the benchmark in the order answers list them.
pub const ASPECTS: [&str; 6] = [
    "Respect for tissue",
    "Suture/needle handling",
    "Time and motion",
    "Flow of operation",
    "Overall performance",
    "Quality of final product",
];

static ASPECT: LazyLock<Regex> = LazyLock::new(|| compile(r"([^:]+?):<s>*(<d>+)/5"));
static OUT_OF_FIVE: LazyLock<Regex> = LazyLock::new(|| compile(r"(<d>+)/5"));

/// The level of skill that an average score stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// At most 2.0.
    Novice,
    /// At most 3.5.
    Intermediate,
    /// Above.
    Expert,
}

impl Level {
    /// The level of an average score.
    pub fn of(mean_score: f64) -> Self {
        if mean_score <= 2.0 {
            Self::Novice
        } else if mean_score <= 3.5 {
            Self::Intermediate
        } else {
            Self::Expert
        }
    }

    /// Its name in the benchmark.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Novice => "novice",
            Self::Intermediate => "intermediate",
            Self::Expert => "expert",
        }
    }
}

/// An answer as the official scorer reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SkillAnswer {
    /// Scores by the name as written; a later one replaces an earlier one.
    pub aspects: BTreeMap<String, i64>,
    /// Mean over every `d/5` in the text; `None` where there is none, and then the official scorer skips the row.
    pub mean_score: Option<f64>,
}

impl SkillAnswer {
    /// The level of the mean score.
    pub fn level(&self) -> Option<Level> {
        self.mean_score.map(Level::of)
    }
}

/// The scores of an answer.
pub fn parse(text: &str) -> SkillAnswer {
    let mut aspects = BTreeMap::new();
    for part in text.split(',') {
        let Some(found) = ASPECT.captures(part) else {
            continue;
        };
        if let Some(score) = parse_score(&found[2]) {
            aspects.insert(strip(&found[1]).to_owned(), score);
        }
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for found in OUT_OF_FIVE.captures_iter(text) {
        sum += parse_float(&found[1]).unwrap_or(f64::NAN);
        count += 1.0;
    }
    SkillAnswer { aspects, mean_score: (count > 0.0).then(|| sum / count) }
}

static STRICT: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let pattern = |aspect: &&str| compile(&format!(r"(?i){}:<s>*(<d>)/5", regex::escape(aspect)));
    ASPECTS.iter().map(pattern).collect()
});

/// The six scores by aspect by the strict rules; `None` unless each aspect has one from 1 to 5.
///
/// Repairs: separators and case do not matter, and an answer that leaves aspects out is none. The first score of an aspect
/// counts. Same numbers as the strict parser that the benchmark's first code release held.
pub fn parse_strict(text: &str) -> Option<BTreeMap<String, i64>> {
    let score = |(aspect, pattern): (&&str, &Regex)| {
        let score = parse_score(&pattern.captures(text)?[1]).filter(|score| (1..=5).contains(score))?;
        Some(((*aspect).to_owned(), score))
    };
    ASPECTS.iter().zip(&*STRICT).map(score).collect()
}

static GIVEN: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let pattern =
        |aspect: &&str| compile(&format!(r"(?i){}:<s>*(<d>+)<s>*/<s>*(<d>+)", regex::escape(aspect)));
    ASPECTS.iter().map(pattern).collect()
});

/// The scores that can be made out, by aspect: what rewards read.
///
/// Like [`parse_strict`], but an aspect that is missing takes no other with it, and an aspect given two different scores, or
/// one that is not from 1 to 5 out of 5, is absent.
pub fn by_aspect(text: &str) -> BTreeMap<&'static str, i64> {
    let mut scores = BTreeMap::new();
    for (aspect, pattern) in ASPECTS.iter().zip(&*GIVEN) {
        let score = |given: regex::Captures<'_>| {
            let (score, out_of) = (parse_score(&given[1])?, parse_score(&given[2])?);
            ((1..=5).contains(&score) && out_of == 5).then_some(score)
        };
        let mut given: Vec<Option<i64>> = pattern.captures_iter(text).map(score).collect();
        given.dedup();
        if let [Some(score)] = given[..] {
            scores.insert(*aspect, score);
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_text_since_the_previous_colon() {
        let answer = parse("Scores: Time and motion: 4/5, time and motion : 2/5 fine: 3/5");
        assert_eq!(answer.aspects.len(), 2);
        assert_eq!(answer.aspects["Time and motion"], 4);
        assert_eq!(answer.aspects["time and motion"], 2);
        assert_eq!(answer.mean_score, Some(3.0));
    }

    #[test]
    fn strict_wants_all_six_in_range() {
        let text = ASPECTS.map(|aspect| format!("{aspect}: 3/5")).join("\n");
        assert_eq!(parse(&text).aspects.len(), 1);
        assert_eq!(parse_strict(&text).map(|scores| scores.len()), Some(6));
        assert_eq!(parse_strict(&text.replace("motion: 3", "motion: 7")), None);
        assert_eq!(parse_strict("Time and motion: 3/5"), None);
    }

    #[test]
    fn by_aspect_takes_one_clear_score_each() {
        let text = "time and motion: 4/5\nFlow of operation: 2/5, Flow of operation: 3/5, Overall performance: 4/50, \
                    Respect for tissue: 6/5, Quality of final product: 3 / 5, quality of final product: 3/5";
        assert_eq!(
            by_aspect(text),
            BTreeMap::from([("Time and motion", 4), ("Quality of final product", 3)])
        );
    }

    #[test]
    fn nothing_out_of_five_is_no_answer() {
        assert_eq!(parse("7/10, 3 / 5"), SkillAnswer::default());
    }
}
