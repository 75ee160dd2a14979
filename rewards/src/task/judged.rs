//! What a judge says of a caption.
//!
//! The paper's caption reward is half the mean of five clinical dimensions, 1 to 5 each. How the mean is scaled is not
//! stated; here `(mean - 1) / 4`, so that the worst judgement is 0 and the best 1 (a logistic by quartiles does not see
//! the difference).

use std::sync::Arc;

use medgrpo_datasets::TaskSample;

use super::against_reference;
use crate::{
    Response, Reward, RewardError, Score,
    judge::{Judge, Judgement, Pair, Unjudged},
};

/// The judge's mean on a scale from 0 to 1. Empty text is worth 0 and not sent; what could not be judged is unscored.
///
/// # Errors
///
/// If judging cannot go on at all.
#[derive(Clone)]
pub struct JudgedReward {
    /// Who judges; a group is handed over in one call.
    pub judge: Arc<dyn Judge>,
}

/// Judgements of the texts, from 0 to 1, or why there is none.
pub(super) fn judge_all(
    judge: &dyn Judge,
    reference: &str,
    texts: &[&str],
) -> Result<Vec<Result<f64, String>>, RewardError> {
    let pairs: Vec<Pair<'_>> = texts.iter().map(|prediction| Pair { prediction, reference }).collect();
    let judgements = judge.judge(&pairs)?;
    assert_eq!(judgements.len(), pairs.len(), "a judge gives one result per pair");
    let scale = |judgement: Result<Judgement, Unjudged>| {
        let mean = judgement.map_err(|unjudged| unjudged.to_string())?.mean();
        if mean.is_finite() {
            Ok(((mean - 1.0) / 4.0).clamp(0.0, 1.0))
        } else {
            Err(format!("a score of {mean}"))
        }
    };
    Ok(judgements.into_iter().map(scale).collect())
}

impl Reward for JudgedReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        against_reference(sample, responses, |reference, texts| {
            let judged = judge_all(&*self.judge, reference, texts)?;
            let score = |judged: Result<f64, String>| match judged {
                Ok(value) => Score::metric(value as f32),
                Err(reason) => Score::Unscored(format!("not judged: {reason}")),
            };
            Ok(judged.into_iter().map(score).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use medgrpo_datasets::{Gold, TaskKind};

    use super::*;
    use crate::{judge::JudgeError, task::contract::sample};

    /// Gives what it was told to by the first letter, and keeps what it was asked.
    #[derive(Default)]
    struct Told {
        calls: Mutex<Vec<usize>>,
    }

    impl Judge for Told {
        fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
            self.calls.lock().unwrap().push(pairs.len());
            pairs
                .iter()
                .map(|pair| match pair.prediction {
                    "stop" => Err(JudgeError("the budget is spent".into())),
                    "late" => Ok(Err(Unjudged("no answer in 30 s".into()))),
                    "wild" => Ok(Ok(Judgement { scores: [9.0; 5] })),
                    _ => Ok(Ok(Judgement { scores: [1.0, 2.0, 3.0, 4.0, 5.0] })),
                })
                .collect()
        }

        fn name(&self) -> String {
            "told".into()
        }
    }

    #[test]
    fn a_group_is_one_call_and_failures_are_not_low_scores() {
        let judge = Arc::new(Told::default());
        let reward = JudgedReward { judge: judge.clone() };
        let sample = sample(TaskKind::VideoSummary, Gold::Text("The hook cuts.".into()));
        let score = |texts: &[&str]| {
            let responses: Vec<Response<'_>> =
                texts.iter().map(|text| Response { text, num_tokens: 1, truncated: false }).collect();
            reward.score_group(&sample, &responses)
        };
        let scores = score(&["", "fine", "late", "wild", " "]).unwrap();
        let expected = [
            Score::metric(0.0),
            Score::metric(0.5),
            Score::Unscored("not judged: no answer in 30 s".into()),
            Score::metric(1.0),
            Score::metric(0.0),
        ];
        assert_eq!(scores, expected);
        score(&["", "\n"]).unwrap();
        assert_eq!(*judge.calls.lock().unwrap(), [3], "blank texts are not sent");
        assert_eq!(score(&["stop"]).unwrap_err().to_string(), "the judge: the budget is spent");
    }
}
