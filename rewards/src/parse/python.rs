//! The text rules of Python 3.11, which the official scorer inherits: which characters are digits and blanks, what
//! `float()` reads, how `repr` and `%.1f` write a number.
//!
//! Python's `\d`, `\s`, `float` and `strip` know all of Unicode (version 14): `０-５` is a pair of numbers to it.

use std::sync::LazyLock;

use regex::Regex;

/// The zero of every run of ten decimal digits in Unicode 14 (general category Nd), ascending.
const DIGIT_ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
    0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6,
    0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The value of a decimal digit of any script.
pub fn digit_value(c: char) -> Option<u32> {
    let code = u32::from(c);
    let run = DIGIT_ZEROS.partition_point(|&zero| zero <= code).checked_sub(1)?;
    let value = code - DIGIT_ZEROS[run];
    (value < 10).then_some(value)
}

/// Whether `str.isspace`, `strip` and `\s` take the character for a blank.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// A regex class for `\d`, brackets included.
fn digit_class() -> String {
    let runs: Vec<String> =
        DIGIT_ZEROS.iter().map(|zero| format!(r"\x{{{zero:x}}}-\x{{{:x}}}", zero + 9)).collect();
    format!("[{}]", runs.concat())
}

/// Compiles a pattern in which `<d>` stands for Python's `\d`, `<s>` for its `\s` and `<n>` for an unsigned decimal
/// number (digits, perhaps a point and digits).
pub(crate) fn compile(pattern: &str) -> Regex {
    static DIGIT: LazyLock<String> = LazyLock::new(digit_class);
    let pattern =
        pattern.replace("<n>", r"<d>+(?:\.<d>+)?").replace("<s>", r"[\s\x1c-\x1f]").replace("<d>", &DIGIT);
    Regex::new(&pattern).expect("the patterns are constants and every one is compiled by a test")
}

/// Replaces digits of other scripts by ASCII ones.
fn ascii_digits(text: &str) -> String {
    text.chars().map(|c| digit_value(c).and_then(|value| char::from_digit(value, 10)).unwrap_or(c)).collect()
}

/// `float(text)`; `None` where Python raises `ValueError`.
///
/// Blanks around, underscores between digits, exponents, `inf`, `infinity` and `nan` are all accepted; a number too
/// large is infinite.
pub fn parse_float(text: &str) -> Option<f64> {
    static DECIMAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[+-]?(?:[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?|\.[0-9](?:_?[0-9])*)(?:[eE][+-]?[0-9](?:_?[0-9])*)?$")
            .expect("a constant pattern")
    });
    let text = ascii_digits(strip(text));
    if DECIMAL.is_match(&text) {
        return text.replace('_', "").parse().ok();
    }
    let (sign, word) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(&text)),
    };
    match word.to_ascii_lowercase().as_str() {
        "inf" | "infinity" => Some(sign * f64::INFINITY),
        "nan" => Some(f64::NAN),
        _ => None,
    }
}

/// `int(text)` for text of digits and blanks only, as a float; `None` where Python raises `ValueError`.
pub fn parse_digits(text: &str) -> Option<f64> {
    let text = ascii_digits(strip(text));
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `int(text)` for a run of digits. Python's integers have no bound; ours stop at `i64::MAX`, which no score reaches.
pub fn parse_score(digits: &str) -> Option<i64> {
    digits
        .chars()
        .try_fold(0_i64, |value, c| Some(value.saturating_mul(10).saturating_add(i64::from(digit_value(c)?))))
}

/// `repr(value)` of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
pub fn repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let scientific = format!("{value:e}");
        if let Some((mantissa, exponent)) = scientific.split_once('e') {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
    }
    if value == value.trunc() { format!("{value:.1}") } else { format!("{value}") }
}

/// `"%.1f" % value`: correctly rounded from the binary value, exact ties to even.
pub fn one_decimal(value: f64) -> String {
    format!("{value:.1}")
}

/// `round(value, 2)`.
pub fn round_2(value: f64) -> f64 {
    if value.is_finite() { format!("{value:.2}").parse().unwrap_or(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_other_scripts_have_their_value() {
        assert_eq!(digit_value('7'), Some(7));
        assert_eq!(digit_value('０'), Some(0));
        assert_eq!(digit_value('٣'), Some(3));
        assert_eq!(digit_value('९'), Some(9));
        assert_eq!(digit_value('𝟘'), Some(0));
        assert_eq!(digit_value('²'), None);
        assert_eq!(digit_value('a'), None);
        assert_eq!(digit_value('\u{0}'), None);
    }

    #[test]
    fn float_reads_what_python_reads() {
        for (text, value) in [
            (" 10. ", 10.0),
            (".1e2", 10.0),
            ("1_0", 10.0),
            ("-５", -5.0),
            ("\u{a0}3\u{1f}", 3.0),
            ("1e400", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_float(text), Some(value), "{text:?}");
        }
        assert!(parse_float("NaN").is_some_and(f64::is_nan));
        for text in ["", ".", "1__0", "_1", "1_", "1_.0", "0x1", "1 2", "e5", "--1", "+-1", "infin"] {
            assert_eq!(parse_float(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_as_python_writes_them() {
        assert_eq!(repr(13.0), "13.0");
        assert_eq!(repr(0.1), "0.1");
        assert_eq!(repr(1e16), "1e+16");
        assert_eq!(repr(1.5e-5), "1.5e-05");
        assert_eq!(repr(123_456_789_012_345.0), "123456789012345.0");
        for (value, text) in [(8.25, "8.2"), (8.35, "8.3"), (0.05, "0.1"), (47.35, "47.4"), (2.5, "2.5")] {
            assert_eq!(one_decimal(value), text);
        }
        assert_eq!(round_2(0.125), 0.12);
        assert_eq!(round_2(2.675), 2.67);
        assert_eq!(round_2(f64::INFINITY), f64::INFINITY);
    }

    #[test]
    fn scores_saturate_and_never_wrap() {
        assert_eq!(parse_score("２"), Some(2));
        assert_eq!(parse_score("50181305077"), Some(50_181_305_077));
        assert_eq!(parse_score(&"9".repeat(400)), Some(i64::MAX));
    }
}
