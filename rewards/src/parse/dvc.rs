//! Events with descriptions (DVC).
//!
//! Official rules: `A-B seconds: text`, one event a line; the text runs on over lines until one that opens with another
//! such header. Only where no event is found, lines of the form `A - B seconds … - text` or `… **Description:** text`
//! are read, up to the first full stop. Overlapping events are cut into disjoint pieces for the temporal score, each
//! piece described by the longest event that covers it ([`flatten_longest`]).

use std::{cmp::Ordering, collections::BinaryHeap, collections::HashSet, sync::LazyLock};

use medgrpo_datasets::{Segment, Span};
use regex::Regex;

use super::python::{compile, parse_float, strip};

static HEADER: LazyLock<Regex> = LazyLock::new(|| compile(r"(<n>)-(<n>)<s>+seconds?:<s>+"));
static NEXT_HEADER: LazyLock<Regex> = LazyLock::new(|| compile(r"\n<n>-<n><s>+seconds?:"));
static LOOSE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    compile(r"(<n>)<s>*[-–]<s>*(<n>)<s>*seconds?[^\n]*?(?:\*\*Description:\*\*|-)<s>*([^\n]+?)(?:\.|\n|$)")
});

/// The events of an answer in the order they are written; of events with equal times the first is kept.
pub fn parse(text: &str) -> Vec<Segment> {
    let mut events = with_headers(text);
    if events.is_empty() {
        events = LOOSE_LINE.captures_iter(text).map(|c| event(&c[1], &c[2], &c[3])).collect();
    }
    let mut seen = HashSet::new();
    events.retain(|event| seen.insert((event.span.start_sec.to_bits(), event.span.end_sec.to_bits())));
    events
}

fn event(start: &str, end: &str, caption: &str) -> Segment {
    let number = |text: &str| parse_float(text).unwrap_or(f64::NAN);
    Segment {
        span: Span { start_sec: number(start), end_sec: number(end) },
        caption: strip(caption).replace('\n', " "),
    }
}

static ANY_HEADER: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(<n>)<s>*[-–—−]<s>*(<n>)<s>*(?:seconds?|secs?|s)(?:<s>*[:–-]|<s>|$)"));

/// The events of an answer by the strict rules, repeated ones included.
///
/// Repairs: a header opens an event wherever it stands, not only on a line of its own; any dash, blanks around it, a missing
/// blank behind the colon and abbreviated units are accepted.
pub fn parse_strict(text: &str) -> Vec<Segment> {
    let headers: Vec<_> = ANY_HEADER.captures_iter(text).collect();
    let starts = headers.iter().filter_map(|header| header.get(0)).map(|whole| whole.start());
    let ends = starts.skip(1).chain([text.len()]);
    headers
        .iter()
        .zip(ends)
        .map(|(header, end)| {
            let caption = header.get(0).map_or("", |whole| &text[whole.end()..end]);
            event(&header[1], &header[2], strip(caption).trim_start_matches("**Description:**"))
        })
        .collect()
}

/// Events by their headers. The regex crate has no look-ahead, so the ends are found first.
fn with_headers(text: &str) -> Vec<Segment> {
    let mut ends = NEXT_HEADER.find_iter(text).map(|m| m.start()).peekable();
    let mut events = Vec::new();
    let mut from = 0;
    while let Some(header) = HEADER.captures_at(text, from) {
        let Some(whole) = header.get(0) else { break };
        let caption_start = whole.end();
        // The caption holds at least one character, so an end directly at its start does not count.
        while ends.next_if(|&end| end <= caption_start).is_some() {}
        let caption_end = ends.peek().copied().unwrap_or(text.len());
        if caption_start == caption_end {
            // A header at the very end: the caption is one of the blanks behind its colon, if there are two.
            if whole.as_str().chars().rev().nth(1).is_some_and(super::python::is_space) {
                events.push(event(&header[1], &header[2], ""));
            }
            break;
        }
        events.push(event(&header[1], &header[2], &text[caption_start..caption_end]));
        from = caption_end;
    }
    events
}

/// The events sorted by start, then end.
fn sorted(events: &[Segment]) -> Vec<&Segment> {
    let mut sorted: Vec<&Segment> = events.iter().collect();
    sorted.sort_by(|a, b| {
        a.span.start_sec.total_cmp(&b.span.start_sec).then(a.span.end_sec.total_cmp(&b.span.end_sec))
    });
    sorted
}

