//! Answers to medical questions: free text, or the letter of a choice, perhaps behind a chain of thought.
//!
//! The form is `<think>…</think><answer>…</answer>` (Zhu et al. 2025, arXiv 2505.13973, after DeepSeek-R1); text without
//! tags is an answer as a whole. Total and linear like every parser; a choice that is not clear is none.

use std::sync::LazyLock;

use regex::Regex;

use super::python::{compile, is_space, strip};

/// The two parts of an answer in the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged<'a> {
    /// What stands between `<think>` and `</think>`, trimmed.
    pub thought: &'a str,
    /// What stands between `<answer>` and `</answer>`, trimmed.
    pub answer: &'a str,
}

const TAGS: [&str; 4] = ["<think>", "</think>", "<answer>", "</answer>"];

/// The parts of an answer that is exactly in the form: each tag once and in order, something in both parts, and only
/// blanks around them.
pub fn tagged(text: &str) -> Option<Tagged<'_>> {
    if TAGS.iter().any(|tag| text.matches(tag).count() != 1) {
        return None;
    }
    let rest = strip(text).strip_prefix(TAGS[0])?;
    let (thought, rest) = rest.split_once(TAGS[1])?;
    let (answer, rest) = strip(rest).strip_prefix(TAGS[2])?.split_once(TAGS[3])?;
    let (thought, answer) = (strip(thought), strip(answer));
    (rest.is_empty() && !thought.is_empty() && !answer.is_empty()).then_some(Tagged { thought, answer })
}

/// The part of a text that is its answer: inside of its only `<answer>`, or all of a text without such tags.
///
/// `None` for text with several answers, or one that was never closed or opened.
pub fn answer_part(text: &str) -> Option<&str> {
    let count = |tag: &str| text.matches(tag).count();
    match (count(TAGS[2]), count(TAGS[3])) {
        (0, 0) => Some(strip(text)),
        (1, 1) => {
            let (_, rest) = text.split_once(TAGS[2])?;
            Some(strip(rest.split_once(TAGS[3])?.0))
        }
        _ => None,
    }
}

/// Text for comparison: case, runs of blanks, and full stops at the end do not matter.
pub fn fold(text: &str) -> String {
    let text = text.trim_end_matches(is_stop).to_lowercase();
    text.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_stop(c: char) -> bool {
    c == '.' || is_space(c)
}

/// A choice that a question offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its letter, upper case.
    pub letter: char,
    /// Its folded text.
    pub text: String,
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| compile(r"(?:^|[\s(,;])\(?([A-J])[).:]<s>*"));

/// The choices of a question: texts behind `A.`, `B)`, `(C)`, `D:` and so on, in order from A; empty unless there are two.
pub fn options(question: &str) -> Vec<Choice> {
    let mut labels = Vec::new();
    for found in LABEL.captures_iter(question) {
        let (Some(whole), Some(letter)) = (found.get(0), found[1].chars().next()) else { continue };
        // In order: an `A.` in running text before the list restarts it.
        if letter == 'A' {
            labels.clear();
        }
        if letter as usize == 'A' as usize + labels.len() {
            labels.push((letter, whole.start(), whole.end()));
        }
    }
    if labels.len() < 2 {
        return Vec::new();
    }
    let ends = labels.iter().skip(1).map(|(_, start, _)| *start).chain([question.len()]);
    let choice = |((letter, _, start), end): (&(char, usize, usize), usize)| {
        let text = question[*start..end].trim_end_matches([',', ';', '(', ' ', '\n', '\t']);
        Choice { letter: *letter, text: fold(text) }
    };
    labels.iter().zip(ends).map(choice).collect()
}

static ANSWER_IS: LazyLock<Regex> = LazyLock::new(|| {
    compile(r"(?i)^(?:the<s>+)?(?:(?:final|correct|best)<s>+)?(?:answer|option|choice)(?:<s>+is)?<s>*:?<s>+")
});
static LETTER: LazyLock<Regex> = LazyLock::new(|| compile(r"^\(?([A-Ja-j])(?:[).:,]+<s>*|<s>*$)"));
static NEXT_LETTER: LazyLock<Regex> = LazyLock::new(|| compile(r"(?:^|[^\pL\pN])[A-J](?:[^\pL\pN]|$)"));

