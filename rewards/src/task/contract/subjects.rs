//! Every reward with a sample of its task, an honest answer and the attacks that its author could think of.

use std::{ops::RangeInclusive, sync::Arc};

use medgrpo_datasets::{Content, Gold, Message, Role, Segment, Span, TaskKind, TaskSample, TimedBox};

use super::{Subject, sample};
use crate::{
    Reward,
    compose::{Component, Product},
    embed::HashedWords,
    judge::{Judge, JudgeError, Judgement, Pair, Unjudged},
    metric::rouge_l::rouge_l,
    task::{
        cvs::CvsReward,
        dvc::DvcReward,
        format::FormatReward,
        judged::JudgedReward,
        nap::NapReward,
        rouge::RougeReward,
        similarity::SimilarityReward,
        skill::SkillReward,
        stg::StgReward,
        tag::TagReward,
        vqa::{AccuracyReward, SemanticAlignmentReward, TagsReward},
    },
};

/// Judges by shared words, every aspect alike.
struct RougeJudge;

impl Judge for RougeJudge {
    fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
        let judge =
            |pair: &Pair<'_>| Judgement { scores: [1.0 + 4.0 * rouge_l(pair.prediction, pair.reference); 5] };
        Ok(pairs.iter().map(|pair| Ok(judge(pair))).collect())
    }

    fn name(&self) -> String {
        "ROUGE-L, for tests".into()
    }
}

const NEAR: f32 = 0.01;

fn about(value: f32) -> RangeInclusive<f32> {
    value - NEAR..=value + NEAR
}

fn in_format(reward: Box<dyn Reward>, otherwise: f32) -> Box<dyn Reward> {
    let format = Component::plain("format", FormatReward { otherwise });
    Box::new(Product::new(vec![Box::new(Component::plain("metric", reward)), Box::new(format)]))
}

fn scores(
    names: impl Iterator<Item = &'static str>,
    values: &[i64],
) -> std::collections::BTreeMap<String, i64> {
    names.zip(values).map(|(name, score)| (name.to_owned(), *score)).collect()
}

/// All of them.
pub(super) fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    for otherwise in [0.0, 0.5, 1.0] {
        subjects.push(tag(otherwise));
        subjects.push(stg(otherwise));
    }
    subjects.extend(dvc());
    subjects.extend(closed());
    subjects.extend(captions());
    subjects.extend(vqa());
    subjects.extend(formats());
    subjects
}

fn tag_sample() -> TaskSample {
    let pairs = [(20.7, 35.7), (66.0, 66.0), (81.23, 90.08), (100.0, 110.0)];
    let spans = pairs.map(|(start_sec, end_sec)| Span { start_sec, end_sec });
    sample(TaskKind::Tag, Gold::Spans(spans.to_vec()))
}

fn tag(otherwise: f32) -> Subject {
    let all_intervals: Vec<String> = (0..60).map(|i| format!("{}.0-{}.0", i * 2, i * 2 + 4)).collect();
    let all_scales: Vec<String> = (1..60).map(|i| format!("0.0-{}.0", i * 2)).collect();
    Subject {
        name: "tag",
        reward: in_format(Box::<TagReward>::default(), otherwise),
        sample: tag_sample(),
        gold_text: None,
        half_right: Some(("20.7-35.7, 81.2-90.1 seconds.".into(), about(0.5))),
        attacks: vec![
            format!("{} seconds.", all_intervals.join(", ")),
            format!("{} seconds.", all_scales.join(", ")),
            "0.0-120.0 seconds.".into(),
            format!("{} seconds.", ["20.0-40.0"; 200].join(", ")),
            "Find the segments where suturing happens.".into(),
        ],
    }
}

fn stg_sample() -> TaskSample {
    let boxes = [(66.0, [117.54, 339.56, 626.88, 1005.62]), (74.0, [104.48, 313.44, 587.7, 1005.62])];
    let boxes = boxes.map(|(time_sec, box_xyxy): (f64, _)| TimedBox {
        key: time_sec.to_string(),
        time_sec,
        box_xyxy,
    });
    sample(TaskKind::Stg, Gold::Boxes(boxes.to_vec()))
}

fn stg(otherwise: f32) -> Subject {
    let at_times = |text: &str| [66.0, 74.0].map(|t| format!("{t:.1} seconds: {text}")).join(" ");
    let cell = |i: usize| {
        let (x, y) = (i % 8 * 240, i / 8 * 135);
        at_times(&format!("[{x}, {y}, {}, {}]", x + 240, y + 135))
    };
    let grid: Vec<String> = (0..64).map(cell).collect();
    Subject {
        name: "stg",
        reward: in_format(Box::new(StgReward), otherwise),
        sample: stg_sample(),
        gold_text: None,
        half_right: Some(("66.0 seconds: [117.54, 339.56, 626.88, 1005.62]".into(), about(0.5))),
        attacks: vec![
            at_times("[0, 0, 1920, 1080]"),
            grid.join(" "),
            at_times("[nan, inf, -inf, 1e308]"),
            "[[117, 339, 626, 1005]] [[104, 313, 587, 1005]]".into(),
            "What are the bounding boxes sampled every 8 seconds from 66 to 78 seconds?".into(),
        ],
    }
}

