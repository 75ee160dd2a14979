//! What a reward pays for the right answer, for nothing, for half an answer and for tricks: the library behind
//! `medgrpo rewards check`.
//!
//! A policy finds whatever pays. So before it looks, every record's own gold answer must be worth the most and an empty
//! text the least, and answers made without looking at the clip must be worth no more than an honest answer that is half
//! right. [`Auditor`] tries all of them on real records and keeps what each was paid.

pub mod answer;
pub mod attack;
pub mod honest;
pub mod rank;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use medgrpo_datasets::{TaskKind, TaskSample};
use serde::{Deserialize, Serialize};

pub use answer::Answer;
pub use attack::{Clip, Public};

use crate::{Response, Reward, RewardError, Score};

/// From where on a difference is a violation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Share of a task's records in which an attack may beat the half-right answer. By chance a trick is now and then a
    /// good answer (a box that fills the frame); such records are listed, and only a larger share is a violation.
    pub max_beaten_share: f64,
    /// The least raw metric of a gold answer. Below 1 for judges, whose praise for the reference itself may waver.
    pub min_gold_metric: f32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_beaten_share: 0.05, min_gold_metric: 0.999 }
    }
}

/// What every reward must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// No other answer is paid more than gold, padded gold neither.
    GoldIsBest,
    /// The raw metric of gold is its maximum, 1.
    GoldIsWhole,
    /// An empty text has the raw metric 0 and is paid less than gold, and no more than a half-right answer.
    EmptyIsWorst,
    /// An attack is paid no more than a half-right answer.
    AttackIsPoor,
    /// Every number is finite.
    Finite,
}

/// A law that did not hold for a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// File and row.
    pub origin: String,
    /// Its task.
    pub task: TaskKind,
    /// Which law.
    pub law: Law,
    /// The answer that was paid too much or too little.
    pub answer: Answer,
    /// How that answer starts.
    pub text: String,
    /// What it got.
    pub value: f32,
    /// What it was to be compared with.
    pub limit: f32,
    /// Whether it counts; attacks that seldom pay are told without counting.
    pub is_violation: bool,
}

/// A record of which some answer could not be scored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unscored {
    /// File and row.
    pub origin: String,
    /// Its task.
    pub task: TaskKind,
    /// Why.
    pub reason: String,
}

/// What one kind of answer was paid over the records of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The task.
    pub task: TaskKind,
    /// The answer.
    pub answer: Answer,
    /// `reward` is what training pays, `metric` the raw metric; the others are the reward's parts by name.
    pub component: String,
    /// Records in which the answer could be made and scored.
    pub records: usize,
    /// Mean over them.
    pub mean: f64,
    /// Highest of them.
    pub max: f32,
    /// Of an attack's reward: the share of records in which it beats the half-right answer.
    pub beaten_share: Option<f64>,
}

impl Row {
    /// Whether it is of the whole reward.
    pub fn is_reward(&self) -> bool {
        self.component == REWARD
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// From where on a finding counts.
    pub limits: Limits,
    /// Records tried.
    pub records: usize,
    /// Records of which some answer could not be scored.
    pub unscored: Vec<Unscored>,
    /// The table, by task, answer and component.
    pub rows: Vec<Row>,
    /// The laws that did not hold, in the order of the records.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// The findings that count.
    pub fn violations(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_violation)
    }
}

/// The component that stands for the whole reward.
const REWARD: &str = "reward";
/// The component that stands for the raw metric.
const METRIC: &str = "metric";
/// Differences below it are rounding.
const MARGIN: f32 = 1e-4;
/// Characters of an answer that a finding shows.
const MAX_SHOWN: usize = 200;

#[derive(Default)]
struct Sum {
    records: usize,
    total: f64,
    max: f32,
}

impl Sum {
    fn add(&mut self, value: f32) {
        self.max = if self.records == 0 { value } else { self.max.max(value) };
        self.records += 1;
        self.total += f64::from(value);
    }
}

/// Tries answers on one record after another.
pub struct Auditor<'a> {
    reward: &'a dyn Reward,
    limits: Limits,
    records: usize,
    unscored: Vec<Unscored>,
    sums: BTreeMap<(TaskKind, Answer, String), Sum>,
    /// Components in the order in which they first came.
    components: Vec<String>,
    findings: Vec<Finding>,
}

/// What the best paid text of a kind of answer got.
struct Paid<'t> {
    answer: Answer,
    text: &'t str,
    value: f32,
    raw: f32,
    parts: Vec<(String, f32)>,
}

impl<'a> Auditor<'a> {
    /// Nothing tried yet.
    pub fn new(reward: &'a dyn Reward, limits: Limits) -> Self {
        Self {
            reward,
            limits,
            records: 0,
            unscored: Vec::new(),
            sums: BTreeMap::new(),
            components: vec![REWARD.to_owned(), METRIC.to_owned()],
            findings: Vec::new(),
        }
    }

