//! Critical view of safety: up to three scores.
//!
//! Official rules: the text is cut at commas; the first component name that a part contains claims the part, even
//! where no `name: digits` follows. So scores on separate lines lose all but the first, and `1.9` reads as 1.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use super::python::{compile, parse_score};

/// The components in the order answers list them: key, and name in lower case.
pub const COMPONENTS: [(&str, &str); 3] = [
    ("two_structures", "two structures"),
    ("cystic_plate", "cystic plate"),
    ("hepatocystic_triangle", "hepatocystic triangle"),
];

static SCORES: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    [r"two structures?:<s>*(<d>+)", r"cystic plate:<s>*(<d>+)", r"hepatocystic triangle:<s>*(<d>+)"]
        .map(compile)
});

/// Scores by component key, any size; a component that is not found is absent.
pub fn parse(text: &str) -> BTreeMap<String, i64> {
    let mut scores = BTreeMap::new();
    for part in text.split(',') {
        let part = part.to_lowercase();
        let Some(component) = COMPONENTS.iter().position(|(_, name)| part.contains(name)) else {
            continue;
        };
        let score = SCORES[component].captures(&part).and_then(|c| parse_score(&c[1]));
        if let Some(score) = score {
            scores.insert(COMPONENTS[component].0.to_owned(), score);
        }
    }
    scores
}

static STRICT: LazyLock<[Regex; 3]> = LazyLock::new(|| {
    ["two[ _-]?structures?", "cystic[ _-]?plate", "hepatocystic[ _-]?triangle"]
        .map(|name| compile(&format!(r#"(?i){name}["*]*<s>*[:=]<s>*["*]*(<n>)"#)))
});

/// Scores by component key by the strict rules.
///
/// Repairs: components are found wherever they stand (lines, semicolons, JSON keys, bold); a score must be a whole number
/// from 0 to 2; a component given two different scores is absent.
pub fn parse_strict(text: &str) -> BTreeMap<String, i64> {
    let mut scores = BTreeMap::new();
    for ((key, _), pattern) in COMPONENTS.iter().zip(&*STRICT) {
        let mut given: Vec<Option<i64>> = pattern
            .captures_iter(text)
            .map(|c| parse_score(&c[1]).filter(|score| (0..=2).contains(score)))
            .collect();
        given.dedup();
        if let [Some(score)] = given[..] {
            scores.insert((*key).to_owned(), score);
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_part_claims_it() {
        assert!(parse("Two structures and cystic plate: 0").is_empty());
        for text in ["Two structures: 1\nCystic plate: 2", "two structures: 1; cystic plate = 2"] {
            assert_eq!(parse(text).len(), 1, "{text}");
            assert_eq!(parse_strict(text).len(), 2, "{text}");
        }
        let json = r#"{"two_structures": 1, "cystic_plate": 2, "hepatocystic_triangle": 0}"#;
        assert_eq!((parse(json).len(), parse_strict(json).len()), (0, 3));
    }

    #[test]
    fn strict_scores_are_whole_and_in_range() {
        assert_eq!(parse("Two structures: 1.9, cystic plate: 7").len(), 2);
        assert!(parse_strict("Two structures: 1.9, cystic plate: 7").is_empty());
        assert!(parse_strict("Two structures: 1, two structures: 2").is_empty());
    }

    #[test]
    fn later_scores_replace_earlier_ones() {
        assert_eq!(parse("Cystic plate: 2, cystic plate: 0")["cystic_plate"], 0);
    }
}