fn dvc_sample() -> TaskSample {
    let event = |start_sec, end_sec, caption: &str| Segment {
        span: Span { start_sec, end_sec },
        caption: caption.into(),
    };
    let events = vec![
        event(0.0, 31.04, "lift: The forceps lift the edge of the flap."),
        event(31.04, 52.5, "cut: The knife cuts the submucosa below it."),
        event(60.0, 60.0, "clip: A clip closes a vessel."),
        event(70.0, 118.0, "hold: The forceps hold the\nflap still."),
    ];
    sample(TaskKind::DenseCaptioning, Gold::Segments(events))
}

fn dvc() -> Vec<Subject> {
    let words = "forceps, knife, clip, flap, submucosa, vessel, lift, cut, hold, the edge of the flap";
    let windows = |length: usize, caption: &str| {
        let starts = (0..120).step_by(length);
        starts.map(|s| format!("{s}.0-{}.0 seconds: {caption}", s + length)).collect::<Vec<_>>().join("\n")
    };
    let with = |name, reward: Box<dyn Reward>| Subject {
        name,
        reward,
        sample: dvc_sample(),
        gold_text: None,
        // Two of four events: 2 · 2 / (2 + 4).
        half_right: Some((
            "0.0-31.0 seconds: lift: The forceps lift the edge of the flap.\n\
             31.0-52.5 seconds: cut: The knife cuts the submucosa below it."
                .into(),
            about(2.0 / 3.0),
        )),
        attacks: vec![
            windows(10, words),
            windows(30, words),
            windows(120, words),
            windows(5, "The forceps lift the edge of the flap."),
            vec!["0.0-31.0 seconds: forceps"; 100].join("\n"),
            "0.0-31.0 seconds: .\n31.0-52.5 seconds: .\n60.0-60.0 seconds: .\n70.0-118.0 seconds: .".into(),
            "Create an event list restricted to actions in [lift, cut, clip, hold].".into(),
        ],
    };
    let embedded = DvcReward { embedder: Some(Arc::new(HashedWords::default())), ..DvcReward::default() };
    vec![
        with("dvc", Box::<DvcReward>::default()),
        with("dvc, embedded", Box::new(embedded)),
        with("dvc, in format", in_format(Box::<DvcReward>::default(), 0.0)),
    ]
}

fn closed() -> Vec<Subject> {
    let classes = crate::parse::next_action::classes("CoPESD", "").expect("a known source").join(", ");
    let nap = Subject {
        name: "nap",
        reward: Box::new(NapReward),
        sample: sample(TaskKind::NextAction, Gold::Class("lift flap with forceps".into())),
        gold_text: None,
        half_right: None,
        attacks: vec![
            classes.clone(),
            classes.replace(", ", "\n"),
            ["lift flap with forceps"; 9].join(" "),
            "flap forceps".into(),
            "What comes next after the current video?".into(),
        ],
    };
    let cvs = |name, reward| Subject {
        name,
        reward,
        sample: sample(
            TaskKind::Cvs,
            Gold::CvsScores(scores(
                ["two_structures", "cystic_plate", "hepatocystic_triangle"].into_iter(),
                &[1, 2, 1],
            )),
        ),
        gold_text: None,
        half_right: Some(("Two structures: 1, Cystic plate: 2".into(), about(2.0 / 3.0))),
        attacks: vec![
            ["Two structures", "Cystic plate", "Hepatocystic triangle"]
                .map(|name| format!("{name}: 0, {name}: 1, {name}: 2"))
                .join(", "),
            "Two structures: 0, Cystic plate: 0, Hepatocystic triangle: 0".into(),
            "Two structures: 12, Cystic plate: 21, Hepatocystic triangle: 1.5".into(),
            "Two structures: , Cystic plate: , Hepatocystic triangle: ".into(),
            "Assign a score (0, 1, 2) to two structures, cystic plate, hepatocystic triangle.".into(),
        ],
    };
    let aspects = crate::parse::skill::ASPECTS;
    let gold = scores(aspects.into_iter(), &[5, 1, 5, 1, 4, 2]);
    let half = Gold::SkillScores(gold.iter().take(3).map(|(name, score)| (name.clone(), *score)).collect());
    let each = |scores: &[u8]| {
        let parts =
            aspects.iter().flat_map(|aspect| scores.iter().map(move |score| format!("{aspect}: {score}/5")));
        parts.collect::<Vec<_>>().join(", ")
    };
    let skill = |name, reward| Subject {
        name,
        reward,
        sample: sample(TaskKind::SkillAssessment, Gold::SkillScores(gold.clone())),
        gold_text: None,
        half_right: Some((crate::canonical_answer(&half).expect("scores"), about(0.5))),
        attacks: vec![
            each(&[1, 2, 3, 4, 5]),
            each(&[3]),
            each(&[55]),
            "3/5, 3/5, 3/5, 3/5, 3/5, 3/5".into(),
            "Score the following aspects from 1 to 5.".into(),
        ],
    };
    vec![
        nap,
        cvs("cvs", Box::new(CvsReward)),
        cvs("cvs, in format", in_format(Box::new(CvsReward), 0.0)),
        skill("skill", Box::<SkillReward>::default()),
        skill("skill, exact", Box::new(SkillReward { exact_weight: 1.0, ..SkillReward::default() })),
        skill("skill, in format", in_format(Box::<SkillReward>::default(), 0.0)),
    ]
}

