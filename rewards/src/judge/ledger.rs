//! What a judge did, and when it has failed too often to go on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{JudgeError, budget::Budget};
use crate::chat::ChatReply;

/// When failures are too many: a run without a judge would train on what is left, and nobody would notice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailureLimit {
    /// The judge stops when more than this share of the last requests failed, between 0 and 1.
    pub max_share: f64,
    /// Not before so many requests were made.
    pub min_requests: usize,
    /// How many of the last requests are looked at.
    pub window: usize,
}

impl Default for FailureLimit {
    /// More than half of the last 100, from 20 on.
    fn default() -> Self {
        Self { max_share: 0.5, min_requests: 20, window: 100 }
    }
}

impl FailureLimit {
    pub(super) fn check(&self) -> Result<(), JudgeError> {
        if !(0.0..=1.0).contains(&self.max_share) {
            return Err(JudgeError(format!(
                "the share of failures is {}: it lies between 0 and 1",
                self.max_share
            )));
        }
        if self.min_requests == 0 || self.window < self.min_requests {
            return Err(JudgeError(format!(
                "failures are looked at from {} requests on, among the last {}: the first should be at least 1, the \
                 second no smaller",
                self.min_requests, self.window
            )));
        }
        Ok(())
    }
}

/// Counts since the judge was made. Every pair is one of blank, hit, shared and missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct JudgeStats {
    /// Pairs that were to be judged.
    pub pairs: u64,
    /// Pairs with nothing to read on one side, which are not asked about.
    pub blank: u64,
    /// Judgements found on disk.
    pub cache_hits: u64,
    /// Pairs that were being asked about already, by this call or another.
    pub shared: u64,
    /// Pairs that were asked about.
    pub cache_misses: u64,
    /// Files in the cache that were damaged.
    pub corrupt_entries: u64,
    /// Requests that were answered or given up.
    pub requests: u64,
    /// HTTP requests, every try counted.
    pub tries: u64,
    /// Requests without an answer.
    pub failures: u64,
    /// Answers without a judgement.
    pub unparsable: u64,
    /// Pairs that were asked about and have no judgement.
    pub unjudged: u64,
    /// Tokens of prompts, as the server counts.
    pub prompt_tokens: u64,
    /// Tokens of replies.
    pub completion_tokens: u64,
    /// By the prices given; 0 without prices.
    pub spend: f64,
}

impl JudgeStats {
    /// What was done since `earlier`, under the names of a run's metrics. Requests are those of this process: a run that is
    /// resumed finds on disk what the killed one had asked.
    pub fn since(&self, earlier: &Self) -> [(&'static str, f64); 8] {
        let count = |now: u64, then: u64| now.saturating_sub(then) as f64;
        [
            ("judge/pairs", count(self.pairs, earlier.pairs)),
            ("judge/cache_hits", count(self.cache_hits, earlier.cache_hits)),
            ("judge/requests", count(self.requests, earlier.requests)),
            ("judge/failures", count(self.failures, earlier.failures)),
            ("judge/unparsable", count(self.unparsable, earlier.unparsable)),
            ("judge/unjudged", count(self.unjudged, earlier.unjudged)),
            (
                "judge/tokens",
                count(
                    self.prompt_tokens + self.completion_tokens,
                    earlier.prompt_tokens + earlier.completion_tokens,
                ),
            ),
            ("judge/spend", self.spend - earlier.spend),
        ]
    }
}

/// The books of one judge.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) stats: JudgeStats,
    /// Whether each of the last requests failed.
    recent: VecDeque<bool>,
    last_failure: String,
}

impl Ledger {
    /// Enters an answer with its tokens.
    pub(super) fn charge(&mut self, reply: &ChatReply, budget: &Budget) {
        self.stats.prompt_tokens += reply.prompt_tokens;
        self.stats.completion_tokens += reply.completion_tokens;
        if let Some(prices) = budget.prices {
            self.stats.spend += prices.of(reply.prompt_tokens, reply.completion_tokens);
        }
    }

    /// Enters how a request ended.
    pub(super) fn note(&mut self, failure: Option<&str>, limit: &FailureLimit) {
        self.stats.requests += 1;
        self.recent.push_back(failure.is_some());
        while self.recent.len() > limit.window {
            self.recent.pop_front();
        }
        if let Some(failure) = failure {
            failure.clone_into(&mut self.last_failure);
        }
    }

    /// Why to stop, if there is a reason.
    pub(super) fn verdict(&self, limit: &FailureLimit, budget: &Budget) -> Option<JudgeError> {
        let failed = self.recent.iter().filter(|&&failed| failed).count();
        let looked_at = self.recent.len();
        if looked_at >= limit.min_requests && failed as f64 > limit.max_share * looked_at as f64 {
            return Some(JudgeError(format!(
                "{failed} of the last {looked_at} requests to the judge failed, more than a share of {}. The last \
                 failure: {}. See that the server is well and its model follows the instruction; judgements that are \
                 in the cache are kept",
                limit.max_share, self.last_failure
            )));
        }
        budget.exhausted(self.stats.spend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_requests_decide() {
        let limit = FailureLimit { max_share: 0.5, min_requests: 4, window: 6 };
        let mut ledger = Ledger::default();
        let mut after = |failed: bool| {
            ledger.note(failed.then_some("no answer"), &limit);
            ledger.verdict(&limit, &Budget::default())
        };
        let verdicts: Vec<bool> = [true, true, true, false, false, false, false, true, true, true]
            .into_iter()
            .map(|failed| after(failed).is_some())
            .collect();
        //   3 of 3 are too few; 3 of 4; 3 of 5; 3 of 6; 2; 2; 2 and then 3 of 6 last ones.
        assert_eq!(verdicts, [false, false, false, true, true, false, false, false, false, false]);
        let error = after(true).expect("4 of 6").0;
        assert!(error.contains("4 of the last 6") && error.contains("no answer"), "{error}");
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        assert_eq!(FailureLimit::default().check(), Ok(()));
        let limit = FailureLimit::default();
        for wrong in [
            FailureLimit { max_share: 1.5, ..limit },
            FailureLimit { max_share: f64::NAN, ..limit },
            FailureLimit { min_requests: 0, ..limit },
            FailureLimit { window: 5, ..limit },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