/// The letter an answer chooses among `options`; `None` where it is not clear which.
///
/// `B`, `(b)`, `B. text`, `The answer is B` and an option's text alone choose. A text behind the letter must be the option's
/// own if the options are known, and must hold no other letter if they are not.
pub fn choice(answer: &str, options: &[Choice]) -> Option<char> {
    let answer = strip(answer);
    let answer = ANSWER_IS.find(answer).map_or(answer, |found| &answer[found.end()..]);
    let Some(found) = LETTER.captures(answer) else {
        let folded = fold(answer);
        let mut same = options.iter().filter(|option| !folded.is_empty() && option.text == folded);
        return same.next().filter(|_| same.next().is_none()).map(|option| option.letter);
    };
    let letter = found[1].chars().next()?.to_ascii_uppercase();
    let rest = answer[found.get(0)?.end()..].trim_matches(is_stop);
    let is_clear = match options.iter().find(|option| option.letter == letter) {
        _ if rest.is_empty() => true,
        Some(option) => option.text.trim_start_matches(is_stop) == fold(rest),
        None => options.is_empty() && !NEXT_LETTER.is_match(rest),
    };
    is_clear.then_some(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_exact() {
        let good = " <think>Air under the diaphragm.</think>\n<answer> B </answer>\n";
        assert_eq!(tagged(good), Some(Tagged { thought: "Air under the diaphragm.", answer: "B" }));
        for text in [
            "",
            "B",
            "<answer>B</answer>",
            "<think></think><answer>B</answer>",
            "<think>x</think><answer> </answer>",
            "<think>x</think><answer>B</answer> so B",
            "<answer>B</answer><think>x</think>",
            "<think>x</think><answer>A</answer><answer>B</answer>",
            "<think>x<think></think></think><answer>B</answer>",
        ] {
            assert_eq!(tagged(text), None, "{text}");
        }
    }

    #[test]
    fn one_answer_or_none() {
        assert_eq!(answer_part(" B "), Some("B"));
        assert_eq!(answer_part("so <answer>B</answer> it is"), Some("B"));
        assert_eq!(answer_part("<answer>A</answer><answer>B</answer>"), None);
        assert_eq!(answer_part("<answer>A"), None);
        assert_eq!(answer_part("</answer>A<answer>"), None);
    }

    #[test]
    fn options_of_a_question() {
        let lines = "What is seen? A. Liver\nB. Gallbladder.\nC. Spleen";
        let inline = "What is seen? (A) liver, (B) gallbladder, (C) spleen";
        for question in [lines, inline, "A: Liver B: gallbladder C: spleen"] {
            let found = options(question);
            let texts: Vec<&str> = found.iter().map(|option| option.text.as_str()).collect();
            assert_eq!(texts, ["liver", "gallbladder", "spleen"], "{question}");
        }
        assert_eq!(options("Is this the liver of patient A?"), []);
    }

    #[test]
    fn stops_around_a_text_do_not_matter() {
        assert_eq!(fold(" A  b. ."), "a b");
        let options = options("A. .5 mm\nB. 5 cm . .");
        assert_eq!(choice("A. .5 mm", &options), Some('A'));
        assert_eq!(choice("B. 5 cm.", &options), Some('B'));
        assert_eq!(choice("5 cm", &options), Some('B'));
    }

    #[test]
    fn letters_and_texts_choose() {
        let options = options("A. Liver\nB. Gallbladder\nC. Spleen");
        for answer in [
            "B",
            "b.",
            "(B)",
            "B. Gallbladder",
            "b) gallbladder.",
            "The answer is B.",
            "Answer: B",
            "gallbladder",
        ] {
            assert_eq!(choice(answer, &options), Some('B'), "{answer}");
        }
        for answer in [
            "",
            "A, B, C",
            "A B C",
            "B or C",
            "B. Spleen",
            "B. Gallbladder, or C",
            "liver, gallbladder",
            "a liver",
        ] {
            assert_eq!(choice(answer, &options), None, "{answer}");
        }
        assert_eq!(choice("B. whatever it is", &[]), Some('B'));
        assert_eq!(choice("B. C. D.", &[]), None);
    }
}