/// Whether any event starts before its predecessor in time ends.
pub fn has_overlap(events: &[Segment]) -> bool {
    sorted(events).windows(2).any(|pair| pair[0].span.end_sec > pair[1].span.start_sec)
}

/// An event in the sweep, ordered by length, then the earlier one in `order`.
struct Covering {
    length_sec: f64,
    end_sec: f64,
    order: usize,
}

impl Ord for Covering {
    fn cmp(&self, other: &Self) -> Ordering {
        self.length_sec.total_cmp(&other.length_sec).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Covering {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Covering {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Covering {}

/// Cuts the events at every start and end and keeps each piece that an event covers, with the caption of the longest
/// such event (the first in time order on ties). Events of no or negative length vanish.
pub fn flatten_longest(events: &[Segment]) -> Vec<Segment> {
    let order = sorted(events);
    let mut cuts: Vec<f64> =
        events.iter().flat_map(|event| [event.span.start_sec, event.span.end_sec]).collect();
    cuts.sort_by(f64::total_cmp);
    cuts.dedup();
    let mut open = BinaryHeap::new();
    let mut next = 0;
    let mut pieces = Vec::new();
    for window in cuts.windows(2) {
        let &[start_sec, end_sec] = window else { continue };
        while let Some(event) = order.get(next).filter(|event| event.span.start_sec <= start_sec) {
            let Span { start_sec, end_sec } = event.span;
            open.push(Covering { length_sec: end_sec - start_sec, end_sec, order: next });
            next += 1;
        }
        while open.peek().is_some_and(|top| top.end_sec <= start_sec) {
            open.pop();
        }
        if let Some(longest) = open.peek() {
            let caption = order[longest.order].caption.clone();
            pieces.push(Segment { span: Span { start_sec, end_sec }, caption });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(events: &[Segment]) -> Vec<(f64, f64, &str)> {
        events.iter().map(|e| (e.span.start_sec, e.span.end_sec, e.caption.as_str())).collect()
    }

    #[test]
    fn an_event_ends_only_at_a_line_that_opens_with_a_header() {
        let text = "0-5 seconds: a\nstill a 5-6 seconds: inside\n6-7 seconds: b";
        assert_eq!(times(&parse(text)), [(0.0, 5.0, "a still a 5-6 seconds: inside"), (6.0, 7.0, "b")]);
        assert_eq!(
            times(&parse_strict(text)),
            [(0.0, 5.0, "a still a"), (5.0, 6.0, "inside"), (6.0, 7.0, "b")]
        );
    }

    #[test]
    fn headers_in_other_styles_count_only_to_the_strict_rules() {
        let text = "0 – 5 s: cut\n5-9 seconds:tie";
        assert_eq!(parse(text), []);
        assert_eq!(times(&parse_strict(text)), [(0.0, 5.0, "cut"), (5.0, 9.0, "tie")]);
        assert_eq!(parse_strict("10-12 suturing"), []);
    }

    #[test]
    fn an_empty_description_swallows_the_next_line() {
        assert_eq!(times(&parse("0-5 seconds:\n5-9 seconds: x")), [(0.0, 5.0, "5-9 seconds: x")]);
    }

    #[test]
    fn a_header_at_the_end_needs_two_blanks() {
        assert_eq!(parse("0-5 seconds: "), []);
        assert_eq!(times(&parse("0-5 seconds:  ")), [(0.0, 5.0, "")]);
    }

    #[test]
    fn pieces_take_the_longest_covering_caption() {
        let events = parse("0-10 seconds: long\n2-4 seconds: short\n20-21 seconds: alone");
        assert!(has_overlap(&events));
        assert_eq!(
            times(&flatten_longest(&events)),
            [(0.0, 2.0, "long"), (2.0, 4.0, "long"), (4.0, 10.0, "long"), (20.0, 21.0, "alone")]
        );
    }

    #[test]
    fn a_long_answer_takes_no_quadratic_time() {
        let text: String = (0..60_000).map(|i| format!("{i}-{} seconds: x\n", i + 30_000)).collect();
        let events = parse(&text);
        assert_eq!(events.len(), 60_000);
        assert_eq!(flatten_longest(&events).len(), 89_999);
    }
}
