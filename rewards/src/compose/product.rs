//! Several rewards multiplied: a metric times a format factor.

use medgrpo_datasets::TaskSample;

use crate::{Response, Reward, RewardError, Score};

/// The product of rewards; the raw metric is the first one's. What one cannot score, the product cannot.
pub struct Product {
    factors: Vec<Box<dyn Reward>>,
}

impl Product {
    /// The product of `factors`, the metric first.
    pub fn new(factors: Vec<Box<dyn Reward>>) -> Self {
        assert!(!factors.is_empty(), "a product has a factor");
        Self { factors }
    }
}

impl Reward for Product {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let mut factors = self.factors.iter().map(|factor| factor.score_group(sample, responses));
        let mut product = factors.next().expect("a product has a factor")?;
        for factor in factors {
            for (score, other) in product.iter_mut().zip(factor?) {
                match (&mut *score, other) {
                    (Score::Scored { value, parts, .. }, Score::Scored { value: by, parts: more, .. }) => {
                        *value *= by;
                        parts.extend(more);
                    }
                    (Score::Scored { .. }, unscored) => *score = unscored,
                    (Score::Unscored(_), _) => {}
                }
            }
        }
        Ok(product)
    }
}