fn captions() -> Vec<Subject> {
    let with = |name, task, reward, worth| {
        Subject {
        name,
        reward,
        sample: sample(
            task,
            Gold::Text("The grasper lifts the gallbladder while\n the hook dissects it from the liver bed.".into()),
        ),
        gold_text: None,
        half_right: Some(("The grasper lifts the gallbladder while".into(), worth)),
        attacks: vec![
            "grasper, hook, scissors, clip, gallbladder, cystic duct, cystic artery, liver, bed, omentum, smoke, cuts, \
             dissects, lifts, retracts, coagulates, bleeding, preparation"
                .into(),
            "gallbladder ".repeat(300),
            "the ".repeat(300),
            "Summarize the video in a short paragraph.".into(),
            "The surgeon uses an instrument on the tissue.".into(),
            "{}[]…".into(),
        ],
    }
    };
    let embedder = Arc::new(HashedWords::default());
    vec![
        with("rouge", TaskKind::VideoSummary, Box::new(RougeReward), 0.5..=0.65),
        with("similarity", TaskKind::RegionCaption, Box::new(SimilarityReward { embedder }), 0.55..=0.8),
        with(
            "judged",
            TaskKind::VideoSummary,
            Box::new(JudgedReward { judge: Arc::new(RougeJudge) }),
            0.5..=0.65,
        ),
    ]
}

fn vqa() -> Vec<Subject> {
    let asked = |gold: &str| {
        let question = "What is cut? A. cystic duct B. cystic artery C. liver";
        let content = vec![Content::Text(question.into())];
        let sample = sample(TaskKind::OpenQuestion, Gold::Text(gold.into()));
        TaskSample { prompt: vec![Message { role: Role::User, content }], ..sample }
    };
    let attacks = || -> Vec<String> {
        vec![
            "A, B, C".into(),
            "<answer>A</answer><answer>B</answer><answer>C</answer>".into(),
            "cystic duct, cystic artery, liver".into(),
            "What is cut? A. cystic duct B. cystic artery C. liver".into(),
            "B ".repeat(50),
        ]
    };
    let reasoned = "<think>It runs beside the duct.</think>\n<answer>B</answer>";
    let accuracy = |name, gold: &str, gold_text| Subject {
        name,
        reward: Box::new(AccuracyReward),
        sample: asked(gold),
        gold_text,
        half_right: None,
        attacks: attacks(),
    };
    let tags = Subject {
        name: "tags",
        reward: Box::new(TagsReward),
        sample: asked("B"),
        gold_text: Some(reasoned),
        half_right: None,
        attacks: attacks(),
    };
    let semantic = Subject {
        name: "semantic",
        reward: Box::new(SemanticAlignmentReward::new(Arc::new(RougeJudge))),
        sample: asked("It runs beside the duct, so it is the artery"),
        gold_text: Some("<think>It runs beside the duct,</think> <answer>so it is the artery</answer>"),
        half_right: None,
        attacks: attacks(),
    };
    vec![
        accuracy("accuracy, bare", "B", None),
        accuracy("accuracy, reasoned", "B", Some(reasoned)),
        accuracy("accuracy, text", "cystic artery", None),
        tags,
        semantic,
    ]
}

/// The format factor alone looks at no content, so its attacks are only texts out of format.
fn formats() -> Vec<Subject> {
    let golds = [tag_sample(), stg_sample(), dvc_sample()].into_iter().chain(
        closed()
            .into_iter()
            .filter(|subject| subject.name == "cvs" || subject.name == "skill")
            .map(|s| s.sample),
    );
    let subject = |sample| Subject {
        name: "format, in format",
        reward: Box::new(FormatReward { otherwise: 0.0 }),
        sample,
        gold_text: None,
        half_right: None,
        attacks: vec!["The answer is 1.0-2.0.".into(), "seconds: []".into(), "x: /5, y: 3".into()],
    };
    golds.map(subject).collect()
}