    /// Tries every answer on a record, in one group. `origin` names it in findings. Lengths in tokens are estimated, four
    /// bytes each.
    ///
    /// # Errors
    ///
    /// If the reward itself fails, e.g. because the record holds no truth.
    pub fn add(&mut self, origin: &str, sample: &TaskSample, clip: Clip) -> Result<(), RewardError> {
        let texts = answer::texts(sample, clip);
        let responses: Vec<Response<'_>> = texts
            .iter()
            .map(|(_, text)| Response { text, num_tokens: text.len().div_ceil(4), truncated: false })
            .collect();
        let scores = self.reward.score_group(sample, &responses)?;
        self.records += 1;
        let mut best: BTreeMap<Answer, Paid<'_>> = BTreeMap::new();
        let mut reason = None;
        for ((answer, text), score) in texts.iter().zip(scores) {
            let (value, raw, parts) = match score {
                Score::Scored { value, raw, parts } => (value, raw, parts),
                Score::Unscored(why) => {
                    reason = reason.or(Some(why));
                    continue;
                }
            };
            if !(value.is_finite() && raw.is_finite()) {
                self.find(origin, sample.task, Law::Finite, *answer, text, value, raw);
                continue;
            }
            let parts = parts.into_iter().map(|(name, part)| (name.into_owned(), part)).collect();
            let paid = Paid { answer: *answer, text, value, raw, parts };
            match best.get(answer) {
                Some(known) if known.value >= value => {}
                _ => {
                    best.insert(*answer, paid);
                }
            }
        }
        self.unscored.extend(reason.map(|reason| Unscored {
            origin: origin.to_owned(),
            task: sample.task,
            reason,
        }));
        for paid in best.values() {
            self.count(sample.task, paid);
        }
        self.judge(origin, sample.task, &best);
        Ok(())
    }

    fn count(&mut self, task: TaskKind, paid: &Paid<'_>) {
        let own = [(REWARD.to_owned(), paid.value), (METRIC.to_owned(), paid.raw)];
        for (component, value) in own.iter().chain(&paid.parts) {
            if !self.components.contains(component) {
                self.components.push(component.clone());
            }
            self.sums.entry((task, paid.answer, component.clone())).or_default().add(*value);
        }
    }

    /// Holds what a record's answers got against the laws.
    fn judge(&mut self, origin: &str, task: TaskKind, best: &BTreeMap<Answer, Paid<'_>>) {
        let (Some(gold), Some(empty)) = (best.get(&Answer::Gold), best.get(&Answer::Empty)) else { return };
        // Where an answer cannot be half right, half-way between nothing and gold takes its place.
        let half = best.get(&Answer::HalfRight).map_or((gold.value + empty.value) / 2.0, |paid| paid.value);
        if gold.raw < self.limits.min_gold_metric {
            let least = self.limits.min_gold_metric;
            self.find(origin, task, Law::GoldIsWhole, Answer::Gold, gold.text, gold.raw, least);
        }
        if empty.raw > MARGIN {
            self.find(origin, task, Law::EmptyIsWorst, Answer::Empty, "", empty.raw, 0.0);
        }
        if empty.value >= gold.value - MARGIN || empty.value > half + MARGIN {
            self.find(origin, task, Law::EmptyIsWorst, Answer::Empty, "", empty.value, half.min(gold.value));
        }
        for paid in best.values().filter(|paid| paid.value > gold.value + MARGIN) {
            self.find(origin, task, Law::GoldIsBest, paid.answer, paid.text, paid.value, gold.value);
        }
        let constant = best.get(&Answer::Constant).map_or(half, |paid| paid.value);
        for paid in best.values().filter(|paid| paid.answer.is_attack()) {
            // Saying a guess again and again must not pay more than saying it once.
            let limit = if paid.answer == Answer::Repetition { half.max(constant) } else { half };
            if paid.value > limit + MARGIN {
                self.find(origin, task, Law::AttackIsPoor, paid.answer, paid.text, paid.value, limit);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one finding")]
    fn find(
        &mut self,
        origin: &str,
        task: TaskKind,
        law: Law,
        answer: Answer,
        text: &str,
        value: f32,
        limit: f32,
    ) {
        let text = text.chars().take(MAX_SHOWN).collect();
        let origin = origin.to_owned();
        self.findings.push(Finding { origin, task, law, answer, text, value, limit, is_violation: true });
    }

    /// The table and what counts of the findings.
    pub fn finish(mut self) -> Audit {
        let mut beaten: BTreeMap<(TaskKind, Answer), BTreeSet<&str>> = BTreeMap::new();
        for finding in self.findings.iter().filter(|finding| finding.law == Law::AttackIsPoor) {
            beaten.entry((finding.task, finding.answer)).or_default().insert(&finding.origin);
        }
        let share = |task: TaskKind, answer: Answer| {
            let records = self.sums.get(&(task, answer, REWARD.to_owned())).map_or(0, |sum| sum.records);
            let beaten = beaten.get(&(task, answer)).map_or(0, BTreeSet::len);
            beaten as f64 / records.max(1) as f64
        };
        let mut rows = Vec::new();
        for ((task, answer, component), sum) in &self.sums {
            let is_attacks_reward = answer.is_attack() && component == REWARD;
            rows.push(Row {
                task: *task,
                answer: *answer,
                component: component.clone(),
                records: sum.records,
                mean: sum.total / sum.records as f64,
                max: sum.max,
                beaten_share: is_attacks_reward.then(|| share(*task, *answer)),
            });
        }
        let place = |component: &str| self.components.iter().position(|known| known == component);
        rows.sort_by_key(|row| (row.task, row.answer, place(&row.component)));
        let seldom: BTreeSet<(TaskKind, Answer)> = beaten
            .keys()
            .copied()
            .filter(|(task, answer)| share(*task, *answer) <= self.limits.max_beaten_share)
            .collect();
        for finding in &mut self.findings {
            if finding.law == Law::AttackIsPoor && seldom.contains(&(finding.task, finding.answer)) {
                finding.is_violation = false;
            }
        }
        Audit {
            limits: self.limits,
            records: self.records,
            unscored: self.unscored,
            rows,
            findings: self.findings,
        }
    }
}

#[cfg(test)]
mod tests;
