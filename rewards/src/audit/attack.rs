//! Answers made without looking: from the question, the length of the clip and the words of the task, never the truth.

use medgrpo_datasets::{Content, Frames, TaskKind, TaskSample};

use super::Answer;
use crate::{
    parse::{cvs::COMPONENTS, next_action, skill::ASPECTS, vqa},
    task::vqa::accuracy::question,
};

/// The words of the trade.
pub(super) const KEYWORDS: &str = "grasper, hook, scissors, clip applier, irrigator, bipolar forceps, needle driver, knife, \
    trocar, gauze, thread, clip, specimen bag, gallbladder, cystic duct, cystic artery, cystic plate, liver, \
    hepatocystic triangle, omentum, peritoneum, mucosa, submucosa, vessel, skin, tissue, wound, vein, bleeding, smoke, \
    grasps, retracts, dissects, cuts, clips, coagulates, irrigates, sutures, ties, holds, preparation, incision, \
    dissection, hemostasis, closure, disinfection, injection, surgeon, instrument, procedure, the left, the right";

const SENTENCE: &str = "The surgeon uses an instrument on the tissue.";

/// How long and how large a clip is; anyone can see that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Its length in seconds.
    pub duration_sec: f64,
    /// Width and height of its frames in pixels.
    pub frame_size: [f64; 2],
}

impl Clip {
    /// Where nothing better is known.
    const UNKNOWN: Self = Self { duration_sec: 120.0, frame_size: [1920.0, 1080.0] };

    /// What the sample says of its first clip, without opening it; two minutes in full HD where it says nothing.
    pub fn of(sample: &TaskSample) -> Self {
        let mut contents = sample.prompt.iter().flat_map(|message| &message.content);
        let duration_sec = contents.find_map(|content| match content {
            Content::Video(video) => Some(match &video.frames {
                Frames::Files { paths, fps } => paths.len() as f64 / fps,
                Frames::Video { start_sec, end_sec, .. } => (*end_sec)? - start_sec.unwrap_or(0.0),
            }),
            Content::Text(_) | Content::Image(_) => None,
        });
        let duration_sec = duration_sec.filter(|sec| sec.is_finite() && *sec > 0.0);
        Self { duration_sec: duration_sec.unwrap_or(Self::UNKNOWN.duration_sec), ..Self::UNKNOWN }
    }
}

/// What is public of a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Public {
    /// What is asked for.
    pub task: TaskKind,
    /// The dataset.
    pub source: String,
    /// The words of the question.
    pub question: String,
    /// Sampling rate in frames per second.
    pub fps: f64,
    /// Length and size of the clip.
    pub clip: Clip,
}

/// At most this many windows or times in one answer.
const MAX_PIECES: usize = 400;
/// A guess is repeated up to about this length.
const MAX_REPEATED_BYTES: usize = 20_000;

impl Public {
    /// The sample without its truth.
    pub fn of(sample: &TaskSample, clip: Clip) -> Self {
        Self {
            task: sample.task,
            source: sample.source.to_string(),
            question: question(sample),
            fps: sample.fps,
            clip,
        }
    }

    /// Windows of a length, side by side over the clip.
    fn windows(&self, length_sec: f64) -> Vec<(f64, f64)> {
        let length_sec = length_sec.max(0.1);
        let end_sec = self.clip.duration_sec;
        let starts = (0..MAX_PIECES).map(|number| number as f64 * length_sec);
        let inside = starts.take_while(|start| *start < end_sec);
        inside.map(|start| (start, (start + length_sec).min(end_sec))).collect()
    }

    /// The times of the frames in seconds.
    fn times(&self) -> Vec<f64> {
        let fps = if self.fps > 0.0 && self.fps.is_finite() { self.fps } else { 1.0 };
        let times = (0..MAX_PIECES).map(|frame| frame as f64 / fps);
        times.take_while(|time| *time <= self.clip.duration_sec).collect()
    }

