//! Words of medicine and their synonyms: what of a description is an instrument, a structure, an action, a state, a phase.
//!
//! The list (`lexicon.json`) is small and ours: surgery on video, nursing, and the practice set. A line is one meaning; its
//! forms count as the same. Verb forms and plurals are brought together by cutting endings.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;

/// What kind of thing a term names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Category {
    Instrument,
    Anatomy,
    Action,
    State,
    /// Procedures and their phases.
    Context,
}

/// A meaning, and whether the text denies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Term {
    pub(super) category: Category,
    meaning: usize,
    denied: bool,
}

/// Words that carry no content.
const STOP_WORDS: [&str; 62] = [
    "a", "an", "and", "are", "as", "at", "be", "been", "being", "but", "by", "can", "do", "does", "during",
    "for", "from", "had", "has", "have", "he", "her", "his", "i", "if", "in", "into", "is", "it", "its",
    "of", "on", "or", "our", "she", "so", "some", "such", "than", "that", "the", "their", "then", "there",
    "these", "they", "this", "those", "to", "was", "we", "were", "what", "when", "where", "which", "while",
    "who", "will", "with", "you", "your",
];

const DENIALS: [&str; 5] = ["no", "not", "without", "never", "neither"];

/// Words between a denial and what it denies.
const DENIAL_REACH: usize = 2;

struct Lexicon {
    /// By the stems of a form.
    terms: HashMap<Vec<String>, (Category, usize)>,
    longest: usize,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    let lines: HashMap<Category, Vec<Vec<String>>> =
        serde_json::from_str(include_str!("lexicon.json")).expect("a constant file, read by a test");
    let mut terms = HashMap::new();
    for (category, meanings) in lines {
        for (meaning, forms) in meanings.iter().enumerate() {
            for form in forms {
                terms.insert(stems(form), (category, meaning));
            }
        }
    }
    let longest = terms.keys().map(Vec::len).max().unwrap_or(0);
    Lexicon { terms, longest }
});

/// The words of a text, lower-cased, without the endings of verbs and plurals.
pub(super) fn stems(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(stem).collect()
}

/// Cuts `s`, `ing` and `ed`, a final `e`, and one of two equal consonants that English doubles: cuts, cutting → cut.
fn stem(word: &str) -> String {
    let mut stem = word;
    let ends =
        |stem: &str, ending: &str, least: usize| stem.ends_with(ending) && stem.len() >= least + ending.len();
    if ends(stem, "s", 3) && !["ss", "us", "is"].iter().any(|ending| stem.ends_with(ending)) {
        stem = &stem[..stem.len() - 1];
    }
    if ends(stem, "ing", 3) {
        stem = &stem[..stem.len() - 3];
    } else if ends(stem, "ed", 3) {
        stem = &stem[..stem.len() - 2];
    }
    if ends(stem, "e", 3) {
        stem = &stem[..stem.len() - 1];
    }
    let mut last = stem.chars().rev();
    match (last.next(), last.next()) {
        (Some(a), Some(b)) if a == b && "bdgmnprt".contains(a) && stem.len() > 3 => {
            stem[..stem.len() - 1].to_owned()
        }
        _ => stem.to_owned(),
    }
}

/// The words that carry content.
pub(super) fn content(stems: &[String]) -> Vec<&str> {
    static STOP_STEMS: LazyLock<Vec<String>> = LazyLock::new(|| STOP_WORDS.map(stem).to_vec());
    stems.iter().filter(|word| !STOP_STEMS.contains(word)).map(String::as_str).collect()
}

/// The terms of a text, the longest at each place.
pub(super) fn terms(stems: &[String]) -> Vec<Term> {
    let mut found = Vec::new();
    let mut place = 0;
    let mut denied_until = 0;
    while place < stems.len() {
        let longest = LEXICON.longest.min(stems.len() - place);
        let hit = (1..=longest).rev().find_map(|length| {
            let (category, meaning) = LEXICON.terms.get(&stems[place..place + length])?;
            Some((length, *category, *meaning))
        });
        match hit {
            Some((length, category, meaning)) => {
                found.push(Term { category, meaning, denied: place < denied_until });
                place += length;
            }
            None => {
                if DENIALS.contains(&stems[place].as_str()) {
                    denied_until = place + 1 + DENIAL_REACH;
                }
                place += 1;
            }
        }
    }
    found
}

/// The first form of every meaning, for tests of what a heap of terms earns.
#[cfg(test)]
pub(super) fn all_terms() -> Vec<String> {
    let lines: HashMap<String, Vec<Vec<String>>> =
        serde_json::from_str(include_str!("lexicon.json")).expect("a constant file");
    let mut all: Vec<String> = lines.into_values().flatten().map(|mut forms| forms.remove(0)).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<(Category, bool)> {
        terms(&stems(text)).into_iter().map(|term| (term.category, term.denied)).collect()
    }

    #[test]
    fn forms_of_a_word_are_one() {
        for forms in [
            &["cut", "cuts", "cutting"][..],
            &["coagulate", "coagulates", "coagulating", "coagulated"],
            &["clip", "clipped", "clipping"],
            &["pull", "pulls", "pulled", "pulling"],
            &["incise", "incises", "incising"],
            &["expose", "exposed", "exposes"],
            &["vessel", "vessels"],
        ] {
            assert!(forms.iter().all(|form| stem(form) == stem(forms[0])), "{forms:?}");
        }
        for (a, b) in [("mass", "mast"), ("clear", "clean"), ("hook", "hold"), ("tissue", "tie")] {
            assert_ne!(stem(a), stem(b));
        }
    }

    #[test]
    fn terms_are_found_in_sentences() {
        use Category::{Action, Anatomy, Context, Instrument, State};
        assert_eq!(
            named(
                "During gallbladder removal, the Metzenbaum scissors divide the cystic duct; no bleeding follows."
            ),
            [(Context, false), (Instrument, false), (Action, false), (Anatomy, false), (State, true)]
        );
        assert_eq!(terms(&stems("Calot's triangle")), terms(&stems("the hepatocystic triangle")));
        assert_eq!(terms(&stems("the needle-driver")), terms(&stems("needle holders")));
        assert_ne!(terms(&stems("gallbladder wall")), terms(&stems("gallbladder")));
        assert!(named("lorem ipsum").is_empty());
    }

    #[test]
    fn no_form_stands_for_two_meanings() {
        let lines: HashMap<Category, Vec<Vec<String>>> =
            serde_json::from_str(include_str!("lexicon.json")).unwrap();
        let mut seen: HashMap<Vec<String>, (Category, usize)> = HashMap::new();
        for (category, meanings) in lines {
            for (meaning, forms) in meanings.into_iter().enumerate() {
                for form in forms {
                    let other = seen.insert(stems(&form), (category, meaning));
                    assert!(other.is_none_or(|other| other == (category, meaning)), "{form}");
                }
            }
        }
        assert!(seen.len() > 300);
    }
}
