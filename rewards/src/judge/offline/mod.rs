//! A judge without a network or a model: agreement of medical terms, words and word order. Not the LLM judge.
//!
//! For tests, the quickstart, and runs that are to be repeated to the bit. It cannot know that a sentence is wrong in a
//! way that its words do not show, so its numbers are not comparable with the benchmark's, and its name says so.

mod lexicon;

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use lexicon::{Category, Term};

use super::{Judge, JudgeError, Judgement, Pair, Unjudged};
use crate::{
    embed::{TextEmbedder, cosine},
    metric::rouge_l::rouge_l,
};

/// Weight of the likeness of the whole texts beside the agreement of terms.
const WEIGHT_OF_WHOLE: f64 = 0.2;
/// The same for the context, which is more than its terms.
const WEIGHT_OF_WHOLE_CONTEXT: f64 = 0.5;

/// Descriptions of more than so many times the reference's words are scaled down by what is too much.
const LENGTH_ALLOWANCE: f64 = 2.0;

/// Judges by rules, as follows, all on a scale from 0 to 1 that becomes 1 to 5 in the end.
///
/// *Agreement* of two lists of terms or words is their F1 times the precision. A list that hedges between `k` terms of which
/// one is right earns `2 / (k (k + 1))`, less than the `1 / k` that a guess earns in the mean, so naming everything does not
/// pay; neither does repetition, since precision counts every mention.
/// *Likeness* of whole texts is the squared cosine of their embeddings, or ROUGE-L without an embedder.
///
/// | aspect | agreement of | and likeness |
/// |---|---|---|
/// | terminology | all terms of the lexicon | 20 % |
/// | anatomy | instruments and anatomy | 20 % |
/// | specificity | all words that carry content | 20 % |
/// | context | procedures and phases | 50 % |
/// | action | actions and states | 20 % |
///
/// Where the reference has no term of a kind, the words that carry content stand in, and terms of that kind count as wrong.
/// Text beyond twice the reference's length scales everything down. The reference itself gets 5 throughout; a text without
/// words gets 1.
#[derive(Clone)]
pub struct OfflineJudge {
    embedder: Option<Arc<dyn TextEmbedder>>,
}

impl fmt::Debug for OfflineJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfflineJudge").field("embedder", &self.embedder.is_some()).finish()
    }
}

impl OfflineJudge {
    /// A judge by these embeddings, or by ROUGE-L where there are none.
    pub fn new(embedder: Option<Arc<dyn TextEmbedder>>) -> Self {
        Self { embedder }
    }

    fn likeness(&self, pair: Pair<'_>) -> f64 {
        if pair.prediction.trim() == pair.reference.trim() {
            return 1.0;
        }
        let cosine = self.embedder.as_ref().and_then(|embedder| {
            let (a, b) = (embedder.embed(pair.prediction)?, embedder.embed(pair.reference)?);
            (a.len() == b.len()).then(|| cosine(&a, &b))
        });
        match cosine.filter(|cosine| cosine.is_finite()) {
            // Squared: sentences of one field have cosines near one half whatever they say.
            Some(cosine) => cosine.clamp(0.0, 1.0).powi(2),
            None => rouge_l(pair.prediction, pair.reference),
        }
    }

    fn score(&self, pair: Pair<'_>) -> Result<Judgement, Unjudged> {
        let [prediction, reference] = [pair.prediction, pair.reference].map(lexicon::stems);
        if reference.is_empty() {
            return Err(Unjudged("the reference has no words".into()));
        }
        if prediction.is_empty() {
            return Ok(Judgement { scores: [1.0; 5] });
        }
        let words = agreement(&lexicon::content(&prediction), &lexicon::content(&reference)).unwrap_or(0.0);
        let [said, meant] = [&prediction, &reference].map(|stems| lexicon::terms(stems));
        let of = |kinds: &[Category]| {
            let pick = |terms: &[Term]| -> Vec<Term> {
                terms.iter().filter(|term| kinds.contains(&term.category)).copied().collect()
            };
            let (said, meant) = (pick(&said), pick(&meant));
            match meant.is_empty() {
                true => words / (1 + said.len()) as f64,
                false => agreement(&said, &meant).unwrap_or(0.0),
            }
        };
        let likeness = self.likeness(pair);
        let allowed = LENGTH_ALLOWANCE * reference.len() as f64;
        let scale = (allowed / prediction.len() as f64).min(1.0);
        let mix = |agreement: f64, weight: f64| (1.0 - weight) * agreement + weight * likeness;
        use Category::{Action, Anatomy, Context, Instrument, State};
        // In the order of `Aspect::ALL`.
        let shares = [
            mix(of(&[Instrument, Anatomy, Action, State, Context]), WEIGHT_OF_WHOLE),
            mix(of(&[Instrument, Anatomy]), WEIGHT_OF_WHOLE),
            mix(words, WEIGHT_OF_WHOLE),
            mix(of(&[Context]), WEIGHT_OF_WHOLE_CONTEXT),
            mix(of(&[Action, State]), WEIGHT_OF_WHOLE),
        ];
        Ok(Judgement { scores: shares.map(|share| 1.0 + 4.0 * (scale * share).clamp(0.0, 1.0)) })
    }
}

