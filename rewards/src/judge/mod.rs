//! The judge of captions: five clinical dimensions, 1 to 5 each.
//!
//! MedGRPO's second idea (Su et al. 2026) pays captions by what a medical reader would say of them, because the cosine of
//! two sentences forgives a wrong instrument or vessel. [`Judge`] is what rewards and the leaderboard ask; who answers is
//! a choice: a chat model behind an OpenAI-compatible API, recorded replies, or a rule that needs no network.

pub mod budget;
pub mod cache;
mod flight;
pub mod ledger;
pub mod llm;
pub mod offline;
pub mod replay;
pub mod reply;
pub mod rubric;
mod transcript;

#[cfg(test)]
mod tests;

pub use budget::{Budget, Forecast, Prices, forecast};
pub use ledger::{FailureLimit, JudgeStats};
pub use llm::{LlmJudge, LlmJudgeConfig};
pub use offline::OfflineJudge;
pub use replay::{Recorded, ReplayJudge, ReplyRules};
pub use rubric::Wording;

use std::fmt;

/// What a judgement is made of, in the order of [`Judgement::scores`]; the codes are the benchmark's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// R2: whether terms are the ones a clinician would use.
    Terminology,
    /// R3: whether instruments and anatomy are named rightly.
    Anatomy,
    /// R8: whether it says something particular.
    Specificity,
    /// R5: whether the place in the procedure is understood.
    Context,
    /// R4: whether the action and the state of things are right.
    Action,
}

impl Aspect {
    /// All five, in the order of [`Judgement::scores`].
    pub const ALL: [Self; 5] =
        [Self::Terminology, Self::Anatomy, Self::Specificity, Self::Context, Self::Action];

    /// The benchmark's code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Terminology => "R2",
            Self::Anatomy => "R3",
            Self::Action => "R4",
            Self::Context => "R5",
            Self::Specificity => "R8",
        }
    }
}

/// Two captions to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair<'a> {
    /// What the model wrote.
    pub prediction: &'a str,
    /// What it should say.
    pub reference: &'a str,
}

/// Five scores for a caption, in the order of [`Aspect::ALL`].
///
/// From 1 to 5 each, except where a reply was read by the official scorer's rule, which checks no range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// One score an aspect.
    pub scores: [f64; 5],
}

impl Judgement {
    /// The mean of the five.
    pub fn mean(&self) -> f64 {
        self.scores.iter().sum::<f64>() / 5.0
    }
}

/// Why judging cannot go on at all: a refused key, an address nobody answers at, a budget that is spent, too many failures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JudgeError(pub String);

/// Why one pair has no judgement: not the caption's fault, so never a low score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unjudged(pub String);

impl fmt::Display for Unjudged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Compares captions with their references.
pub trait Judge: Send + Sync {
    /// One result a pair, in order. All pairs may be in flight at once.
    ///
    /// # Errors
    ///
    /// If judging cannot go on at all; a single pair that could not be judged is [`Unjudged`] instead.
    fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError>;

    /// Who judges, for every report: the model and where it runs, or that it is no LLM at all.
    fn name(&self) -> String;

    /// What it did so far; `None` for one that asks nobody.
    fn stats(&self) -> Option<JudgeStats> {
        None
    }
}
