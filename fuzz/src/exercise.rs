//! One function per fuzz target: reads the bytes as that parser's input by every rule set and checks what must hold for
//! any input. Compiled into the fuzz targets and, so that the kept corpus is an ordinary test, into the test binary.

use std::{
    io::{Cursor, Read, Seek, SeekFrom},
    path::Path,
};

use medgrpo_datasets::{
    Content, Gold, Message, Role, Segment, SourceId, Span, TaskKind, TaskSample, TimedBox, medvidbench,
    messages,
};
use medgrpo_rewards::{
    Response, Reward, Score, canonical_answer,
    judge::reply,
    leaderboard::{Options, Report, Rules, evaluate_records},
    metric::{box_iou, dvc_f1, dvc_pairs, next_action as resolve, scores, span_iou},
    parse::{self, vqa as medical},
    task::vqa::{AccuracyReward, CorrectLengthReward, TagsReward},
};
use serde_json::Value;

/// The name of a target and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 12] = [
    ("tag", tag),
    ("stg", stg),
    ("dvc", dvc),
    ("next_action", next_action),
    ("cvs", cvs),
    ("skill", skill),
    ("vqa", vqa),
    ("judge_reply", judge_reply),
    ("record", record),
    ("file", file),
    ("messages", messages),
    ("evaluate", evaluate),
];

fn span(start_sec: f64, end_sec: f64) -> Span {
    Span { start_sec, end_sec }
}

fn assert_share(value: f64) {
    assert!((0.0..=1.0 + 1e-9).contains(&value), "{value} is no share");
}

/// Time ranges.
pub fn tag(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let gold = [span(1.0, 5.0), span(4.0, 9.0), span(12.0, 12.0)];
    let (official, strict) = (parse::tag::parse(&text), parse::tag::parse_strict(&text));
    // The shortest range, `1-1`, takes three bytes.
    assert!(official.len().max(strict.len()) <= data.len());
    for threshold in [0.3, 0.5] {
        let score = span_iou::official(&span_iou::scaled(&official, 0.5), &gold, threshold);
        for share in [score.mean_iou, score.recall, score.precision, score.f1()] {
            assert_share(share);
        }
        assert_share(span_iou::strict_above(&strict, &gold, 0.25, threshold));
    }
}

/// Boxes at times.
pub fn stg(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let boxed =
        |time_sec: f64| TimedBox { key: time_sec.to_string(), time_sec, box_xyxy: [1.0, 2.0, 8.0, 9.0] };
    let gold = [0.0, 1.0, 8.25].map(boxed);
    // May be anything, NaN included, by the official rules.
    let _ = box_iou::official(&parse::stg::parse(&text), &gold);
    let entries = parse::stg::entries_strict(&text, &[0.0, 1.0, 8.25]);
    assert!(entries.len().max(parse::stg::entries(&text).len()) <= data.len());
    assert_share(box_iou::strict(&entries, &gold, box_iou::tolerance_sec(&gold, 1.0)));
}

/// Events with captions.
pub fn dvc(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let gold = [span(0.0, 5.0), span(3.0, 20.0)];
    let times = |events: &[Segment]| events.iter().map(|event| event.span).collect::<Vec<_>>();
    let events = parse::dvc::parse(&text);
    let flat = parse::dvc::flatten_longest(&events);
    // Every cut is a start or an end.
    assert!(flat.len() <= 2 * events.len());
    assert!(!parse::dvc::has_overlap(&flat));
    let captions: usize = events.iter().map(|event| event.caption.len()).sum();
    assert!(captions <= text.len());
    let frames: Option<Vec<dvc_f1::FrameSpan>> = flat
        .iter()
        .map(|event| {
            Some([dvc_f1::frame(event.span.start_sec, 2.0)?, dvc_f1::frame(event.span.end_sec, 2.0)?])
        })
        .collect();
    if let Some(score) = frames.and_then(|frames| dvc_f1::official(&frames, &[[0, 10], [6, 40]])) {
        assert_share(score.f1);
    }
    let _ = dvc_pairs::pairs(&times(&events), &gold);
    let strict = parse::dvc::parse_strict(&text);
    assert_share(dvc_f1::strict(&times(&strict), &gold).expect("there is gold").f1);
}