    /// The classes of a next-action question: the benchmark's, or those that the question lists in brackets.
    fn classes(&self) -> Vec<String> {
        if let Some(classes) = next_action::classes(&self.source, &self.question) {
            return classes.to_vec();
        }
        let listed = self.question.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let classes = listed.map_or("", |(list, _)| list).split(',').map(str::trim);
        classes.filter(|class| !class.is_empty()).map(str::to_owned).collect()
    }
}

fn spans(windows: &[(f64, f64)]) -> String {
    let spans: Vec<String> = windows.iter().map(|(start, end)| format!("{start:.1}-{end:.1}")).collect();
    format!("{} seconds.", spans.join(", "))
}

fn events(windows: &[(f64, f64)], caption: &str) -> String {
    let lines: Vec<String> =
        windows.iter().map(|(start, end)| format!("{start:.1}-{end:.1} seconds: {caption}")).collect();
    lines.join("\n")
}

fn boxes(times: &[f64], [x1, y1, x2, y2]: [f64; 4]) -> String {
    let entries: Vec<String> =
        times.iter().map(|time| format!("{time:.1} seconds: [{x1:.1}, {y1:.1}, {x2:.1}, {y2:.1}]")).collect();
    entries.join(" ")
}

/// `Name: score, …` for every name and every score.
fn scores(names: impl Iterator<Item = String>, scores: &[&str]) -> String {
    names
        .flat_map(|name| scores.iter().map(move |score| format!("{name}: {score}")))
        .collect::<Vec<_>>()
        .join(", ")
}

fn components() -> impl Iterator<Item = String> {
    COMPONENTS.iter().map(|(_, name)| {
        let (first, rest) = name.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    })
}

fn aspects() -> impl Iterator<Item = String> {
    ASPECTS.iter().map(|aspect| (*aspect).to_owned())
}

/// The texts of an attack or of the constant answer for a sample; none where it makes no sense for the task.
pub(super) fn texts(answer: Answer, public: &Public) -> Vec<String> {
    match answer {
        Answer::Constant => constant(public).into_iter().collect(),
        Answer::Repetition => {
            let joint = match public.task {
                TaskKind::Tag | TaskKind::Cvs | TaskKind::SkillAssessment => ", ",
                TaskKind::DenseCaptioning => "\n",
                _ => " ",
            };
            let again = |guess: String| {
                let times = (MAX_REPEATED_BYTES / guess.len().max(1)).clamp(2, 100);
                vec![guess.as_str(); times].join(joint)
            };
            constant(public).map(again).into_iter().collect()
        }
        Answer::Keywords => keywords(public),
        Answer::AllIntervals => all_intervals(public),
        Answer::WholeFrame => whole_frame(public),
        Answer::Echo => vec![public.question.clone()],
        Answer::FormatOnly => vec![format_only(public)],
        Answer::EveryClass => every_class(public),
        Answer::Gold | Answer::HalfRight | Answer::Empty | Answer::PaddedGold => Vec::new(),
    }
}

fn constant(public: &Public) -> Option<String> {
    let whole = [(0.0, public.clip.duration_sec)];
    let [width, height] = public.clip.frame_size;
    Some(match public.task {
        TaskKind::Tag => spans(&whole),
        TaskKind::Stg => boxes(&public.times(), [width / 4.0, height / 4.0, width * 0.75, height * 0.75]),
        TaskKind::DenseCaptioning => events(&whole, SENTENCE),
        TaskKind::NextAction => public.classes().first()?.clone(),
        TaskKind::Cvs => scores(components(), &["0"]),
        TaskKind::SkillAssessment => scores(aspects(), &["3/5"]),
        TaskKind::VideoSummary | TaskKind::RegionCaption => SENTENCE.to_owned(),
        TaskKind::OpenQuestion => {
            let has_options = !vqa::options(&public.question).is_empty();
            if has_options { "A" } else { "yes" }.to_owned()
        }
    })
}

