//! The audit sees good rewards as good and tells bad ones apart.

use std::collections::BTreeMap;

use medgrpo_datasets::{Gold, Message, Role, Segment, Span, TimedBox};

use super::*;
use crate::{
    compose::{Component, PerTask, Product},
    task::{
        contract::sample,
        cvs::CvsReward,
        dvc::DvcReward,
        format::FormatReward,
        nap::NapReward,
        rouge::RougeReward,
        skill::SkillReward,
        stg::StgReward,
        tag::TagReward,
        vqa::{AccuracyReward, ExtendedChainReward},
    },
};

fn asked(task: TaskKind, gold: Gold, question: &str) -> TaskSample {
    let content = vec![medgrpo_datasets::Content::Text(question.into())];
    TaskSample { prompt: vec![Message { role: Role::User, content }], ..sample(task, gold) }
}

fn samples() -> Vec<TaskSample> {
    let span = |start_sec, end_sec| Span { start_sec, end_sec };
    let timed = |time_sec: f64| TimedBox {
        key: time_sec.to_string(),
        time_sec,
        box_xyxy: [117.5, 339.5, 626.0, 1005.0],
    };
    let event = |start_sec, end_sec, caption: &str| Segment {
        span: span(start_sec, end_sec),
        caption: caption.into(),
    };
    let scores = |names: &[&str], score: i64| -> BTreeMap<String, i64> {
        names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), score + (i % 2) as i64)).collect()
    };
    let caption = "The grasper lifts the gallbladder while the hook dissects it from the liver bed.";
    vec![
        asked(
            TaskKind::Tag,
            Gold::Spans(vec![span(20.7, 35.7), span(81.2, 90.1), span(100.0, 110.0)]),
            "Possible actions include: cutting, tying. When does tying happen?",
        ),
        asked(
            TaskKind::Stg,
            Gold::Boxes(vec![timed(66.0), timed(74.0)]),
            "What are the bounding boxes of the forceps sampled every 8 seconds from 66 to 78 seconds?",
        ),
        asked(
            TaskKind::DenseCaptioning,
            Gold::Segments(vec![
                event(0.0, 31.0, "the forceps lift the edge of the mucosal flap"),
                event(31.0, 52.5, "the knife cuts the submucosa below the flap"),
                event(70.0, 118.0, "the forceps hold the flap still"),
            ]),
            "Create an event list restricted to actions in [lift, cut, hold].",
        ),
        asked(
            TaskKind::NextAction,
            Gold::Class("lift flap with forceps".into()),
            "What comes next after the current video?",
        ),
        asked(
            TaskKind::Cvs,
            Gold::CvsScores(scores(&["two_structures", "cystic_plate", "hepatocystic_triangle"], 1)),
            "Assign a score (0, 1, 2) to each.",
        ),
        asked(
            TaskKind::SkillAssessment,
            Gold::SkillScores(scores(&crate::parse::skill::ASPECTS, 4)),
            "Score the following aspects from 1 to 5.",
        ),
        asked(
            TaskKind::VideoSummary,
            Gold::Text(caption.into()),
            "Summarize the video in a short paragraph.",
        ),
        asked(
            TaskKind::RegionCaption,
            Gold::Text("The hook cuts the cystic artery close to the clip.".into()),
            "Describe the activity of the object inside the bounding box.",
        ),
        asked(
            TaskKind::OpenQuestion,
            Gold::Text("B".into()),
            "What is cut? A. liver B. gallbladder C. spleen",
        ),
    ]
}

fn honest() -> PerTask {
    let in_format = |reward: Box<dyn Reward>| {
        Product::new(vec![
            Box::new(Component::plain("match", reward)),
            Box::new(Component::plain("format", FormatReward { otherwise: 0.5 })),
        ])
    };
    PerTask::new()
        .with(TaskKind::Tag, in_format(Box::<TagReward>::default()))
        .with(TaskKind::Stg, in_format(Box::new(StgReward)))
        .with(TaskKind::DenseCaptioning, in_format(Box::<DvcReward>::default()))
        .with(TaskKind::Cvs, in_format(Box::new(CvsReward)))
        .with(TaskKind::SkillAssessment, in_format(Box::<SkillReward>::default()))
        .with(TaskKind::NextAction, NapReward)
        .with(TaskKind::VideoSummary, RougeReward)
        .with(TaskKind::RegionCaption, RougeReward)
        .with(TaskKind::OpenQuestion, AccuracyReward)
}

fn audit(reward: &dyn Reward, samples: &[TaskSample]) -> Audit {
    let mut auditor = Auditor::new(reward, Limits::default());
    for (row, sample) in samples.iter().enumerate() {
        auditor.add(&format!("row {row}"), sample, Clip::of(sample)).unwrap();
    }
    auditor.finish()
}

