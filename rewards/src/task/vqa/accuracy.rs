//! Whether the answer is right.

use medgrpo_datasets::{Content, Role, TaskSample};

use crate::{
    Response, Reward, RewardError, Score,
    parse::vqa::{Choice, answer_part, choice, fold, options},
    task::{all_unscored, reference},
};

/// 1 for the right answer, 0 for any other (`r_acc`; the comparison is ours).
///
/// Where the reference is the letter or the text of a choice that the question offers, the answer must choose the same;
/// otherwise it must be the same text, case, blanks and a full stop aside. Several answers in one are wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccuracyReward;

/// The words of the last question.
pub(crate) fn question(sample: &TaskSample) -> String {
    let Some(turn) = sample.prompt.iter().rev().find(|message| message.role == Role::User) else {
        return String::new();
    };
    let texts = turn.content.iter().filter_map(|piece| match piece {
        Content::Text(text) => Some(text.as_str()),
        Content::Image(_) | Content::Video(_) => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// What is right, and how to tell.
pub(super) struct Truth {
    reference: String,
    options: Vec<Choice>,
    letter: Option<char>,
}

impl Truth {
    /// `None` for a record with a blank reference.
    pub(super) fn of(sample: &TaskSample) -> Result<Option<Self>, RewardError> {
        let text = reference(sample)?;
        let options = options(&question(sample));
        let reference = fold(text);
        // Without options a single letter is still a choice; any other text is just text.
        let is_letter = reference.len() == 1;
        let letter = if options.is_empty() && !is_letter { None } else { choice(text, &options) };
        Ok((!reference.is_empty()).then_some(Self { reference, options, letter }))
    }

    pub(super) fn is_met(&self, text: &str) -> bool {
        let Some(answer) = answer_part(text) else { return false };
        fold(answer) == self.reference
            || (self.letter.is_some() && choice(answer, &self.options) == self.letter)
    }
}

impl Reward for AccuracyReward {
    fn score_group(
        &self,
        sample: &TaskSample,
        responses: &[Response<'_>],
    ) -> Result<Vec<Score>, RewardError> {
        let Some(truth) = Truth::of(sample)? else {
            return Ok(all_unscored(responses, "the record's reference text is empty"));
        };
        let score = |response: &Response<'_>| Score::metric(f32::from(u8::from(truth.is_met(response.text))));
        Ok(responses.iter().map(score).collect())
    }
}

#[cfg(test)]
mod tests {
    use medgrpo_datasets::{Gold, Message, TaskKind};

    use super::*;
    use crate::task::contract::sample;

    #[test]
    fn choices_and_texts() {
        let asked = "What is grasped? A. Liver\nB. Gallbladder\nC. Spleen";
        let cases = [
            (asked, "B", "B. gallbladder", true),
            (asked, "B", "<think>Not A. Liver.</think><answer>(b)</answer>", true),
            (asked, "Gallbladder", "B", true),
            (asked, "B. Gallbladder", "The gallbladder", false),
            (asked, "B", "A. liver B. gallbladder", false),
            (asked, "B", "<answer>A</answer><answer>B</answer>", false),
            ("Is there bleeding?", "Yes", "yes.", true),
            ("Is there bleeding?", "yes", "yes and no", false),
            ("Which letter?", "C", "(c)", true),
            ("Which vessel?", "a. carotis", "a", false),
        ];
        for (asked, gold, text, expected) in cases {
            let mut sample = sample(TaskKind::OpenQuestion, Gold::Text(gold.into()));
            sample.prompt =
                vec![Message { role: Role::User, content: vec![Content::Text(asked.to_owned())] }];
            let response = Response { text, num_tokens: 4, truncated: false };
            let scores = AccuracyReward.score_group(&sample, &[response]).unwrap();
            assert_eq!(scores, [Score::metric(f32::from(u8::from(expected)))], "{gold} and {text}");
        }
    }
}
