//! Captions cut into words the way caption evaluation does: Penn Treebank tokens in lower case without punctuation.
//!
//! The rules are those of the treebank's published tokenisation guide (Marcus et al. 1993): clitics stand alone (`does n't`,
//! `surgeon 's`), hyphens, slashes, colons and points inside a word stay (`left-hand`, `12.5`), brackets get names
//! (`-lrb-`). [`CaptionPair`] is what the caption metrics of this folder take, so that a text is cut once for all of them.

/// A predicted caption and the one reference it is compared with, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionPair {
    /// Words of the prediction.
    pub prediction: Vec<String>,
    /// Words of the reference.
    pub reference: Vec<String>,
}

impl CaptionPair {
    /// Cuts both texts with [`treebank_words`].
    pub fn new(prediction: &str, reference: &str) -> Self {
        Self { prediction: treebank_words(prediction), reference: treebank_words(reference) }
    }
}

/// Scores of a set of captions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CorpusScore {
    /// One a pair, in order.
    pub per_record: Vec<f64>,
    /// Their mean; 0 where there are none.
    pub mean: f64,
}

impl CorpusScore {
    pub(super) fn of(per_record: Vec<f64>) -> Self {
        let mean = if per_record.is_empty() {
            0.0
        } else {
            per_record.iter().sum::<f64>() / per_record.len() as f64
        };
        Self { per_record, mean }
    }
}

/// Endings that are words of their own.
const CLITICS: [&str; 7] = ["n't", "'s", "'re", "'ve", "'ll", "'d", "'m"];
/// Words written together that are two.
const CONTRACTIONS: [(&str, &str, &str); 7] = [
    ("cannot", "can", "not"),
    ("gonna", "gon", "na"),
    ("gotta", "got", "ta"),
    ("wanna", "wan", "na"),
    ("gimme", "gim", "me"),
    ("lemme", "lem", "me"),
    ("d'ye", "d'", "ye"),
];

/// Words that keep the point behind them.
const ABBREVIATIONS: [&str; 9] = ["dr", "mr", "mrs", "ms", "prof", "vs", "etc", "e.g", "i.e"];

/// The words of a caption.
pub fn treebank_words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['’', '‘'], "'");
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let end = at + word_length(&chars[at..]);
        if end > at {
            let mut word: String = chars[at..end].iter().collect();
            at = end;
            if chars.get(at) == Some(&'.') && ABBREVIATIONS.contains(&word.as_str()) {
                word.push('.');
                at += 1;
            }
            push_word(word, &mut words);
            continue;
        }
        match chars[at] {
            '(' => words.push("-lrb-".to_owned()),
            ')' => words.push("-rrb-".to_owned()),
            '[' => words.push("-lsb-".to_owned()),
            ']' => words.push("-rsb-".to_owned()),
            '{' => words.push("-lcb-".to_owned()),
            '}' => words.push("-rcb-".to_owned()),
            symbol if is_word_symbol(symbol) => words.push(symbol.to_string()),
            _ => {}
        }
        at += 1;
    }
    words
}

/// Symbols that are words: those of ASCII that are spoken, and all others but blanks, dashes, quotes and the ellipsis.
fn is_word_symbol(c: char) -> bool {
    match c {
        '$' | '%' | '&' | '+' | '=' | '<' | '>' | '/' | '*' | '#' | '@' | '^' | '~' | '_' | '|' | '\\' => {
            true
        }
        '\u{2010}'..='\u{201f}' | '…' | '«' | '»' | '‹' | '›' => false,
        _ => !c.is_ascii() && !c.is_whitespace() && !c.is_control(),
    }
}

/// Number of characters of the word that `chars` begin with; 0 where they do not begin with one.
fn word_length(chars: &[char]) -> usize {
    let is_part = |index: usize| chars.get(index).is_some_and(|c| c.is_alphanumeric());
    let is_digit = |index: usize| chars.get(index).is_some_and(char::is_ascii_digit);
    let mut end = 0;
    loop {
        while is_part(end) {
            end += 1;
        }
        let joint = chars.get(end).copied();
        let joins = match joint {
            Some('-' | '/' | '\'' | '_' | '@') => end > 0 && is_part(end + 1),
            Some('.' | ',' | ':') if end > 0 && is_digit(end - 1) => is_digit(end + 1),
            // `e.g.`: letters that stand alone between points.
            Some('.') => end > 0 && is_part(end + 1) && !is_part(end + 2) && (end < 2 || !is_part(end - 2)),
            _ => false,
        };
        if !joins {
            break;
        }
        end += 1;
    }
    // A clitic may stand apart from its word: `the surgeon 's`.
    if end == 0 && chars.first() == Some(&'\'') {
        let mut length = 1;
        while is_part(length) {
            length += 1;
        }
        let word: String = chars[..length].iter().collect();
        return if CLITICS.contains(&word.as_str()) { length } else { 0 };
    }
    end
}

/// Adds a word, clitics and contractions taken apart.
fn push_word(word: String, words: &mut Vec<String>) {
    if let Some((_, first, second)) = CONTRACTIONS.iter().find(|(whole, _, _)| *whole == word) {
        words.extend([(*first).to_owned(), (*second).to_owned()]);
        return;
    }
    let clitic = CLITICS.iter().find(|clitic| word.len() > clitic.len() && word.ends_with(**clitic));
    match clitic {
        Some(clitic) => {
            push_word(word[..word.len() - clitic.len()].to_owned(), words);
            words.push((*clitic).to_owned());
        }
        None => words.push(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clitics_stand_alone_and_punctuation_falls() {
        let words = |text| treebank_words(text).join(" ");
        assert_eq!(
            words("It doesn’t bleed; the surgeon's clip isn't."),
            "it does n't bleed the surgeon 's clip is n't"
        );
        assert_eq!(words("left-hand, 12.5 -- a 5-0 (x)..."), "left-hand 12.5 a 5-0 -lrb- x -rrb-");
        assert_eq!(words("cannot; can't; they'd've"), "can not ca n't they 'd 've");
        assert_eq!(words("50% at 00:01:05 & 37°C"), "50 % at 00:01:05 & 37 ° c");
        assert_eq!(words("Dr. X vs. clip a. I.e. e.g. end.It"), "dr. x vs. clip a i.e. e.g. end it");
        assert_eq!(words(" - '' ' . \u{0}"), "");
    }
}
