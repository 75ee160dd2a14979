//! A judge from recorded replies: the benchmark's own, or a transcript.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{
    Judge, JudgeError, Judgement, Pair, Unjudged,
    reply::{parse_official, parse_strict},
};

/// How replies are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyRules {
    /// As the official scorer reads them.
    Official,
    /// Five whole numbers from 1 to 5, or none.
    #[default]
    Strict,
}

/// A reply that was recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// What the model wrote.
    pub prediction: String,
    /// What it should say.
    pub ground_truth: String,
    /// What the judge said; null where all attempts failed.
    #[serde(alias = "reply")]
    pub response: Option<String>,
}

/// Answers with what was recorded.
#[derive(Clone, Debug)]
pub struct ReplayJudge {
    responses: HashMap<(String, String), Option<String>>,
    rules: ReplyRules,
}

impl ReplayJudge {
    /// A judge of these replies. Of several for one pair the last counts that is there: earlier ones were not satisfying.
    pub fn new(recorded: impl IntoIterator<Item = Recorded>, rules: ReplyRules) -> Self {
        let mut responses = HashMap::new();
        for Recorded { prediction, ground_truth, response } in recorded {
            let entry = responses.entry((prediction, ground_truth)).or_insert(None);
            if response.is_some() {
                *entry = response;
            }
        }
        Self { responses, rules }
    }

    /// A judge of the replies in a file's text: a JSON list, or an object a line as transcripts are.
    ///
    /// # Errors
    ///
    /// If the text is neither, with the line.
    pub fn from_text(text: &str, rules: ReplyRules) -> Result<Self, JudgeError> {
        let recorded: Result<Vec<Recorded>, _> = match text.trim_start().starts_with('[') {
            true => serde_json::from_str(text),
            false => serde_json::Deserializer::from_str(text).into_iter().collect(),
        };
        let recorded = recorded.map_err(|error| {
            JudgeError(format!(
                "recorded replies are a JSON list, or lines, of objects with prediction, ground_truth and response \
                 (null for none): {error}"
            ))
        })?;
        Ok(Self::new(recorded, rules))
    }
}

impl Judge for ReplayJudge {
    fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
        let judge = |pair: &Pair<'_>| {
            let response = self
                .responses
                .get(&(pair.prediction.to_owned(), pair.reference.to_owned()))
                .ok_or_else(|| Unjudged("no reply is recorded for this pair".into()))?
                .as_ref()
                .ok_or_else(|| Unjudged("the recorded judge gave no reply".into()))?;
            let scores = match self.rules {
                ReplyRules::Strict => parse_strict(response).map_err(|error| Unjudged(error.to_string()))?,
                ReplyRules::Official => parse_official(response)
                    .ok_or_else(|| Unjudged("the official rule finds no five scores in the reply".into()))?,
            };
            Ok(Judgement { scores })
        };
        Ok(pairs.iter().map(judge).collect())
    }

    fn name(&self) -> String {
        let rules = match self.rules {
            ReplyRules::Official => "official",
            ReplyRules::Strict => "strict",
        };
        format!("recorded replies, read by the {rules} rule")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"[
        {"task": "video summary", "prediction": "a", "ground_truth": "b", "response": "R2: 1\nR3: 2\nR8: 3\nR5: 4\nR4: 45"},
        {"prediction": "a", "ground_truth": "c", "response": "R2: 1\n**R3:** 2\nR8: 3\nR5: 4\nR4: 5"},
        {"prediction": "c", "ground_truth": "b", "response": null}
    ]"#;

    fn judge(text: &str, rules: ReplyRules) -> Vec<Result<[f64; 5], String>> {
        let pairs = [("a", "b"), ("a", "c"), ("c", "b"), ("b", "a")];
        let pairs = pairs.map(|(prediction, reference)| Pair { prediction, reference });
        let results = ReplayJudge::from_text(text, rules).unwrap().judge(&pairs).unwrap();
        results.into_iter().map(|result| result.map(|j| j.scores).map_err(|reason| reason.0)).collect()
    }

    #[test]
    fn both_rules() {
        let official = judge(TEXT, ReplyRules::Official);
        let strict = judge(TEXT, ReplyRules::Strict);
        assert_eq!(official[0], Ok([1.0, 2.0, 3.0, 4.0, 45.0]));
        assert!(strict[0].as_ref().unwrap_err().contains("R4 as \"45\""));
        assert!(official[1].as_ref().unwrap_err().contains("official rule"));
        assert_eq!(strict[1], Ok([1.0, 2.0, 3.0, 4.0, 5.0]));
        for results in [official, strict] {
            assert!(results[2].as_ref().unwrap_err().contains("gave no reply"));
            assert!(results[3].as_ref().unwrap_err().contains("no reply is recorded"));
        }
    }

    #[test]
    fn lines_of_a_transcript() {
        let text = "{\"prediction\": \"a\", \"ground_truth\": \"b\", \"reply\": \"x\", \"ask\": 1}\n\
                    {\"prediction\": \"a\", \"ground_truth\": \"b\", \"reply\": \"R2: 1 R3: 2 R8: 3 R5: 4 R4: 5\"}\n\
                    {\"prediction\": \"a\", \"ground_truth\": \"b\", \"reply\": null}\n";
        assert_eq!(judge(text, ReplyRules::Strict)[0], Ok([1.0, 2.0, 3.0, 4.0, 5.0]));
        let error = ReplayJudge::from_text("{\"prediction\": 3}", ReplyRules::Strict).unwrap_err().0;
        assert!(error.contains("ground_truth") && error.contains("line 1"), "{error}");
    }
}