impl Judge for OfflineJudge {
    fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
        Ok(pairs.iter().map(|&pair| self.score(pair)).collect())
    }

    fn name(&self) -> String {
        let likeness = if self.embedder.is_some() { "embeddings" } else { "ROUGE-L" };
        format!("offline rules (medical terms and {likeness}), NOT the LLM judge")
    }
}

/// F1 times precision; `None` if both are empty.
///
/// Precision counts every mention, and no more mentions of a thing as right than the reference has; recall counts things.
fn agreement<T: Eq + Hash>(said: &[T], meant: &[T]) -> Option<f64> {
    if said.is_empty() || meant.is_empty() {
        return (said.is_empty() != meant.is_empty()).then_some(0.0);
    }
    let count = |list| {
        let mut counts: HashMap<&T, usize> = HashMap::new();
        for item in list {
            *counts.entry(item).or_default() += 1;
        }
        counts
    };
    let (said_counts, meant_counts) = (count(said), count(meant));
    let shared = meant_counts.iter().filter_map(|(item, &meant)| Some(meant.min(*said_counts.get(item)?)));
    let (num_things, num_mentions) = shared.fold((0, 0), |(things, mentions), n| (things + 1, mentions + n));
    let precision = num_mentions as f64 / said.len() as f64;
    let recall = f64::from(num_things) / meant_counts.len() as f64;
    Some(if precision > 0.0 { 2.0 * precision * precision * recall / (precision + recall) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::rouge_l;

    /// Counts words into a few places: blind to order, and for few texts far from 0.
    struct WordCounts;

    impl TextEmbedder for WordCounts {
        fn embed(&self, text: &str) -> Option<Vec<f32>> {
            let mut vector = vec![0.0; 64];
            for word in rouge_l::words(text) {
                vector[blake3::hash(word.as_bytes()).as_bytes()[0] as usize % 64] += 1.0;
            }
            Some(vector)
        }
    }

    fn judges() -> [OfflineJudge; 2] {
        [OfflineJudge::new(None), OfflineJudge::new(Some(Arc::new(WordCounts)))]
    }

    fn mean(judge: &OfflineJudge, prediction: &str, reference: &str) -> f64 {
        judge.judge(&[Pair { prediction, reference }]).unwrap().remove(0).unwrap().mean()
    }

    /// References with an honest answer that is half right.
    const CASES: [(&str, &str); 6] = [
        ("The hook coagulates the gallbladder, raising smoke.", "The hook cuts the gallbladder."),
        (
            "During dissection, the hook coagulates the gallbladder and the scissors cut the gallbladder; bleeding follows.",
            "During dissection, the hook coagulates the gallbladder; the field stays dry.",
        ),
        ("The forceps hold the mucosa still.", "The forceps pull the mucosa."),
        (
            "In this view two structures are seen, the cystic plate is partly bared and the triangle is hidden by fat.",
            "In this view one structure is seen, the cystic plate is covered and the triangle is hidden by fat.",
        ),
        (
            "The grasper retracts the gallbladder fundus while the hook dissects the cystic duct in Calot's triangle.",
            "The grasper retracts the gallbladder while scissors cut tissue.",
        ),
        (
            "The nurse disinfects the patient's forearm and inserts the cannula into the vein.",
            "The nurse disinfects the arm and inserts a needle.",
        ),
    ];

    #[test]
    fn gold_is_five_and_silence_is_one() {
        for judge in judges() {
            for (reference, half) in CASES {
                for text in [reference, half] {
                    let scores =
                        |prediction| judge.judge(&[Pair { prediction, reference: text }]).unwrap().remove(0);
                    assert_eq!(scores(text), Ok(Judgement { scores: [5.0; 5] }), "{text}");
                    for empty in ["", "  \n", "...", "?!"] {
                        assert_eq!(scores(empty), Ok(Judgement { scores: [1.0; 5] }));
                    }
                }
                assert!(judge.judge(&[Pair { prediction: "x", reference: " " }]).unwrap()[0].is_err());
            }
        }
    }

    #[test]
    fn attacks_do_not_beat_an_honest_half_right_answer() {
        let every_term = lexicon::all_terms().join(" ");
        let likely = "hook grasper scissors clipper knife forceps gallbladder mucosa wound coagulates cuts clips \
                      dissection bleeding smoke";
        for judge in judges() {
            for (reference, half) in CASES {
                let honest = mean(&judge, half, reference);
                let words = rouge_l::words(reference);
                let attacks = [
                    every_term.clone(),
                    likely.to_owned(),
                    format!("The {likely}."),
                    format!("{} or something else happens.", likely.replace(' ', " or ")),
                    format!("{reference} ").repeat(5),
                    format!("{reference} {every_term}"),
                    format!("{reference} {}", "the and of ".repeat(60)),
                    words.last().unwrap().repeat(3),
                    vec![words[1].as_str(); 40].join(" "),
                    "R2: 5\nR3: 5\nR8: 5\nR5: 5\nR4: 5".to_owned(),
                    "Describe the activity of the object inside the bounding box.".to_owned(),
                    "The surgeon performs a procedure on the patient with an instrument.".to_owned(),
                    "the".to_owned(),
                ];
                for attack in attacks {
                    let earned = mean(&judge, &attack, reference);
                    assert!(
                        earned < honest,
                        "{}: {earned} beats {honest} of {half:?}: {attack:.80}",
                        judge.name()
                    );
                    assert!((1.0..=5.0).contains(&earned));
                }
            }
        }
    }

    #[test]
    fn hedging_pays_less_than_guessing() {
        let reference = "The hook coagulates the gallbladder.";
        for judge in judges() {
            let of = |tools: &str| {
                let prediction = format!("The {tools} coagulates the gallbladder.");
                judge.judge(&[Pair { prediction: &prediction, reference }]).unwrap().remove(0).unwrap().scores
                    [1]
            };
            let guesses = (of("hook") + of("grasper") + of("scissors")) / 3.0;
            assert!(of("hook grasper scissors") < guesses);
            assert!(of("hook or grasper") < (of("hook") + of("grasper")) / 2.0);
        }
    }

    #[test]
    fn more_truth_is_more() {
        let reference = CASES[1].0;
        let better = [
            "It is dark.",
            "The knife incises the wound.",
            "During dissection, the knife incises the gallbladder.",
            "During dissection, the hook coagulates the gallbladder.",
            "During dissection, the hook coagulates the gallbladder and the scissors cut the gallbladder.",
            reference,
        ];
        for judge in judges() {
            let means = better.map(|prediction| mean(&judge, prediction, reference));
            assert!(means.is_sorted_by(|a, b| a < b), "{}: {means:?}", judge.name());
        }
    }

    #[test]
    fn aspects_look_at_their_own_terms() {
        let reference = "During preparation the grasper lifts the gallbladder.";
        let scores = |prediction: &str| {
            OfflineJudge::new(None)
                .judge(&[Pair { prediction, reference }])
                .unwrap()
                .remove(0)
                .unwrap()
                .scores
        };
        let gold = scores(reference);
        // The aspects in the order of `Aspect::ALL`: 1 is anatomy, 3 context, 4 action.
        for (wrong, place) in [
            ("During preparation the grasper lifts the stomach.", 1),
            ("During closure the grasper lifts the gallbladder.", 3),
            ("During preparation the grasper cuts the gallbladder.", 4),
        ] {
            let wrong_scores = scores(wrong);
            let lost: Vec<f64> = gold.iter().zip(wrong_scores).map(|(gold, wrong)| gold - wrong).collect();
            let most = [1, 3, 4].into_iter().max_by(|&a, &b| lost[a].total_cmp(&lost[b]));
            assert_eq!(most, Some(place), "{wrong}: {lost:?}");
        }
        let [synonym, other] = ["electrocautery hook", "grasper"].map(|tool| {
            let prediction = format!("The {tool} cauterizes the gall bladder.");
            let reference = "The hook coagulates the gallbladder.";
            OfflineJudge::new(None)
                .judge(&[Pair { prediction: &prediction, reference }])
                .unwrap()
                .remove(0)
                .unwrap()
        });
        assert_eq!(
            (synonym.scores[1], synonym.scores[1] > other.scores[1]),
            (
                1.0 + 4.0
                    * (0.8
                        + 0.2
                            * rouge_l::rouge_l(
                                "The electrocautery hook cauterizes the gall bladder.",
                                "The hook coagulates the gallbladder."
                            )),
                true
            )
        );
    }

    #[test]
    fn the_name_says_what_it_is_not() {
        assert!(judges().iter().all(|judge| judge.name().contains("NOT the LLM judge")));
    }
}
