//! A reward with a name and a normalisation: the leaf of a reward tree.

use std::{borrow::Cow, sync::Arc};

use medgrpo_datasets::TaskSample;

use super::normalise::{Identity, Normaliser, Pair};
use crate::{Response, Reward, RewardError, Score};

/// Names what a reward measures and puts it on the scale its [`Normaliser`] gives it.
///
/// The parts get the measured value under the component's name and, unless the normalisation is none, what became of it
/// under `NAME_normalised`. The raw metric stays the reward's own.
pub struct Component {
    name: &'static str,
    reward: Box<dyn Reward>,
    normaliser: Arc<dyn Normaliser>,
}

impl Component {
    /// A component whose values are put on a common scale.
    pub fn new(name: &'static str, reward: Box<dyn Reward>, normaliser: Arc<dyn Normaliser>) -> Self {
        Self { name, reward, normaliser }
    }

    /// A component whose values are used as they are.
    pub fn plain(name: &'static str, reward: impl Reward + 'static) -> Self {
        Self::new(name, Box::new(reward), Arc::new(Identity))
    }
}

impl Reward for Component {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let mut scores = self.reward.score_group(sample, responses)?;
        let measured: Vec<f32> = scores
            .iter()
            .filter_map(|score| match score {
                Score::Scored { value, .. } => Some(*value),
                Score::Unscored(_) => None,
            })
            .collect();
        let pair = Pair::new(&sample.source, sample.task, self.name);
        let normalised = self.normaliser.normalise(&pair, &measured)?;
        assert_eq!(normalised.len(), measured.len(), "a normaliser gives one number per value");
        let mut normalised = normalised.into_iter();
        for score in &mut scores {
            if let Score::Scored { value, parts, .. } = score {
                parts.push((Cow::Borrowed(self.name), *value));
                *value = normalised.next().expect("one per scored response");
                if !self.normaliser.is_identity() {
                    parts.push((Cow::Owned(format!("{}_normalised", self.name)), *value));
                }
            }
        }
        Ok(scores)
    }
}