/// The class of the next action: two bytes choose source and procedure, the rest is the answer.
pub fn next_action(data: &[u8]) {
    const SOURCES: [&str; 5] = ["AVOS", "CholecT50", "CoPESD", "NurViD", "EgoSurgery"];
    let text = String::from_utf8_lossy(data);
    let mut lines = text.splitn(3, '\n');
    let [source, question, answer] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let source = SOURCES.iter().find(|name| source.starts_with(&name[..1])).copied().unwrap_or(source);
    let answer = parse::next_action::normalise(source, answer);
    if let Some(classes) = parse::next_action::classes(source, question) {
        assert!(!classes.is_empty());
        let resolved = resolve::resolve(&answer, classes, None);
        assert!(resolved.class().is_none_or(|class| class < classes.len()));
    }
    let folded = parse::next_action::fold(&answer);
    assert_eq!(parse::next_action::fold(&folded), folded, "folding twice changes {answer:?}");
}

/// Scores of the critical view of safety.
pub fn cvs(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let gold = parse::cvs::COMPONENTS.iter().map(|(key, _)| ((*key).to_owned(), 1)).collect();
    let (official, strict) = (parse::cvs::parse(&text), parse::cvs::parse_strict(&text));
    assert!(scores::exact(&official, &gold).len() <= 3 && strict.len() <= 3);
    assert!(strict.values().all(|score| (0..=2).contains(score)));
}

/// Scores of skill.
pub fn skill(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let official = parse::skill::parse(&text);
    assert_eq!(official.level().is_some(), official.mean_score.is_some());
    // An aspect is written with `/5`.
    assert!(official.aspects.is_empty() || official.mean_score.is_some());
    if let Some(strict) = parse::skill::parse_strict(&text) {
        assert!(strict.len() == 6 && strict.values().all(|score| (1..=5).contains(score)));
    }
}

/// Answers to medical questions: question, reference and answer, a blank line between.
pub fn vqa(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut pieces = text.splitn(3, "\n\n");
    let [question, reference, answer] = [(); 3].map(|()| pieces.next().unwrap_or_default());
    let options = medical::options(question);
    assert!(options.len() != 1);
    for (option, letter) in options.iter().zip('A'..='J') {
        assert_eq!(option.letter, letter);
        let whole = format!("{letter}. {}", option.text);
        assert_eq!(medical::choice(&whole, &options), Some(letter), "{whole:?}");
    }
    for text in [question, reference, answer] {
        let folded = medical::fold(text);
        assert_eq!(medical::fold(&folded), folded, "folding twice changes {text:?}");
        if let Some(tagged) = medical::tagged(text) {
            assert!(!tagged.thought.is_empty() && !tagged.answer.is_empty());
            assert_eq!(medical::answer_part(text), Some(tagged.answer));
        }
        let letters = [medical::choice(text, &options), medical::choice(text, &[])];
        assert!(letters.into_iter().flatten().all(|letter| letter.is_ascii_uppercase()));
    }
    let sample = open_question(question, reference);
    let accuracy = shares(&AccuracyReward, &sample, &[reference, answer]);
    // Tags in a reference are no data of ours; without them the reference is right, and wholly so.
    let own = medical::answer_part(reference);
    if !accuracy.is_empty() && own.is_some_and(|own| own == parse::python::strip(reference)) {
        assert!(accuracy[0] > 0.5, "the reference {reference:?} is no right answer to itself");
    }
    shares(&TagsReward, &sample, &[answer]);
    shares(&CorrectLengthReward::default(), &sample, &[answer]);
}

fn open_question(question: &str, reference: &str) -> TaskSample {
    TaskSample {
        row: 0,
        id: String::new(),
        source: SourceId::from("x"),
        task: TaskKind::OpenQuestion,
        qa_type: String::new(),
        video_id: String::new(),
        prompt: vec![Message { role: Role::User, content: vec![Content::Text(question.to_owned())] }],
        answer: None,
        gold: Gold::Text(reference.to_owned()),
        fps: 1.0,
    }
}

/// The scores of the texts, which must be shares; none where the sample cannot be scored.
fn shares(reward: &dyn Reward, sample: &TaskSample, texts: &[&str]) -> Vec<f32> {
    let responses: Vec<Response<'_>> =
        texts.iter().map(|text| Response { text, num_tokens: text.len(), truncated: false }).collect();
    let scores = reward.score_group(sample, &responses).expect("texts are scored");
    assert_eq!(scores.len(), texts.len());
    let values = scores.iter().filter_map(|score| match score {
        Score::Scored { value, .. } => Some(*value),
        Score::Unscored(_) => None,
    });
    values.inspect(|value| assert_share(f64::from(*value))).collect()
}

