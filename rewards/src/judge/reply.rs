//! From a judge's reply to five scores: by the official scorer's rule, and by a strict one.
//!
//! The official rule looks for each code by five patterns in turn, the first that hits anywhere in the text counts, and no
//! range is checked. The strict rule takes more ways of writing a score and fewer numbers for one: a judgement that is not
//! certain is none, and can be asked for again.

use std::sync::LazyLock;

use regex::Regex;

use super::Aspect;
use crate::parse::python::{compile, parse_float};

/// Why a reply holds no judgement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It has no score for an aspect.
    #[error("the reply has no score for {}", .0.code())]
    Missing(Aspect),
    /// What stands in the place of a score is no whole number from 1 to 5.
    #[error("the reply gives {} as {:?}, which is no whole number from 1 to 5", .0.code(), .1)]
    NotAScore(Aspect, String),
    /// It has two different scores for an aspect.
    #[error("the reply gives {} as both {} and {}", .0.code(), .1, .2)]
    Contradiction(Aspect, u8, u8),
    /// It ended while the model was still thinking.
    #[error("the reply ends within the model's thoughts: allow more tokens, or turn thinking off")]
    Unfinished,
}

/// Patterns of the official scorer by aspect, in the order in which they are tried.
static OFFICIAL: LazyLock<[[Regex; 5]; 5]> = LazyLock::new(|| {
    Aspect::ALL.map(|aspect| {
        let patterns = [
            "R:<s>*(<d>+)",
            "R<s>*=<s>*(<d>+)",
            "R<s>*:<s>*(<d>+)",
            "R<s>+(<d>+)",
            r"\*\*R\*\*<s>*:<s>*(<d>+)",
        ];
        patterns.map(|pattern| compile(&pattern.replacen('R', aspect.code(), 1)))
    })
});

/// The five scores by the official scorer's rule, in the order of [`Aspect::ALL`]; `None` unless all five are found.
///
/// No range is checked: `R2: 45` is 45, and `R2: 4.5` is 4. `**R2:** 4` is not found.
pub fn parse_official(text: &str) -> Option<[f64; 5]> {
    let mut scores = [0.0; 5];
    for (score, patterns) in scores.iter_mut().zip(&*OFFICIAL) {
        let found = patterns.iter().find_map(|pattern| pattern.captures(text))?;
        *score = parse_float(&found[1]).filter(|score| score.is_finite())?;
    }
    Some(scores)
}

/// A code, perhaps the aspect's name, a sign between, and a number. Every repetition is bounded: time is linear.
static MENTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?xi)
        (?:\b|_) (R[23458]) [*_`"'\])]{0,4}
        (?:
            [\ \t]{0,8}
            (?: [(\[] [a-z\ ,/&'-]{1,60} [)\]] | (?:[-–—]\ )? [a-z][a-z\ ,/&'-]{0,60} )?
            [*_`"'\ \t]{0,8} [:=|–—-] [*_`"'\s]{0,12}
          | [\ \t]{1,8}
        )
        [\[(<{*]{0,2} \s{0,2} (?:score [\ :=]{1,3})?
        ([-+−]?\d+(?:[.,]\d+)*)"#,
    )
    .expect("a constant pattern")
});

/// What may follow a score on its line: nothing, the scale, signs, a reason, or the next code.
static TAIL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?xi)
        ^ [*_`"'\])>}]{0,4} (?: [\ \t]{0,4} (?:/|(?:out[\ ])?of) [\ \t]{0,4} 5 \b )? [*_`"'\])>}]{0,4}
        (?: [\ \t]{0,8} (?: $ | \n | \r | [,;.|*)\]}] (?:[^\d]|$) | [-–—:(] [\ \t]{0,4} (?:[^\d\s]|\s|$)
                          | R[23458]\b | [*_]{1,3}R[23458] | because\b | since\b | points?\b ) )"#,
    )
    .expect("a constant pattern")
});

