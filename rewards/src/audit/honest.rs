//! Answers of someone who looked, and got half of it.

use medgrpo_datasets::{Gold, Segment, Span, TimedBox};

/// Fewer words than this have no half that means half.
const MIN_WORDS: usize = 4;

/// The truth with half of its members right and the others left out: the first half of spans, boxes and events, with half of
/// the middle one where their number is odd; the first half of the scores, rounded up; the first half of the words.
///
/// `None` where there is no half: of a class, a point in time, a few words.
pub fn half_right(gold: &Gold) -> Option<Gold> {
    Some(match gold {
        Gold::Spans(spans) => Gold::Spans(half_of(spans, half_span)?),
        Gold::Boxes(boxes) => Gold::Boxes(half_of(boxes, |b| Some(half_box(b)))?),
        Gold::Segments(events) => Gold::Segments(half_of(events, half_event)?),
        Gold::CvsScores(scores) => Gold::CvsScores(first_half(scores)?),
        Gold::SkillScores(scores) => Gold::SkillScores(first_half(scores)?),
        Gold::Text(text) => Gold::Text(half_words(text)?),
        Gold::Class(_) | Gold::Hidden => return None,
    })
}

fn half_of<T: Clone>(members: &[T], half: impl Fn(&T) -> Option<T>) -> Option<Vec<T>> {
    let mut kept = members[..members.len() / 2].to_vec();
    if members.len() % 2 == 1 {
        kept.extend(half(&members[members.len() / 2]));
    }
    (!kept.is_empty()).then_some(kept)
}

/// Its first half, if that is longer than what the answer format can tell.
fn half_span(span: &Span) -> Option<Span> {
    let length_sec = span.end_sec - span.start_sec;
    (length_sec >= 0.4).then_some(Span { end_sec: span.start_sec + length_sec / 2.0, ..*span })
}

/// Its left half.
fn half_box(target: &TimedBox) -> TimedBox {
    let [x1, y1, x2, y2] = target.box_xyxy;
    let middle = ((x1 + x2) * 50.0).round() / 100.0;
    TimedBox { box_xyxy: [x1, y1, middle, y2], ..target.clone() }
}

/// Its time and half of its words; half of its time where they are few.
fn half_event(event: &Segment) -> Option<Segment> {
    match half_words(&event.caption) {
        Some(caption) => Some(Segment { caption, ..event.clone() }),
        None => Some(Segment { span: half_span(&event.span)?, ..event.clone() }),
    }
}

fn half_words(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    (words.len() >= MIN_WORDS).then(|| words[..words.len() / 2].join(" "))
}

type Scores = std::collections::BTreeMap<String, i64>;

fn first_half(scores: &Scores) -> Option<Scores> {
    let half: Scores =
        scores.iter().take(scores.len().div_ceil(2)).map(|(name, score)| (name.clone(), *score)).collect();
    (scores.len() > 1).then_some(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_by_hand() {
        let span = |start_sec, end_sec| Span { start_sec, end_sec };
        let half = half_right(&Gold::Spans(vec![span(0.0, 4.0), span(10.0, 14.0), span(20.0, 24.0)]));
        assert_eq!(half, Some(Gold::Spans(vec![span(0.0, 4.0), span(10.0, 12.0)])));
        assert_eq!(half_right(&Gold::Spans(vec![span(3.0, 3.0)])), None);
        assert_eq!(half_right(&Gold::Text("a b c d e".into())), Some(Gold::Text("a b".into())));
        assert_eq!(half_right(&Gold::Text("yes".into())), None);
        let boxed = |box_xyxy| Gold::Boxes(vec![TimedBox { key: "0".into(), time_sec: 0.0, box_xyxy }]);
        assert_eq!(half_right(&boxed([0.0, 0.0, 10.0, 5.0])), Some(boxed([0.0, 0.0, 5.0, 5.0])));
    }
}
