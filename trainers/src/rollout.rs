//! Token sequences to learn from, grouped by the prompt they answer.

use std::sync::Arc;

use medgrpo_datasets::TaskSample;
use medgrpo_model::processor::Encoded;
use medgrpo_rewards::Score;

use crate::advantage::{Advantage, Payment};

/// A sample ready for the model.
#[derive(Clone, Debug)]
pub struct PreparedSample {
    /// The sample.
    pub sample: Arc<TaskSample>,
    /// File and row, for messages.
    pub origin: String,
    /// Its prompt as the model sees it.
    pub prompt: Encoded,
    /// Tokens of the demonstrated answer up to and including the end of the turn; `None` for samples without one.
    pub answer_ids: Option<Vec<u32>>,
}

/// One answer to a prompt.
#[derive(Clone, Debug)]
pub struct RolloutCompletion {
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The same as text, special tokens removed.
    pub text: String,
    /// Whether it ended for lack of budget.
    pub truncated: bool,
    /// What the reward said; `None` for demonstrations, which are not scored.
    pub score: Option<Score>,
    /// Log-probability of each token as told by the engine that drew it, taken over the whole vocabulary at the temperature
    /// of the draw, as the policy's own are; `None` where that is the policy itself.
    pub sampling_log_probs: Option<Vec<f32>>,
    /// Its distance from the reference, `log policy - log reference` added up over its tokens before the update; `None` where no
    /// reward is reduced by it.
    pub kl: Option<f32>,
}

impl RolloutCompletion {
    /// The reward; `None` if it was not or could not be scored.
    pub fn reward(&self) -> Option<f32> {
        match self.score {
            Some(Score::Scored { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// What it was paid, in total and in parts, `beta` times its distance from the reference taken off the total; `None` if it
    /// was not or could not be scored.
    pub fn payment(&self, beta: f64) -> Option<Payment> {
        let Some(Score::Scored { value, parts, .. }) = &self.score else { return None };
        let parts = parts.iter().map(|(name, value)| (name.clone(), f64::from(*value))).collect();
        let penalty = self.kl.map_or(0.0, |kl| beta * f64::from(kl));
        Some(Payment { total: f64::from(*value) - penalty, parts })
    }
}

/// What `advantage` makes of what a batch of groups is paid, `beta` being that of [`RolloutCompletion::payment`]: one number
/// a completion.
pub fn advantages<'a>(
    advantage: &dyn Advantage,
    beta: f64,
    groups: impl IntoIterator<Item = &'a [RolloutCompletion]>,
) -> Vec<Vec<f32>> {
    let pay = |group: &[RolloutCompletion]| group.iter().map(|completion| completion.payment(beta)).collect();
    let payments: Vec<Vec<Option<Payment>>> = groups.into_iter().map(pay).collect();
    let found = advantage.advantages(&payments).into_iter();
    found.map(|group| group.into_iter().map(|advantage| advantage as f32).collect()).collect()
}

/// All answers to one prompt.
#[derive(Clone, Debug)]
pub struct RolloutGroup {
    /// The prompt.
    pub prepared: PreparedSample,
    /// The answers.
    pub completions: Vec<RolloutCompletion>,
}

impl RolloutGroup {
    /// Tokens of the prompt and of all answers, the prompt's once.
    pub fn num_tokens(&self) -> usize {
        let answers = self.completions.iter().map(|completion| completion.token_ids.len());
        self.prepared.prompt.input_ids.len() + answers.sum::<usize>()
    }
}
