//! What judging costs: counted as it happens, bounded, and told beforehand.

use serde::{Deserialize, Serialize};

use super::{JudgeError, Pair, rubric::Wording};
use crate::chat::estimate_tokens;

/// What the server's owner charges, in any currency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// For a million tokens of prompts.
    pub prompt_per_million: f64,
    /// For a million tokens of replies.
    pub completion_per_million: f64,
}

impl Prices {
    /// The price of so many tokens.
    pub fn of(&self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        (self.prompt_per_million * prompt_tokens as f64
            + self.completion_per_million * completion_tokens as f64)
            / 1e6
    }
}

/// What may be spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// `None` where nothing is charged; then nothing is counted as spent.
    pub prices: Option<Prices>,
    /// The judge stops when so much is spent, by one process since its start. Requests that are on their way when the
    /// limit is reached are still paid for: as many as are allowed at once.
    pub max_spend: Option<f64>,
}

impl Budget {
    pub(super) fn check(&self) -> Result<(), JudgeError> {
        let price = |price: f64| price >= 0.0 && price.is_finite();
        if !self.prices.is_none_or(|p| price(p.prompt_per_million) && price(p.completion_per_million)) {
            return Err(JudgeError("prices per million tokens are numbers from 0 on".into()));
        }
        match (self.max_spend, self.prices) {
            (Some(limit), _) if !(limit > 0.0 && limit.is_finite()) => {
                Err(JudgeError(format!("max_spend is {limit}: it should be above 0, or left out")))
            }
            (Some(_), None) => Err(JudgeError(
                "max_spend needs the prices per million prompt and completion tokens to be known".into(),
            )),
            _ => Ok(()),
        }
    }

    /// The error once so much is spent.
    pub(super) fn exhausted(&self, spend: f64) -> Option<JudgeError> {
        let limit = self.max_spend.filter(|&limit| spend >= limit)?;
        Some(JudgeError(format!(
            "the spend limit of {limit} is reached: {spend:.4} were spent. Raise max_spend to go on; judgements that \
             are in the cache are not paid for again"
        )))
    }
}

/// What a number of judgements is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// How many.
    pub num_judgements: u64,
    /// Tokens of all prompts.
    pub prompt_tokens: u64,
    /// Tokens of all replies.
    pub completion_tokens: u64,
    /// `None` where no prices are known.
    pub spend: Option<f64>,
}

/// Tokens of five lines such as `R2: 4`.
const TOKENS_PER_REPLY: u64 = 30;

/// What so many judgements take if nothing is in the cache and every reply is as asked for.
///
/// `caption_tokens` is the mean of the generated and the reference description together.
pub fn forecast(
    num_judgements: u64,
    caption_tokens: u64,
    wording: Wording,
    prices: Option<Prices>,
) -> Forecast {
    let empty = wording.prompt(Pair { prediction: "", reference: "" }, usize::MAX);
    let prompt_tokens = num_judgements * (estimate_tokens(&empty) + caption_tokens);
    let completion_tokens = num_judgements * TOKENS_PER_REPLY;
    let spend = prices.map(|prices| prices.of(prompt_tokens, completion_tokens));
    Forecast { num_judgements, prompt_tokens, completion_tokens, spend }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { prompt_per_million: 2.0, completion_per_million: 8.0 };

    #[test]
    fn money_by_hand() {
        assert_eq!(PRICES.of(1_000_000, 500_000), 6.0);
        let one = forecast(1, 60, Wording::Absolute, Some(PRICES));
        assert!((400..1200).contains(&one.prompt_tokens), "{one:?}");
        let many = forecast(1000, 60, Wording::Absolute, Some(PRICES));
        assert_eq!(many.prompt_tokens, 1000 * one.prompt_tokens);
        assert!((many.spend.unwrap() - 1000.0 * one.spend.unwrap()).abs() < 1e-9);
        assert_eq!(forecast(9, 9, Wording::Comparative, None).spend, None);
    }

    #[test]
    fn a_limit_that_cannot_hold_is_refused() {
        let budget = Budget { prices: Some(PRICES), max_spend: Some(1.0) };
        assert_eq!(budget.check(), Ok(()));
        assert_eq!(Budget::default().check(), Ok(()));
        for wrong in [
            Budget { prices: None, ..budget },
            Budget { max_spend: Some(0.0), ..budget },
            Budget { max_spend: Some(f64::NAN), ..budget },
            Budget { prices: Some(Prices { prompt_per_million: -1.0, ..PRICES }), ..budget },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
        assert_eq!(budget.exhausted(0.99), None);
        assert!(budget.exhausted(1.0).unwrap().0.contains("limit of 1 is reached: 1.0000"));
    }
}