/// The reply of a judge.
pub fn judge_reply(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(scores) = reply::parse_official(&text) {
        // Digits alone are read; their range is not looked at.
        assert!(scores.iter().all(|score| score.is_finite() && *score >= 0.0 && score.fract() == 0.0));
    }
    match reply::parse_strict(&text) {
        Ok(scores) => {
            let is_score = |score: &f64| (1.0..=5.0).contains(score) && score.fract() == 0.0;
            assert!(scores.iter().all(is_score), "{scores:?}");
            // Said once more nothing changes, and said otherwise it is no judgement.
            let (same, other) = (scores[0], if scores[0] > 3.0 { 1.0 } else { 5.0 });
            assert_eq!(reply::parse_strict(&format!("{text}\nR2: {same}")), Ok(scores));
            let contradicted = reply::parse_strict(&format!("{text}\nR2: {other}"));
            assert!(matches!(contradicted, Err(reply::ReplyError::Contradiction(..))), "{contradicted:?}");
        }
        Err(error) => assert!(error.to_string().len() < 400),
    }
}

/// One record of a MedVidBench file, and the answer made of its truth.
pub fn record(data: &[u8]) {
    let Ok(record) = medvidbench::schema::Record::from_slice(data) else { return };
    let Ok(sample) = medvidbench::convert(record, 3, Path::new("media")) else { return };
    assert!(sample.fps.is_finite() && sample.fps > 0.0);
    if let Some(answer) = canonical_answer(&sample.gold) {
        match &sample.gold {
            Gold::Spans(spans) => assert_eq!(parse::tag::parse(&answer).len(), spans.len(), "{answer}"),
            Gold::Class(text) | Gold::Text(text) => assert_eq!(&answer, text),
            _ => {}
        }
    }
}

/// A whole MedVidBench file, as an array and as lines: where its rows are, and then each of them.
pub fn file(data: &[u8]) {
    let cut = |row: &std::ops::Range<u64>| &data[row.start as usize..row.end as usize];
    let [array, lines] = [false, true].map(|lines| {
        let rows = medvidbench::row_ranges(Cursor::new(data), lines).ok();
        let dribble = Dribble { file: Cursor::new(data), num_bytes: 1 + data.len() % 7 };
        assert_eq!(
            rows,
            medvidbench::row_ranges(dribble, lines).ok(),
            "rows depend on the bytes read at a time"
        );
        let mut end = 0;
        for row in rows.iter().flatten() {
            assert!(end <= row.start && row.start <= row.end && row.end <= data.len() as u64, "{rows:?}");
            end = row.end;
            record(cut(row));
        }
        rows
    });
    if let Ok(values) = serde_json::from_slice::<Vec<Value>>(data) {
        let rows = array.expect("an array has rows");
        let read: Vec<Value> =
            rows.iter().map(|row| serde_json::from_slice(cut(row)).expect("a row of an array")).collect();
        assert_eq!(read, values);
    }
    let rows: Vec<&[u8]> = lines.iter().flatten().map(|row| cut(row).trim_ascii()).collect();
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let expected = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    assert_eq!(rows, expected.filter(|line| !line.is_empty()).collect::<Vec<_>>());
}

/// Gives a few bytes at a time, so that whatever matters is met at the border of two pieces.
struct Dribble<'a> {
    file: Cursor<&'a [u8]>,
    num_bytes: usize,
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let num_bytes = self.num_bytes.min(buffer.len());
        self.file.read(&mut buffer[..num_bytes])
    }
}

impl Seek for Dribble<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// One line of a messages file.
pub fn messages(data: &[u8]) {
    if let Ok(turns) = messages::parse_line(data, Path::new("media")) {
        assert!(!turns.is_empty());
    }
}

/// A list of records with their `prediction` beside them, by both rule sets.
pub fn evaluate(data: &[u8]) {
    let Ok(Value::Array(records)) = serde_json::from_slice(data) else { return };
    for rules in [Rules::Official, Rules::Strict] {
        let options = Options { rules, ..Options::default() };
        let Ok(report) = evaluate_records(&records, &records, &options) else { continue };
        check_report(&report, records.len());
    }
}

fn check_report(report: &Report, num_records: usize) {
    assert!(report.per_record.len() <= num_records);
    for (name, value) in report.headlines() {
        // Boxes of negative area may score anything finite by the official rules.
        let finite_only = name == "stg_miou" && report.rules == Rules::Official;
        assert!(
            value.is_finite() && (finite_only || (-1e-9..=1.0 + 1e-9).contains(&value)),
            "{name}: {value}"
        );
    }
    serde_json::to_string(report).expect("a report is JSON");
}
