//! The answers that are tried on a record.

use medgrpo_datasets::{TaskKind, TaskSample};
use serde::{Deserialize, Serialize};

use super::{
    attack::{self, Clip, KEYWORDS, Public},
    honest::half_right,
};
use crate::canonical_answer;

/// A kind of answer; there may be several texts of a kind, of which the best paid counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The truth in the benchmark's format.
    Gold,
    /// The truth with half of its spans, boxes, events, scores or words.
    HalfRight,
    /// No text.
    Empty,
    /// The truth with other text before or behind it.
    PaddedGold,
    /// The same for every record of a task: what looking at nothing earns by the distribution of the truth. No attack, but
    /// the number that results must be held against.
    Constant,
    /// A guess said many times.
    Repetition,
    /// The words of the trade, and those of the question.
    Keywords,
    /// Time windows that cover the clip.
    AllIntervals,
    /// The whole frame, and a grid of boxes, at all times.
    WholeFrame,
    /// The question.
    Echo,
    /// The format with nothing in it.
    FormatOnly,
    /// All classes, scores or choices at once.
    EveryClass,
}

impl Answer {
    /// The tricks: what must not beat an honest half.
    pub const ATTACKS: [Self; 7] = [
        Self::Repetition,
        Self::Keywords,
        Self::AllIntervals,
        Self::WholeFrame,
        Self::Echo,
        Self::FormatOnly,
        Self::EveryClass,
    ];

    /// Whether it is one of [`ATTACKS`](Self::ATTACKS).
    pub fn is_attack(self) -> bool {
        Self::ATTACKS.contains(&self)
    }

    /// Its name in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gold => "gold",
            Self::HalfRight => "half right",
            Self::Empty => "empty",
            Self::PaddedGold => "padded gold",
            Self::Constant => "constant",
            Self::Repetition => "repetition",
            Self::Keywords => "keywords",
            Self::AllIntervals => "all intervals",
            Self::WholeFrame => "whole frame",
            Self::Echo => "echo",
            Self::FormatOnly => "format only",
            Self::EveryClass => "every class",
        }
    }
}

/// All texts to try. Attacks see only what is public; one that happens to be the right answer is left out.
pub(super) fn texts(sample: &TaskSample, clip: Clip) -> Vec<(Answer, String)> {
    let mut texts = vec![(Answer::Empty, String::new())];
    let mut golds: Vec<String> = canonical_answer(&sample.gold).into_iter().collect();
    if sample.task == TaskKind::OpenQuestion {
        // An open question may ask for the bare answer or for one with its reasons.
        let reasoned = |gold: &String| format!("<think>It is {gold}.</think><answer>{gold}</answer>");
        golds.extend(golds.first().map(reasoned));
    }
    for gold in &golds {
        for padding in [gold.as_str(), "1.0-2.0 seconds.", KEYWORDS, &"word ".repeat(200)] {
            texts.push((Answer::PaddedGold, format!("{gold} {padding}")));
            texts.push((Answer::PaddedGold, format!("{padding}\n{gold}")));
        }
    }
    if let Some(half) = half_right(&sample.gold).and_then(|half| canonical_answer(&half)) {
        texts.push((Answer::HalfRight, half));
    }
    let public = Public::of(sample, clip);
    for answer in Answer::ATTACKS.into_iter().chain([Answer::Constant]) {
        let made = attack::texts(answer, &public).into_iter();
        texts.extend(
            made.filter(|text| answer == Answer::Constant || !golds.contains(text))
                .map(|text| (answer, text)),
        );
    }
    texts.extend(golds.into_iter().map(|gold| (Answer::Gold, gold)));
    texts
}
