//! The laws that every reward keeps, checked over every reward in one place: add a new one to [`subjects`].

use medgrpo_datasets::{Gold, Span, TaskKind, TaskSample, TimedBox};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{format::FormatReward, stg::StgReward, tag::TagReward};
use crate::{
    Response, Reward, Score,
    answer::canonical_answer,
    compose::{Component, Product},
};

const SEED: u64 = 20_250_705;

/// A sample with this gold and nothing to look at.
pub(crate) fn sample(task: TaskKind, gold: Gold) -> TaskSample {
    TaskSample {
        row: 3,
        id: "0.5$v$0$1".into(),
        source: "CoPESD".into(),
        task,
        qa_type: task.key().into(),
        video_id: "v".into(),
        prompt: vec![],
        answer: None,
        gold,
        fps: 0.5,
    }
}

fn spans(pairs: &[(f64, f64)]) -> Gold {
    Gold::Spans(pairs.iter().map(|&(start_sec, end_sec)| Span { start_sec, end_sec }).collect())
}

fn boxes(entries: &[(f64, [f64; 4])]) -> Gold {
    let entries = entries.iter().map(|&(time_sec, box_xyxy)| TimedBox {
        key: time_sec.to_string(),
        time_sec,
        box_xyxy,
    });
    Gold::Boxes(entries.collect())
}

/// A reward, a sample for it, an honest half-right answer and attacks that must not beat that answer.
struct Subject {
    name: &'static str,
    reward: Box<dyn Reward>,
    sample: TaskSample,
    half_right: &'static str,
    attacks: Vec<String>,
}

fn subjects() -> Vec<Subject> {
    let all_intervals: Vec<String> = (0..60).map(|i| format!("{}.0-{}.0", i * 2, i * 2 + 4)).collect();
    let all_scales: Vec<String> = (1..60).map(|i| format!("0.0-{}.0", i * 2)).collect();
    let times = [66.0, 74.0];
    let at_times = |text: &str| times.map(|t| format!("{t:.1} seconds: {text}")).join(" ");
    let grid: Vec<String> = (0..64)
        .map(|i| {
            at_times(&format!(
                "[{}, {}, {}, {}]",
                i % 8 * 240,
                i / 8 * 135,
                i % 8 * 240 + 240,
                i / 8 * 135 + 135
            ))
        })
        .collect();
    let mut subjects = Vec::new();
    for otherwise in [0.0, 0.5, 1.0] {
        let in_format = |name, reward: Box<dyn Reward>| -> Box<dyn Reward> {
            let format = Component::plain("format", FormatReward { otherwise });
            Box::new(Product::new(vec![Box::new(Component::plain(name, reward)), Box::new(format)]))
        };
        subjects.push(Subject {
            name: "tag",
            reward: in_format("iou", Box::<TagReward>::default()),
            sample: sample(
                TaskKind::Tag,
                spans(&[(20.7, 35.7), (66.0, 66.0), (81.23, 90.08), (100.0, 110.0)]),
            ),
            half_right: "20.7-35.7, 81.2-90.1 seconds.",
            attacks: vec![
                format!("{} seconds.", all_intervals.join(", ")),
                format!("{} seconds.", all_scales.join(", ")),
                "0.0-120.0 seconds.".into(),
                format!("{} seconds.", ["20.0-40.0"; 200].join(", ")),
                "Find the segments where suturing happens.".into(),
            ],
        });
        subjects.push(Subject {
            name: "stg",
            reward: in_format("iou", Box::new(StgReward)),
            sample: sample(
                TaskKind::Stg,
                boxes(&[(66.0, [117.54, 339.56, 626.88, 1005.62]), (74.0, [104.48, 313.44, 587.7, 1005.62])]),
            ),
            half_right: "66.0 seconds: [117.54, 339.56, 626.88, 1005.62]",
            attacks: vec![
                at_times("[0, 0, 1920, 1080]"),
                grid.join(" "),
                at_times("[nan, inf, -inf, 1e308]"),
                "[[117, 339, 626, 1005]] [[104, 313, 587, 1005]]".into(),
                "What are the bounding boxes sampled every 8 seconds from 66 to 78 seconds?".into(),
            ],
        });
    }
    subjects
}

impl Subject {
    fn score(&self, text: &str) -> (f32, f32) {
        let response = Response { text, num_tokens: text.len(), truncated: false };
        let scores = self.reward.score_group(&self.sample, &[response]).expect("the sample suits the reward");
        match scores.as_slice() {
            [Score::Scored { value, raw, parts }] => {
                assert!(
                    parts.iter().all(|(_, part)| part.is_finite()),
                    "{}: {parts:?} for {text:?}",
                    self.name
                );
                (*value, *raw)
            }
            other => panic!("{}: one score was due, not {other:?}", self.name),
        }
    }

    fn value(&self, text: &str) -> f32 {
        self.score(text).0
    }