/// The five scores by the strict rule, in the order of [`Aspect::ALL`].
///
/// Each is a whole number from 1 to 5, written after its code as in `R2: 4`, `**R2:** 4/5`, `R2 (terminology) = [4]` or
/// `| R2 | 4 |`. Thoughts before `</think>` are not looked at. Repairs beside the official rule: the range, fractions, and
/// different scores for one code.
///
/// # Errors
///
/// If a score is missing, is none, or is contradicted.
pub fn parse_strict(text: &str) -> Result<[f64; 5], ReplyError> {
    let text = match text.rsplit_once("</think>") {
        Some((_, answer)) => answer,
        None if text.contains("<think>") => return Err(ReplyError::Unfinished),
        None => text,
    };
    let mut found: [Option<u8>; 5] = [None; 5];
    for mention in MENTION.captures_iter(text) {
        let Some((place, aspect)) = Aspect::ALL
            .into_iter()
            .enumerate()
            .find(|(_, aspect)| aspect.code().eq_ignore_ascii_case(&mention[1]))
        else {
            continue;
        };
        let number = mention.get(2).map_or(0..0, |number| number.range());
        let score = match text[number.clone()].as_bytes() {
            [digit @ b'1'..=b'5'] if TAIL.is_match(&text[number.end..]) => digit - b'0',
            _ => {
                let shown = text[number.start..].chars().take_while(|&c| c != '\n').take(20).collect();
                return Err(ReplyError::NotAScore(aspect, shown));
            }
        };
        match found[place] {
            Some(before) if before != score => return Err(ReplyError::Contradiction(aspect, before, score)),
            _ => found[place] = Some(score),
        }
    }
    let mut scores = [0.0; 5];
    for ((score, found), aspect) in scores.iter_mut().zip(found).zip(Aspect::ALL) {
        *score = f64::from(found.ok_or(ReplyError::Missing(aspect))?);
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// A reply with this in the place of R2's line.
    fn with_r2(line: &str) -> String {
        format!("{line}\nR3: 4\nR8: 1\nR5: 5\nR4: 2")
    }

    #[test]
    fn oddities_side_by_side() {
        // The line of R2; what the official rule and the strict one read of it.
        let cases: [(&str, Option<f64>, Option<f64>); 47] = [
            ("R2: 3", Some(3.0), Some(3.0)),
            ("R2:3", Some(3.0), Some(3.0)),
            ("R2 : 3", Some(3.0), Some(3.0)),
            ("R2 = 3", Some(3.0), Some(3.0)),
            ("R2 3", Some(3.0), Some(3.0)),
            ("**R2**: 3", Some(3.0), Some(3.0)),
            ("R2:\n3", Some(3.0), Some(3.0)),
            ("R2: 3/5", Some(3.0), Some(3.0)),
            ("R2: 3/5 because of the match", Some(3.0), Some(3.0)),
            ("R2: 3 out of 5.", Some(3.0), Some(3.0)),
            ("R2: 3 - the terms differ", Some(3.0), Some(3.0)),
            ("R2: 3 (loose terms)", Some(3.0), Some(3.0)),
            ("R2: 3\nR2: 3", Some(3.0), Some(3.0)),
            // Found by the strict rule alone.
            ("**R2:** 3", None, Some(3.0)),
            ("**R2: 3**", Some(3.0), Some(3.0)),
            ("R2: **3**", None, Some(3.0)),
            ("R2: [3]", None, Some(3.0)),
            ("R2: [3/5]", None, Some(3.0)),
            ("r2: 3", None, Some(3.0)),
            ("_R2_: 3", None, Some(3.0)),
            ("| R2 | 3 |", None, Some(3.0)),
            ("- R2 (medical terminology): 3", None, Some(3.0)),
            ("R2 medical terminology: 3", None, Some(3.0)),
            ("R2 - 3", None, Some(3.0)),
            ("R2: score: 3", None, Some(3.0)),
            ("{\"R2\": 3,", None, Some(3.0)),
            ("<think>R2: 1</think>R2: 3", Some(1.0), Some(3.0)),
            // Read by the official rule alone, wrongly.
            ("R2: 45", Some(45.0), None),
            ("R2: 0", Some(0.0), None),
            ("R2: 6", Some(6.0), None),
            ("R2: 3.5", Some(3.0), None),
            ("R2: 3,5", Some(3.0), None),
            ("R2: 3/10", Some(3.0), None),
            ("R2: 3-4", Some(3.0), None),
            ("R2: 3 or 4", Some(3.0), None),
            ("R2: 3 of the 4 terms", Some(3.0), None),
            ("R2: 3\nR2: 4", Some(3.0), None),
            // A pattern that comes first wins over a place that comes first.
            ("R2 = 2\nR2: 3", Some(3.0), None),
            ("XR2: 3", Some(3.0), None),
            ("R2: ３", Some(3.0), None),
            // Read by neither.
            ("R12: 3", None, None),
            ("R2: -3", None, None),
            ("R2: three", None, None),
            ("R2: [score]", None, None),
            ("R2.", None, None),
            ("", None, None),
            ("R2/R3: 3", None, None),
        ];
        for (line, official, strict) in cases {
            let text = with_r2(line);
            assert_eq!(parse_official(&text).map(|scores| scores[0]), official, "official: {line}");
            let found = parse_strict(&text);
            assert_eq!(found.as_ref().ok().map(|scores| scores[0]), strict, "strict: {line}: {found:?}");
            if let (Some(official), Some(strict)) = (parse_official(&text), found.ok()) {
                assert_eq!(
                    (official[1..].to_vec(), strict[1..].to_vec()),
                    (vec![4.0, 1.0, 5.0, 2.0], vec![4.0, 1.0, 5.0, 2.0])
                );
            }
        }
    }

    #[test]
    fn all_five_are_required_and_reasons_are_told() {
        let whole = with_r2("R2: 3");
        for aspect in Aspect::ALL {
            let part: Vec<&str> = whole.lines().filter(|line| !line.starts_with(aspect.code())).collect();
            assert_eq!(parse_official(&part.join("\n")), None);
            assert_eq!(parse_strict(&part.join("\n")), Err(ReplyError::Missing(aspect)));
        }
        let error = |line: &str| parse_strict(&with_r2(line)).unwrap_err().to_string();
        assert_eq!(error("R2: 3.5 "), "the reply gives R2 as \"3.5 \", which is no whole number from 1 to 5");
        assert_eq!(error("R2: 3, R2: 2"), "the reply gives R2 as both 3 and 2");
        assert!(error("<think>R2: 3").contains("thoughts"));
    }

    #[test]
    fn one_line_of_five() {
        for text in
            ["R2: 1, R3: 2, R8: 3, R5: 4, R4: 5", "R2: 1 R3: 2 R8: 3 R5: 4 R4: 5", "R2=1;R3=2;R8=3;R5=4;R4=5"]
        {
            assert_eq!(parse_strict(text), Ok([1.0, 2.0, 3.0, 4.0, 5.0]), "{text}");
            assert_eq!(parse_official(text), Some([1.0, 2.0, 3.0, 4.0, 5.0]), "{text}");
        }
    }

    #[test]
    fn any_text_is_read_in_linear_time() {
        let start = Instant::now();
        for part in [
            "R2: ", "R2 ", "R2 a", "R2: 4", "R2(", "4", "*", "<think>", "</think>", "R2 - a,", "\n", "é\u{0}",
        ] {
            let text = part.repeat((1 << 16) / part.len());
            let _ = (parse_official(&text), parse_strict(&text));
            let _ = (parse_official(&with_r2(&text)), parse_strict(&with_r2(&text)));
        }
        assert_eq!(parse_official(&with_r2(&format!("R2: {}", "9".repeat(400)))), None);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
