//! `CIDEr-D` of captions (Vedantam et al. 2015, "Consensus-based Image Description Evaluation", section 6 and eq. 5).
//!
//! `10/4 Σ_n exp(−(l_p − l_r)² / 2σ²) · Σ_g min(p_g, r_g) r_g / (‖p‖ ‖r‖)` for n = 1…4 and σ = 6, where `p` and `r` weight
//! the count of each n-gram by `ln N − ln max(1, df)`, `df` being the number of the N references that hold it. As in the
//! COCO caption package, `l` is the number of bigrams. The weights come from the references scored together: a number is
//! comparable only over the same set, and a set of one gives 0.

use std::collections::HashMap;

use super::{
    caption_words::{CaptionPair, CorpusScore},
    ngrams::{Counted, MAX_N, Vocabulary, count, shared},
};

const SIGMA: f64 = 6.0;

/// Scores every prediction against its reference, 0 to 10.
pub fn cider_d(pairs: &[CaptionPair]) -> CorpusScore {
    let mut vocabulary = Vocabulary::default();
    let mut counted = |words| count(&vocabulary.numbers(words));
    let counted: Vec<[Counted; 2]> =
        pairs.iter().map(|pair| [counted(&pair.prediction), counted(&pair.reference)]).collect();
    let mut num_references: HashMap<u128, u32> = HashMap::new();
    for (gram, _) in counted.iter().flat_map(|[_, reference]| reference.by_length.iter().flatten()) {
        *num_references.entry(*gram).or_default() += 1;
    }
    let log_total = (pairs.len() as f64).ln();
    let weight = |gram: u128| log_total - num_references.get(&gram).map_or(0.0, |&df| f64::from(df).ln());
    let norm = |grams: &[(u128, u32)]| {
        grams.iter().map(|&(gram, count)| (f64::from(count) * weight(gram)).powi(2)).sum::<f64>().sqrt()
    };
    let score = |[prediction, reference]: &[Counted; 2]| {
        let num_bigrams = |text: &Counted| text.num_words.saturating_sub(1) as f64;
        let distance = num_bigrams(prediction) - num_bigrams(reference);
        let length_penalty = (-distance * distance / (2.0 * SIGMA * SIGMA)).exp();
        let similarity = |n: usize| {
            let (p, r) = (&prediction.by_length[n], &reference.by_length[n]);
            let product = |(gram, in_p, in_r): (u128, u32, u32)| {
                f64::from(in_p.min(in_r)) * f64::from(in_r) * weight(gram).powi(2)
            };
            let norms = norm(p) * norm(r);
            if norms > 0.0 { shared(p, r).map(product).sum::<f64>() / norms } else { 0.0 }
        };
        10.0 * length_penalty * (0..MAX_N).map(similarity).sum::<f64>() / MAX_N as f64
    };
    CorpusScore::of(counted.iter().map(score).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let pairs = [("the hook cuts", "the hook cuts"), ("a hook", "the hook ties"), ("", "gauze")]
            .map(|(p, r)| CaptionPair::new(p, r));
        let score = cider_d(&pairs);
        // n-grams to length 3 agree fully, of length 4 there are none.
        assert!((score.per_record[0] - 7.5).abs() < 1e-12);
        let (rare, common) = (3_f64.ln(), 1.5_f64.ln());
        // `a` is in no reference, so its weight is that of a document frequency of 1.
        let unigrams = common * common
            / ((rare * rare + common * common).sqrt() * (2.0 * common * common + rare * rare).sqrt());
        let expected = 10.0 / 4.0 * (-1.0_f64 / 72.0).exp() * unigrams;
        assert!((score.per_record[1] - expected).abs() < 1e-12);
        assert_eq!(score.per_record[2], 0.0);
        assert_eq!(cider_d(&pairs[..1]).per_record, [0.0]);
        assert_eq!(cider_d(&[]), CorpusScore::default());
    }
}
