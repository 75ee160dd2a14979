//! All caption metrics that need neither a model nor a judge, over one set of captions.

use super::{
    bleu::{BleuScore, bleu},
    caption_words::{CaptionPair, CorpusScore},
    cider::cider_d,
    meteor::meteor_exact_stem,
    rouge_l::rouge_l_of_words,
};

/// Scores of a set of captions by each metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaptionScores {
    /// CIDEr-D, 0 to 10; its weights come from this very set.
    pub cider_d: CorpusScore,
    /// BLEU-1 to BLEU-4, 0 to 1.
    pub bleu: BleuScore,
    /// ROUGE-L of treebank words, 0 to 1.
    pub rouge_l: CorpusScore,
    /// METEOR without synonyms and paraphrases, 0 to 1.
    pub meteor_exact_stem: CorpusScore,
}

/// Scores pairs `(prediction, reference)`.
pub fn caption_scores(pairs: &[(&str, &str)]) -> CaptionScores {
    let pairs: Vec<CaptionPair> =
        pairs.iter().map(|(prediction, reference)| CaptionPair::new(prediction, reference)).collect();
    let rouge_l = pairs.iter().map(|pair| rouge_l_of_words(&pair.prediction, &pair.reference)).collect();
    CaptionScores {
        cider_d: cider_d(&pairs),
        bleu: bleu(&pairs),
        rouge_l: CorpusScore::of(rouge_l),
        meteor_exact_stem: meteor_exact_stem(&pairs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_itself_is_best_and_silence_is_nothing() {
        let texts = ["the hook cuts the duct", "a clip is placed on the vein", "gauze dries the liver bed"];
        let scores = |answers: [&str; 3]| {
            let pairs: Vec<(&str, &str)> = answers.into_iter().zip(texts).collect();
            caption_scores(&pairs)
        };
        let (best, silent) = (scores(texts), scores([""; 3]));
        assert_eq!((best.rouge_l.mean, best.meteor_exact_stem.mean), (1.0, 1.0));
        assert!((best.cider_d.mean - 10.0).abs() < 1e-9 && (best.bleu.corpus[3] - 1.0).abs() < 1e-6);
        let silent =
            [silent.rouge_l.mean, silent.meteor_exact_stem.mean, silent.cider_d.mean, silent.bleu.corpus[3]];
        assert_eq!(silent, [0.0; 4]);
    }
}