#[test]
fn the_rewards_of_this_crate_pass() {
    let audit = audit(&honest(), &samples());
    assert_eq!((audit.records, audit.unscored.len()), (9, 0));
    assert_eq!(audit.findings, [], "{}", audit.to_markdown());
    let of = |task, answer| {
        let is_it = |row: &&Row| row.task == task && row.answer == answer && row.component == "reward";
        audit.rows.iter().find(is_it).map(|row| row.mean)
    };
    assert_eq!(of(TaskKind::Tag, Answer::Gold), Some(1.0));
    assert_eq!(of(TaskKind::Stg, Answer::HalfRight), Some(0.5));
    assert_eq!(of(TaskKind::NextAction, Answer::HalfRight), None);
    for (task, num_attacks) in
        [(TaskKind::Tag, 5), (TaskKind::Stg, 5), (TaskKind::Cvs, 5), (TaskKind::NextAction, 5)]
    {
        let tried = Answer::ATTACKS.into_iter().filter(|attack| of(task, *attack).is_some()).count();
        assert_eq!(tried, num_attacks, "{task}");
    }
}

#[test]
fn the_table_reads_so() {
    let audit = audit(&honest(), &samples()[3..5]);
    let table = audit.to_markdown();
    assert!(table.contains("### nap, 1 records"), "{table}");
    assert!(
        table.contains("| answer | reward | max | beats half right | metric | match | format |"),
        "{table}"
    );
    assert!(table.contains("| gold | 1.000 | 1.000 |  | 1.000 | 1.000 | 1.000 |"), "{table}");
    assert!(table.contains("| every class | 0.000 | 0.000 | 0 % | 0.000 | 0.000 | 0.500 |"), "{table}");
}

/// Pays the share of the reference's words that occur anywhere: the recall-only reward that word lists win.
struct RecallOnly;

impl Reward for RecallOnly {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Gold::Text(reference) = &sample.gold else { panic!("captions only") };
        let words: Vec<&str> = reference.split_whitespace().collect();
        let hits = |text: &str| words.iter().filter(|word| text.contains(**word)).count();
        Ok(responses.iter().map(|r| Score::metric(hits(r.text) as f32 / words.len() as f32)).collect())
    }
}

/// Pays nothing for gold that is not alone, something for silence, and now and then no number at all.
struct Broken;

impl Reward for Broken {
    fn score_group(
        &self,
        _sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let value = |text: &str| match text.len() {
            0 => 0.8,
            1..=20 => f32::NAN,
            _ => 0.3,
        };
        Ok(responses.iter().map(|r| Score::metric(value(r.text))).collect())
    }
}

#[test]
fn a_reward_that_word_lists_win_is_found_out() {
    let caption = "The hook, the grasper, the liver and the gallbladder";
    let sample =
        asked(TaskKind::VideoSummary, Gold::Text(caption.into()), "Summarize The video and the liver");
    let audit = audit(&RecallOnly, std::slice::from_ref(&sample));
    let violations: Vec<_> = audit.violations().map(|finding| (finding.law, finding.answer)).collect();
    assert_eq!(violations, [(Law::AttackIsPoor, Answer::Keywords)], "{}", audit.to_markdown());
    let row = audit.rows.iter().find(|row| row.answer == Answer::Keywords).unwrap();
    assert_eq!(row.beaten_share, Some(1.0));
}

#[test]
fn what_pays_seldom_is_told_without_counting() {
    let caption = "The hook, the grasper, the liver and the gallbladder";
    let lucky =
        asked(TaskKind::VideoSummary, Gold::Text(caption.into()), "Summarize The video and the liver");
    let other =
        asked(TaskKind::VideoSummary, Gold::Text("Nobody does anything whatsoever here".into()), "Summarize");
    let mut samples = vec![other; 20];
    samples.push(lucky);
    let audit = audit(&RecallOnly, &samples);
    assert_eq!(audit.findings.len(), 1, "{:?}", audit.findings);
    assert_eq!(audit.violations().count(), 0);
    assert_eq!(audit.findings[0].origin, "row 20");
}

#[test]
fn broken_and_length_rewards_are_found_out() {
    let samples = samples();
    let laws: BTreeSet<Law> = audit(&Broken, &samples).violations().map(|finding| finding.law).collect();
    let expected = [Law::GoldIsBest, Law::GoldIsWhole, Law::EmptyIsWorst, Law::Finite];
    assert_eq!(laws, BTreeSet::from(expected));
    let audit = audit(&ExtendedChainReward::default(), &samples[8..]);
    let laws: BTreeSet<Law> = audit.violations().map(|finding| finding.law).collect();
    assert!(laws.contains(&Law::GoldIsBest) && laws.contains(&Law::AttackIsPoor), "{laws:?}");
}

#[test]
fn what_cannot_be_scored_is_told() {
    let sample = sample(TaskKind::Tag, Gold::Spans(vec![]));
    let audit = audit(&honest(), &[sample]);
    assert_eq!(audit.unscored.len(), 1);
    assert_eq!((audit.rows.len(), audit.findings.len()), (0, 0));
}
