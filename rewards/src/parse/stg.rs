//! Boxes at times (STG).
//!
//! Official rules: `T seconds: [a, b, c, d]`, anywhere; a malformed box takes the numbers of the last good one of the
//! same answer; a later box for the same time replaces an earlier one. Only where no such entry exists, `[[i, i, i, i]]`
//! with whole numbers, one box per double bracket, which are then dealt to the requested times in order.
//! [`entries`] gives what was written, before these repairs.

use std::sync::LazyLock;

use regex::Regex;

use super::python::{compile, parse_digits, parse_float, repr, strip};

static TIMED: LazyLock<Regex> = LazyLock::new(|| compile(r"(<n>)<s>+seconds:<s>*\[([^\]]+)\]"));
static LISTED: LazyLock<Regex> = LazyLock::new(|| compile(r"\[\[([<d><s>,]+)\]\]"));

/// One `T seconds: […]` as written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// The time in seconds.
    pub time_sec: f64,
    /// Corners `[x1, y1, x2, y2]`; `None` where the brackets do not hold four numbers.
    pub box_xyxy: Option<[f64; 4]>,
}

/// An answer as the official scorer reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Boxes {
    /// Boxes under the text Python gives their time (`66.0`), in the order the times first appear.
    Timed(Vec<(String, [f64; 4])>),
    /// Boxes without times.
    Listed(Vec<[f64; 4]>),
}

impl Boxes {
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Timed(boxes) => boxes.is_empty(),
            Self::Listed(boxes) => boxes.is_empty(),
        }
    }
}

/// All `T seconds: […]` entries in order, unrepaired.
pub fn entries(text: &str) -> Vec<Entry> {
    TIMED
        .captures_iter(text)
        .map(|c| Entry { time_sec: parse_float(&c[1]).unwrap_or(f64::NAN), box_xyxy: corners(&c[2]) })
        .collect()
}

static ANY_TIMED: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)(<n>)<s>*(?:seconds?|secs?|s)<s>*:?<s>*\[+([^\[\]]+)\]"));
static ANY_LIST: LazyLock<Regex> = LazyLock::new(|| compile(r"\[([^\[\]]+)\]"));

/// The entries of an answer by the strict rules.
///
/// Repairs: singular and abbreviated units, and a missing colon or blank, still make an entry; where there is none, every
/// bracket counts as a box, decimals allowed, dealt to `asked_times_sec` in order (surplus ones are dropped).
pub fn entries_strict(text: &str, asked_times_sec: &[f64]) -> Vec<Entry> {
    let timed: Vec<Entry> = ANY_TIMED
        .captures_iter(text)
        .map(|c| Entry { time_sec: parse_float(&c[1]).unwrap_or(f64::NAN), box_xyxy: corners(&c[2]) })
        .collect();
    if !timed.is_empty() {
        return timed;
    }
    let lists = ANY_LIST.captures_iter(text).zip(asked_times_sec);
    lists.map(|(c, &time_sec)| Entry { time_sec, box_xyxy: corners(&c[1]) }).collect()
}

/// Four comma-separated numbers, stray brackets and blanks around each removed.
fn corners(content: &str) -> Option<[f64; 4]> {
    let mut numbers =
        content.split(',').map(|part| parse_float(strip(part).trim_start_matches('[').trim_end_matches(']')));
    let corners = [numbers.next()??, numbers.next()??, numbers.next()??, numbers.next()??];
    numbers.next().is_none().then_some(corners)
}

/// The boxes of an answer by the official rules.
pub fn parse(text: &str) -> Boxes {
    let entries = entries(text);
    if entries.is_empty() {
        return Boxes::Listed(listed(text));
    }
    let mut places = std::collections::HashMap::new();
    let mut boxes: Vec<(String, [f64; 4])> = Vec::new();
    let mut last_good = None;
    for entry in entries {
        last_good = entry.box_xyxy.or(last_good);
        let Some(corners) = last_good else { continue };
        let key = repr(entry.time_sec);
        let place = *places.entry(key.clone()).or_insert(boxes.len());
        match boxes.get_mut(place) {
            Some(slot) => slot.1 = corners,
            None => boxes.push((key, corners)),
        }
    }
    Boxes::Timed(boxes)
}

fn listed(text: &str) -> Vec<[f64; 4]> {
    LISTED
        .captures_iter(text)
        .filter_map(|c| {
            let numbers: Option<Vec<f64>> = c[1].split(',').map(parse_digits).collect();
            numbers?.try_into().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_box_takes_the_last_good_one() {
        let text = "0.0 seconds: [1] 1 seconds: [1, 2, 3, 4] 2 seconds: [1, x, 3, 4]";
        let good = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(parse(text), Boxes::Timed(vec![("1.0".into(), good), ("2.0".into(), good)]));
        assert_eq!(entries(text).iter().filter(|entry| entry.box_xyxy.is_none()).count(), 2);
    }

    #[test]
    fn a_later_box_replaces_an_earlier_one_in_its_place() {
        let Boxes::Timed(boxes) = parse("1 seconds: [1,1,2,2] 3 seconds: [0,0,1,1] 1.00 seconds: [5,5,6,6]")
        else {
            panic!("timed boxes expected");
        };
        assert_eq!(boxes, [("1.0".into(), [5.0, 5.0, 6.0, 6.0]), ("3.0".into(), [0.0, 0.0, 1.0, 1.0])]);
    }

    #[test]
    fn lists_hold_whole_numbers_only() {
        assert_eq!(
            parse("[[1, 2, 3, 4]] [[1.5, 2, 3, 4]] [[1, 2, 3]]"),
            Boxes::Listed(vec![[1.0, 2.0, 3.0, 4.0]])
        );
        assert!(parse("5.0 second: [1, 2, 3, 4]").is_empty());
        let good = Entry { time_sec: 5.0, box_xyxy: Some([1.0, 2.0, 3.0, 4.5]) };
        assert_eq!(entries_strict("5.0 second: [1, 2, 3, 4.5]", &[]), [good]);
        assert_eq!(entries_strict("[[1, 2, 3, 4.5]], [9]", &[5.0]), [good]);
    }
}
