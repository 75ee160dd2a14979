//! The laws that every reward keeps, checked over every reward in one place: add a new one to [`subjects`].

mod subjects;

use std::{collections::BTreeMap, ops::RangeInclusive};

use medgrpo_datasets::{Gold, TaskKind, TaskSample};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    cvs::CvsReward,
    dvc::DvcReward,
    nap::NapReward,
    rouge::RougeReward,
    skill::SkillReward,
    stg::StgReward,
    tag::TagReward,
    vqa::{AccuracyReward, CorrectLengthReward, ExtendedChainReward},
};
use crate::{Response, Reward, Score, answer::canonical_answer};
use subjects::subjects;

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

/// A reward, a sample for it, an honest half-right answer and attacks that must not beat that answer.
struct Subject {
    name: &'static str,
    reward: Box<dyn Reward>,
    sample: TaskSample,
    /// The right answer where it is not the gold in the benchmark's format.
    gold_text: Option<&'static str>,
    /// An answer that is half right, and what it must be worth; `None` where right and wrong are all there is.
    half_right: Option<(String, RangeInclusive<f32>)>,
    attacks: Vec<String>,
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
        let given = self.gold_text.map(str::to_owned);
        given.or_else(|| canonical_answer(&self.sample.gold)).expect("subjects have gold")
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
        let honest = match &subject.half_right {
            Some((text, worth)) => {
                let honest = subject.value(text);
                assert!(worth.contains(&honest), "{}: {honest} for {text}", subject.name);
                honest
            }
            None => 0.5,
        };
        assert!(!subject.attacks.is_empty(), "{}", subject.name);
        for attack in &subject.attacks {
            let (value, raw) = subject.score(attack);
            assert!(value < honest, "{}: {value} and not below {honest} for {attack:.80}", subject.name);
            assert!((0.0..=1.0).contains(&raw), "{}: {raw}", subject.name);
        }
    }
}

#[test]
fn the_order_of_a_list_does_not_matter() {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let mut shuffled = 0;
    for subject in subjects() {
        for _ in 0..10 {
            let mut gold = subject.sample.gold.clone();
            let text = match &mut gold {
                Gold::Spans(spans) => {
                    spans.shuffle(&mut rng);
                    canonical_answer(&gold)
                }
                Gold::Boxes(boxes) => {
                    boxes.shuffle(&mut rng);
                    canonical_answer(&gold)
                }
                Gold::Segments(events) => {
                    events.shuffle(&mut rng);
                    canonical_answer(&gold)
                }
                // The format asks for an order, the scores do not.
                Gold::CvsScores(_) | Gold::SkillScores(_) if subject.name.ends_with("in format") => break,
                Gold::CvsScores(_) | Gold::SkillScores(_) => canonical_answer(&gold).map(|text| {
                    let mut parts: Vec<&str> = text.split(", ").collect();
                    parts.shuffle(&mut rng);
                    parts.join("\n")
                }),
                Gold::Class(_) | Gold::Text(_) | Gold::Hidden => break,
            };
            let text = text.expect("subjects have gold");
            assert!((subject.value(&text) - 1.0).abs() < 1e-6, "{}, seed {SEED}: {text}", subject.name);
            shuffled += 1;
        }
    }
    assert!(shuffled >= 100, "only {shuffled} lists were shuffled");
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
        "0.0-9.0 seconds: the hook ",
        "\n9-31 seconds: ",
        "Two structures: 1, ",
        "cystic plate: 3",
        "Time and motion: 4/5, ",
        "Respect for tissue: 9/5",
        "B. ",
        "<think>",
        "</think><answer>",
        "</answer>",
    ];
    for subject in subjects() {
        for round in 0..200 {
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
        let half_right = subject.half_right.as_ref().map_or("x", |(text, _)| text.as_str());
        let texts = [gold.as_str(), "", half_right, &subject.attacks[0], &gold];
        let responses = texts.map(|text| Response { text, num_tokens: text.len(), truncated: true });
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
    let no_scores = || BTreeMap::from([("unheard of".to_owned(), 1)]);
    let cases: [(&dyn Reward, TaskKind, Gold); 9] = [
        (&TagReward::default(), TaskKind::Tag, Gold::Spans(vec![])),
        (&StgReward, TaskKind::Stg, Gold::Boxes(vec![])),
        (&DvcReward::default(), TaskKind::DenseCaptioning, Gold::Segments(vec![])),
        (&NapReward, TaskKind::NextAction, Gold::Class(" ".into())),
        (&CvsReward, TaskKind::Cvs, Gold::CvsScores(no_scores())),
        (&SkillReward::default(), TaskKind::SkillAssessment, Gold::SkillScores(no_scores())),
        (&RougeReward, TaskKind::VideoSummary, Gold::Text("\n".into())),
        (&AccuracyReward, TaskKind::OpenQuestion, Gold::Text(String::new())),
        (&CorrectLengthReward::default(), TaskKind::OpenQuestion, Gold::Text(String::new())),
    ];
    for (reward, task, empty) in cases {
        let response = Response { text: "1.0-2.0 seconds.", num_tokens: 1, truncated: false };
        let scores = reward
            .score_group(&sample(task, empty), &[response])
            .expect("an empty list is no failure of ours");
        assert!(matches!(scores[..], [Score::Unscored(_)]), "{task}");
        let error = reward.score_group(&sample(task, Gold::Hidden), &[response]).expect_err("hidden truth");
        assert!(error.to_string().contains("row 3 (CoPESD"), "{error}");
    }
}

/// The paper's negative result: these two are here to be measured against, not to be trained on unawares.
#[test]
fn length_rewards_break_the_laws_as_told() {
    let sample = sample(TaskKind::OpenQuestion, Gold::Text("yes".into()));
    let long = format!("<think>{}</think><answer>yes</answer>", "word ".repeat(300));
    let responses =
        ["yes", &long, ""].map(|text| Response { text, num_tokens: text.len() / 4, truncated: false });
    for reward in [&ExtendedChainReward::default() as &dyn Reward, &CorrectLengthReward::default()] {
        let scores = reward.score_group(&sample, &responses).expect("the sample suits the reward");
        let values: Vec<f32> = scores
            .iter()
            .map(|score| match score {
                Score::Scored { value, .. } => *value,
                Score::Unscored(reason) => panic!("{reason}"),
            })
            .collect();
        assert!(values[0] < 0.01 && values[1] == 1.0 && values[2] == 0.0, "{values:?}");
    }
}
