//! Time ranges of an action (TAG).
//!
//! Official rules: all `A-B` pairs with an ASCII hyphen; only if there are none, all `A to B` ranges followed by all
//! `H:M:S to H:M:S` ranges. So prose such as `3-5 steps` reads as a range, an en dash reads as nothing, and clock
//! text gives a spurious range of its last and first field. Ends may come before starts.

use std::sync::LazyLock;

use medgrpo_datasets::Span;
use regex::Regex;

use super::python::{compile, parse_float, round_2};

static HYPHEN_PAIR: LazyLock<Regex> = LazyLock::new(|| compile(r"(<n>)<s>*-<s>*(<n>)"));
static WORD_PAIR: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)(?:from<s>+)?(<n>)(?:s|<s>+seconds?)?<s>+to<s>+(<n>)(?:s|<s>+seconds?)?"));
static CLOCK_PAIR: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(<d>+):(<d>+):(<d>+)<s>+to<s>+(<d>+):(<d>+):(<d>+)"));

static ANY_PAIR: LazyLock<Regex> = LazyLock::new(|| {
    const TIME: &str = r"((?:<d>+:)?<d>+:<d>+(?:\.<d>+)?|<n>)";
    compile(&format!(r"(?i){TIME}<s>*(?:seconds?|secs?|s)?<s>*(?:[-–—−]|to)<s>*{TIME}"))
});

/// The ranges of an answer by the strict rules, in order.
///
/// Repairs: any dash and the word `to` separate, mixed in one answer; clock text (`H:M:S`, `M:S`) is one time.
pub fn parse_strict(text: &str) -> Vec<Span> {
    let seconds = |time: &str| {
        time.split(':').fold(0.0, |total, field| total * 60.0 + parse_float(field).unwrap_or(f64::NAN))
    };
    ANY_PAIR
        .captures_iter(text)
        .map(|c| Span { start_sec: seconds(&c[1]), end_sec: seconds(&c[2]) })
        .collect()
}

/// The ranges of an answer by the official rules, in the order they are written; an absurdly large number is infinite.
pub fn parse(text: &str) -> Vec<Span> {
    let number = |text: &str| parse_float(text).unwrap_or(f64::NAN);
    let hyphens: Vec<Span> = HYPHEN_PAIR
        .captures_iter(text)
        .map(|c| Span { start_sec: number(&c[1]), end_sec: number(&c[2]) })
        .collect();
    if !hyphens.is_empty() {
        return hyphens;
    }
    let words = WORD_PAIR
        .captures_iter(text)
        .map(|c| Span { start_sec: round_2(number(&c[1])), end_sec: round_2(number(&c[2])) });
    let clocks = CLOCK_PAIR.captures_iter(text).map(|c| {
        let seconds =
            |first: usize| number(&c[first]) * 3600.0 + number(&c[first + 1]) * 60.0 + number(&c[first + 2]);
        Span { start_sec: seconds(1), end_sec: seconds(4) }
    });
    words.chain(clocks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(f64, f64)> {
        parse(text).iter().map(|span| (span.start_sec, span.end_sec)).collect()
    }

    #[test]
    fn ranges_in_words_are_read_only_without_hyphens() {
        assert_eq!(pairs("From 1s to 2 seconds, 3 To 4.567"), [(1.0, 2.0), (3.0, 4.57)]);
        assert_eq!(pairs("from 1 to 2, 3-4"), [(3.0, 4.0)]);
        assert_eq!(parse_strict("from 1 s to 2, 3-4").len(), 2);
    }

    #[test]
    fn clock_text_gives_a_spurious_range_too() {
        assert_eq!(pairs("00:01:05 to 00:02:00"), [(5.0, 0.0), (65.0, 120.0)]);
        assert_eq!(pairs("00:01:05-00:02:00"), [(5.0, 0.0)]);
        let clock = [Span { start_sec: 65.0, end_sec: 120.0 }];
        assert_eq!(parse_strict("00:01:05 to 00:02:00"), clock);
        assert_eq!(parse_strict("1:05-2:00"), clock);
    }

    #[test]
    fn en_dash_is_a_range_only_to_the_strict_rules() {
        let text = "1.0\u{2013}2.0 seconds.";
        assert_eq!(pairs(text), []);
        assert_eq!(parse_strict(text), [Span { start_sec: 1.0, end_sec: 2.0 }]);
    }

    #[test]
    fn hundreds_of_digits_are_infinite() {
        assert_eq!(pairs(&format!("1-{}", "9".repeat(400))), [(1.0, f64::INFINITY)]);
    }
}
