//! The benchmark's exact answer formats, read strictly: where a record has no structured truth, its answer is the truth.
//!
//! A model's free text is not read here: the forgiving parsers and their scores live in the rewards crate.

use std::collections::BTreeMap;

use crate::{Segment, Span, TimedBox};

/// CVS components: the name in answers, the key in records.
pub(super) const CVS_COMPONENTS: [(&str, &str); 3] = [
    ("Two structures", "two_structures"),
    ("Cystic plate", "cystic_plate"),
    ("Hepatocystic triangle", "hepatocystic_triangle"),
];

/// Seconds or pixels: digits with an optional fraction, no sign, no exponent.
fn plain_number(text: &str) -> Option<f64> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let dots = text.bytes().filter(|&byte| byte == b'.').count();
    if digits == 0 || digits + dots != text.len() || dots > 1 || text.starts_with('.') || text.ends_with('.')
    {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

fn span(text: &str) -> Option<Span> {
    let (start, end) = text.split_once('-')?;
    let (start_sec, end_sec) = (plain_number(start)?, plain_number(end)?);
    (start_sec <= end_sec).then_some(Span { start_sec, end_sec })
}

/// TAG: `66.0-66.0, 124.0-126.0 seconds.`
pub(super) fn spans(text: &str) -> Option<Vec<Span>> {
    let list = text.trim().trim_end_matches('.').trim_end().strip_suffix("seconds")?.trim_end();
    list.split(", ").map(span).collect()
}

/// STG: `66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: […]`
pub(super) fn boxes(text: &str) -> Option<Vec<TimedBox>> {
    let mut rest = text.trim();
    let mut boxes = Vec::new();
    while !rest.is_empty() {
        let (key, tail) = rest.split_once(" seconds: [")?;
        let (corners, tail) = tail.split_once(']')?;
        let corners: Vec<f64> =
            corners.split(',').map(|part| plain_number(part.trim())).collect::<Option<_>>()?;
        boxes.push(TimedBox {
            key: key.to_owned(),
            time_sec: plain_number(key)?,
            box_xyxy: corners.try_into().ok()?,
        });
        rest = tail.trim_start();
    }
    (!boxes.is_empty()).then_some(boxes)
}

/// DVC: one `0.0-10.0 seconds: caption` a line.
pub(super) fn segments(text: &str) -> Option<Vec<Segment>> {
    text.trim()
        .lines()
        .map(|line| {
            let (times, caption) = line.split_once(" seconds: ")?;
            let caption = caption.trim();
            (!caption.is_empty()).then_some(Segment { span: span(times)?, caption: caption.to_owned() })
        })
        .collect::<Option<Vec<_>>>()
        .filter(|segments| !segments.is_empty())
}

/// CVS: `Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0`
pub(super) fn cvs_scores(text: &str) -> Option<BTreeMap<String, i64>> {
    let parts: Vec<&str> = text.trim().trim_end_matches('.').split(", ").collect();
    if parts.len() != CVS_COMPONENTS.len() {
        return None;
    }
    let score = |(part, (name, key)): (&str, (&str, &str))| {
        let score: i64 = part.strip_prefix(name)?.strip_prefix(": ")?.parse().ok()?;
        (0..=2).contains(&score).then(|| (key.to_owned(), score))
    };
    parts.into_iter().zip(CVS_COMPONENTS).map(score).collect()
}

/// SA: `Respect for tissue: 4/5, Suture/needle handling: 4/5, …`
pub(super) fn skill_scores(text: &str) -> Option<BTreeMap<String, i64>> {
    let mut scores = BTreeMap::new();
    for part in text.trim().trim_end_matches('.').split(", ") {
        let (aspect, score) = part.split_once(": ")?;
        let score: i64 = score.strip_suffix("/5")?.parse().ok()?;
        if aspect.is_empty() || !(1..=5).contains(&score) || scores.insert(aspect.to_owned(), score).is_some()
        {
            return None;
        }
    }
    Some(scores)
}

#[cfg(test)]
mod tests {
    use super::{boxes, cvs_scores, segments, skill_scores, spans};
    use crate::Span;

    fn seconds(spans: &[Span]) -> Vec<(f64, f64)> {
        spans.iter().map(|span| (span.start_sec, span.end_sec)).collect()
    }

    #[test]
    fn tag_answers() {
        assert_eq!(seconds(&spans("20.7-55.7 seconds.").unwrap()), [(20.7, 55.7)]);
        assert_eq!(
            seconds(&spans("66.0-66.0, 124.0-126.0, 144.0-154.0 seconds.").unwrap()),
            [(66.0, 66.0), (124.0, 126.0), (144.0, 154.0)]
        );
        for wrong in
            ["", "seconds.", "20.7–55.7 seconds.", "9.0-3.0 seconds.", "1-2, x seconds.", "-1-2 seconds."]
        {
            assert_eq!(spans(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stg_answers() {
        let read = boxes(
            "66.0 seconds: [117.54, 339.56, 626.88, 1005.62] 74.0 seconds: [104.48, 313.44, 587.7, 1005.62]",
        )
        .unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].key.as_str(), read[0].time_sec), ("66.0", 66.0));
        assert_eq!(read[1].box_xyxy, [104.48, 313.44, 587.7, 1005.62]);
        for wrong in [
            "",
            "66 seconds: [1, 2, 3]",
            "66 seconds: [1, 2, 3, nan]",
            "66 seconds: [1, 2, 3, 4",
            "[1, 2, 3, 4]",
        ] {
            assert_eq!(boxes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn dvc_answers() {
        let read =
            segments("0.0-10.0 seconds: suturing: The needle passes.\n10.0-12.5 seconds: The knot: tied.")
                .unwrap();
        assert_eq!(read[0].caption, "suturing: The needle passes.");
        assert_eq!((read[1].span.start_sec, read[1].span.end_sec), (10.0, 12.5));
        assert_eq!(segments("0.0-10.0 seconds: "), None);
        assert_eq!(segments("A summary."), None);
    }

    #[test]
    fn score_answers() {
        let cvs = cvs_scores("Two structures: 0, Cystic plate: 2, Hepatocystic triangle: 1").unwrap();
        assert_eq!((cvs["two_structures"], cvs["cystic_plate"], cvs["hepatocystic_triangle"]), (0, 2, 1));
        assert_eq!(cvs_scores("Two structures: 0, Cystic plate: 3, Hepatocystic triangle: 1"), None);
        assert_eq!(cvs_scores("Two structures: 0"), None);
        let skills = skill_scores("Respect for tissue: 4/5, Suture/needle handling: 3/5").unwrap();
        assert_eq!((skills["Respect for tissue"], skills["Suture/needle handling"]), (4, 3));
        assert_eq!(skill_scores("Respect for tissue: 6/5"), None);
    }
}