fn keywords(public: &Public) -> Vec<String> {
    let stuffed = format!("{KEYWORDS}, {}", public.question);
    match public.task {
        TaskKind::DenseCaptioning => {
            let caption = stuffed.split_whitespace().collect::<Vec<_>>().join(" ");
            let lengths = [public.clip.duration_sec, 10.0];
            lengths.map(|length| events(&public.windows(length), &caption)).to_vec()
        }
        _ => vec![KEYWORDS.to_owned(), stuffed],
    }
}

fn all_intervals(public: &Public) -> Vec<String> {
    let whole = public.clip.duration_sec;
    // From a third of the clip on: one or two windows are a guess, not a cover.
    let covers = [2.0, 5.0, 10.0, whole / 8.0, whole / 3.0].map(|length| public.windows(length));
    let together: Vec<(f64, f64)> = covers.iter().flatten().copied().take(MAX_PIECES).collect();
    let growing: Vec<(f64, f64)> = (1..=40).map(|number| (0.0, whole * f64::from(number) / 40.0)).collect();
    let covers = covers.into_iter().chain([together, growing]);
    match public.task {
        TaskKind::Tag => covers.map(|windows| spans(&windows)).collect(),
        TaskKind::DenseCaptioning => covers.map(|windows| events(&windows, SENTENCE)).collect(),
        _ => Vec::new(),
    }
}

fn whole_frame(public: &Public) -> Vec<String> {
    if public.task != TaskKind::Stg {
        return Vec::new();
    }
    let (times, [width, height]) = (public.times(), public.clip.frame_size);
    let cell = |number: usize| {
        let (x, y) = ((number % 4) as f64 * width / 4.0, (number / 4) as f64 * height / 4.0);
        boxes(&times, [x, y, x + width / 4.0, y + height / 4.0])
    };
    let grid: Vec<String> = (0..16).map(cell).collect();
    vec![boxes(&times, [0.0, 0.0, width, height]), grid.join(" ")]
}

fn format_only(public: &Public) -> String {
    match public.task {
        TaskKind::Tag => spans(&[(0.0, 0.0)]),
        TaskKind::Stg => boxes(&public.times(), [0.0; 4]),
        TaskKind::DenseCaptioning => events(&[(0.0, public.clip.duration_sec)], "."),
        TaskKind::Cvs => scores(components(), &[""]),
        TaskKind::SkillAssessment => scores(aspects(), &["/5"]),
        TaskKind::NextAction | TaskKind::VideoSummary | TaskKind::RegionCaption => ".".to_owned(),
        TaskKind::OpenQuestion => "<think>.</think><answer>.</answer>".to_owned(),
    }
}

fn every_class(public: &Public) -> Vec<String> {
    match public.task {
        TaskKind::NextAction => {
            let classes = public.classes();
            // A list of one is no list of all.
            if classes.len() > 1 { vec![classes.join(", "), classes.join("\n")] } else { Vec::new() }
        }
        TaskKind::Cvs => vec![scores(components(), &["0", "1", "2"])],
        TaskKind::SkillAssessment => vec![scores(aspects(), &["1/5", "2/5", "3/5", "4/5", "5/5"])],
        TaskKind::OpenQuestion => {
            let options = vqa::options(&public.question);
            let letters: Vec<String> = options.iter().map(|option| option.letter.to_string()).collect();
            let texts: Vec<String> = options.into_iter().map(|option| option.text).collect();
            let tagged: Vec<String> =
                letters.iter().map(|letter| format!("<answer>{letter}</answer>")).collect();
            let lists = [letters.join(", "), texts.join(", "), tagged.join(" "), "yes, no".to_owned()];
            lists.into_iter().filter(|list| !list.is_empty()).collect()
        }
        _ => Vec::new(),
    }
}
