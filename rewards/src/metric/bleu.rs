//! BLEU-1 to BLEU-4 (Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", eq. 3).
//!
//! `BLEU-N = min(1, exp(1 − r/c)) · (Π_n p_n)^(1/N)`, `p_n` the share of the prediction's n-grams that the reference holds
//! (each as often as it holds it), c and r the numbers of words. Of a corpus, shares and lengths are pooled first, so its
//! value is not the mean of the records'. As in the COCO caption package, 1e-15 is added to numerators and 1e-9 to
//! denominators: a record without a shared n-gram gets a very small number, not 0.

use super::{
    caption_words::CaptionPair,
    ngrams::{MAX_N, Vocabulary, count, shared},
};

const TINY: f64 = 1e-15;
const SMALL: f64 = 1e-9;

/// BLEU-1 to BLEU-4, in that order, 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BleuScore {
    /// Of all pairs pooled.
    pub corpus: [f64; MAX_N],
    /// Of each pair, in order.
    pub per_record: Vec<[f64; MAX_N]>,
}

/// What is pooled.
#[derive(Clone, Copy, Default)]
struct Counts {
    matched: [f64; MAX_N],
    total: [f64; MAX_N],
    num_predicted: f64,
    num_reference: f64,
}

impl Counts {
    fn of(prediction: &[u32], reference: &[u32]) -> Self {
        let (p, r) = (count(prediction), count(reference));
        let matched = std::array::from_fn(|n| {
            shared(&p.by_length[n], &r.by_length[n]).map(|(_, a, b)| f64::from(a.min(b))).sum()
        });
        Self {
            matched,
            total: std::array::from_fn(|n| prediction.len().saturating_sub(n) as f64),
            num_predicted: prediction.len() as f64,
            num_reference: reference.len() as f64,
        }
    }

    fn add(&mut self, other: &Self) {
        for n in 0..MAX_N {
            self.matched[n] += other.matched[n];
            self.total[n] += other.total[n];
        }
        self.num_predicted += other.num_predicted;
        self.num_reference += other.num_reference;
    }

    fn bleu(&self) -> [f64; MAX_N] {
        let ratio = (self.num_predicted + TINY) / (self.num_reference + SMALL);
        let penalty = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|n| {
            product *= (self.matched[n] + TINY) / (self.total[n] + SMALL);
            penalty * product.powf(1.0 / (n + 1) as f64)
        })
    }
}

/// Scores predictions against their references.
pub fn bleu(pairs: &[CaptionPair]) -> BleuScore {
    let mut pooled = Counts::default();
    let score = |pair: &CaptionPair| {
        let mut vocabulary = Vocabulary::default();
        let [prediction, reference] =
            [&pair.prediction, &pair.reference].map(|words| vocabulary.numbers(words));
        let counts = Counts::of(&prediction, &reference);
        pooled.add(&counts);
        counts.bleu()
    };
    let per_record = pairs.iter().map(score).collect();
    let corpus = if pairs.is_empty() { [0.0; MAX_N] } else { pooled.bleu() };
    BleuScore { corpus, per_record }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let pairs = [("the the hook", "the hook cuts it"), ("a b c d", "a b c d")]
            .map(|(p, r)| CaptionPair::new(p, r));
        let score = bleu(&pairs);
        let penalty = (1.0_f64 - 4.0 / 3.0).exp();
        let expected = [penalty * 2.0 / 3.0, penalty * (2.0 / 3.0 * 0.5_f64).sqrt()];
        for (found, expected) in score.per_record[0].iter().zip(expected) {
            assert!((found - expected).abs() < 1e-8, "{found} instead of {expected}");
        }
        assert!(
            score.per_record[0][2] < 1e-4 && score.per_record[1].iter().all(|bleu| (bleu - 1.0).abs() < 1e-8)
        );
        // 6 of 7 words, and 8 words wanted.
        assert!((score.corpus[0] - 6.0 / 7.0 * (1.0_f64 - 8.0 / 7.0).exp()).abs() < 1e-8);
        assert_eq!(bleu(&[]).corpus, [0.0; 4]);
        assert!(bleu(&[CaptionPair::new("", "a")]).corpus.iter().all(|bleu| bleu.is_finite()));
    }
}