    fn gold_text(&self) -> String {
        canonical_answer(&self.sample.gold).expect("subjects have gold")
    }
}

#[test]
fn gold_earns_the_maximum_and_nothing_the_minimum() {
    for subject in subjects() {
        assert!((subject.value(&subject.gold_text()) - 1.0).abs() < 1e-6, "{}", subject.name);
        assert_eq!(subject.score(""), (0.0, 0.0), "{}", subject.name);
    }
}

#[test]
fn padding_never_beats_gold() {
    for subject in subjects() {
        let gold = subject.gold_text();
        let best = subject.value(&gold);
        for padding in
            ["\n", " ", &gold, "1.0-2.0 seconds.", "66.0 seconds: [0, 0, 9, 9]", "word ".repeat(500).as_str()]
        {
            assert!(
                subject.value(&format!("{gold} {padding}")) <= best,
                "{}: {padding:?} behind",
                subject.name
            );
            assert!(
                subject.value(&format!("{padding} {gold}")) <= best,
                "{}: {padding:?} before",
                subject.name
            );
        }
    }
}

#[test]
fn attacks_do_not_beat_a_half_right_answer() {
    for subject in subjects() {
        let honest = subject.value(subject.half_right);
        assert!((honest - 0.5).abs() < 0.01, "{}: {honest}", subject.name);
        for attack in &subject.attacks {
            let (value, raw) = subject.score(attack);
            assert!(value < honest, "{}: {value} for {attack:.80}", subject.name);
            assert!((0.0..=1.0).contains(&raw), "{}: {raw}", subject.name);
        }
    }
}

#[test]
fn the_order_of_a_list_does_not_matter() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    for subject in subjects() {
        let mut gold = subject.sample.gold.clone();
        for _ in 0..10 {
            match &mut gold {
                Gold::Spans(spans) => spans.shuffle(&mut rng),
                Gold::Boxes(boxes) => boxes.shuffle(&mut rng),
                other => panic!("no list in {other:?}"),
            }
            let text = canonical_answer(&gold).expect("subjects have gold");
            assert!((subject.value(&text) - 1.0).abs() < 1e-6, "{}, seed {SEED}: {text}", subject.name);
        }
    }
}

#[test]
fn any_text_scores_in_range() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let pieces = [
        "66.0",
        "0",
        "9999999999999999999999",
        "-",
        " - ",
        " to ",
        ".",
        ",",
        ", ",
        "[",
        "]",
        "[[",
        "]]",
        " seconds",
        " seconds: ",
        " seconds.",
        "nan",
        "inf",
        "-1e308",
        "1e400",
        "٣",
        "０",
        ":",
        "\n",
        "\u{0}",
        "–",
        "𝟘",
        "é",
        "x",
        "20.7-55.7",
        "66.0 seconds: [1, 2, 3, 4]",
        "from ",
        "00:01:05",
    ];
    for subject in subjects() {
        for round in 0..2000 {
            let length = rng.random_range(0..40);
            let text: String = (0..length).map(|_| pieces[rng.random_range(0..pieces.len())]).collect();
            let (value, raw) = subject.score(&text);
            for number in [value, raw] {
                assert!(
                    number.is_finite() && (0.0..=1.0).contains(&number),
                    "{}, seed {SEED}, round {round}: {number} for {text:?}",
                    subject.name
                );
            }
        }
    }
}

#[test]
fn a_group_is_scored_as_its_members_are() {
    for subject in subjects() {
        let gold = subject.gold_text();
        let texts = [gold.as_str(), "", subject.half_right, &subject.attacks[0]];
        let responses = texts.map(|text| Response { text, num_tokens: 1, truncated: true });
        let scores =
            subject.reward.score_group(&subject.sample, &responses).expect("the sample suits the reward");
        let values: Vec<f32> = scores
            .iter()
            .map(|score| match score {
                Score::Scored { value, .. } => *value,
                Score::Unscored(reason) => panic!("{}: {reason}", subject.name),
            })
            .collect();
        assert_eq!(values, texts.map(|text| subject.value(text)), "{}", subject.name);
    }
}

#[test]
fn records_without_gold_are_unscored_or_refused() {
    for (reward, task, empty) in [
        (&TagReward::default() as &dyn Reward, TaskKind::Tag, Gold::Spans(vec![])),
        (&StgReward, TaskKind::Stg, Gold::Boxes(vec![])),
    ] {
        let response = Response { text: "1.0-2.0 seconds.", num_tokens: 1, truncated: false };
        let scores = reward
            .score_group(&sample(task, empty), &[response])
            .expect("an empty list is no failure of ours");
        assert!(matches!(scores[..], [Score::Unscored(_)]));
        let error = reward.score_group(&sample(task, Gold::Hidden), &[response]).expect_err("hidden truth");
        assert!(error.to_string().contains("row 3 (CoPESD"), "{error}");
    }
}
