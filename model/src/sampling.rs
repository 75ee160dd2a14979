//! From logits to a token: the reference's processors in the reference's order, one random stream a completion.
//!
//! Order (transformers 4.57): repetition penalty, temperature, top-k, top-p. Sources: `RepetitionPenaltyLogitsProcessor`,
//! `TopKLogitsWarper`, `TopPLogitsWarper`.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keeps this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or completion; 1 changes nothing.
    pub repetition_penalty: f32,
}

impl Sampling {
    /// Always the likeliest token.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, top_k: 0, repetition_penalty: 1.0 };
}

/// The state of one completion: its random stream and the tokens it has seen.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
    seen: BTreeSet<u32>,
}

impl Sampler {
    /// A stream that depends on `seed` and the completion's `index` alone, not on what else is in the batch.
    pub fn new(sampling: Sampling, seed: u64, index: u64, prompt: &[u32]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let seen = if sampling.repetition_penalty == 1.0 {
            BTreeSet::new()
        } else {
            prompt.iter().copied().collect()
        };
        Self { sampling, rng, seen }
    }

    /// Chooses the next token; `logits` is scratch space afterwards. `banned` ids are never chosen.
    pub fn next(&mut self, logits: &mut [f32], banned: &[u32]) -> u32 {
        for id in banned {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let Sampling { temperature, top_p, top_k, repetition_penalty } = self.sampling;
        for id in &self.seen {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit < 0.0 { *logit * repetition_penalty } else { *logit / repetition_penalty };
            }
        }
        let token = if temperature == 0.0 {
            argmax(logits)
        } else {
            logits.iter_mut().for_each(|logit| *logit /= temperature);
            keep_top_k(logits, top_k);
            keep_top_p(logits, top_p);
            self.draw(logits)
        };
        if repetition_penalty != 1.0 {
            self.seen.insert(token);
        }
        token
    }

    fn draw(&mut self, logits: &[f32]) -> u32 {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
        let mut left = self.rng.random::<f64>() * total;
        let mut last = argmax(logits);
        for (id, logit) in logits.iter().enumerate().filter(|(_, logit)| logit.is_finite()) {
            left -= f64::from(logit - max).exp();
            last = id as u32;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

/// The first largest.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn keep_top_k(logits: &mut [f32], k: usize) {
    if k == 0 || k >= logits.len() {
        return;
    }
    let mut sorted = logits.to_vec();
    let (_, threshold, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let threshold = *threshold;
    logits.iter_mut().filter(|logit| **logit < threshold).for_each(|logit| *logit = f32::NEG_INFINITY);
}

/// The reference sorts upwards and drops while the running probability stays within `1 - p`.
fn keep_top_p(logits: &mut [f32], p: f32) {
    if p >= 1.0 {
        return;
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let probability = |logit: f32| f64::from(logit - max).exp();
    let total: f64 = logits.iter().map(|logit| probability(*logit)).sum();
    let mut running = 0.0;
    for id in &order[..order.len() - 1] {
        running += probability(logits[*id]) / total;
        if running > f64::from(1.0 - p) {
            break;
        }
        logits[*id] = f32::NEG_INFINITY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(logits: &[f32]) -> Vec<usize> {
        (0..logits.len()).filter(|id| logits[*id].is_finite()).collect()
    }

    #[test]
    fn top_k_keeps_ties_of_the_last() {
        let mut logits = [1.0, 3.0, 2.0, 2.0];
        keep_top_k(&mut logits, 2);
        assert_eq!(kept(&logits), [1, 2, 3]);
    }

    #[test]
    fn top_p_keeps_the_token_that_crosses() {
        // Probabilities 0.1, 0.2, 0.3, 0.4: dropping 0.1 + 0.2 leaves 0.7, which is what p = 0.65 needs.
        let base = [0.1_f32.ln(), 0.2_f32.ln(), 0.3_f32.ln(), 0.4_f32.ln()];
        let mut logits = base;
        keep_top_p(&mut logits, 0.65);
        assert_eq!(kept(&logits), [2, 3]);
        let mut logits = base;
        keep_top_p(&mut logits, 0.05);
        assert_eq!(kept(&logits), [3]);
    }

    #[test]
    fn repetition_penalty_counts_a_token_once() {
        let sampling = Sampling { repetition_penalty: 2.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling, 0, 0, &[0, 0, 0]);
        // 3.0 / 2 = 1.5 < 2.0, so the penalised token loses once and no more.
        assert_eq!(sampler.next(&mut [3.0, 2.0, -1.0], &[]), 1);
        // Now both are penalised: 1.5 against 1.0.
        assert_eq!(sampler.next(&mut [3.0, 2.0, -1.0], &[]), 0);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let mut sampler = Sampler::new(sampling, 11, 0, &[]);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            let mut logits = [0.2_f32.ln(), 0.8_f32.ln(), 5.0];
            counts[sampler.next(&mut logits, &[2]) as usize] += 1;
        }
        assert_eq!(counts[2], 0, "banned");
        assert!((1_850..2_150).contains(&counts[0]), "{counts:?}, seed 11");
    }

    #[test]
    fn streams_are_reproducible_and_distinct() {
        let sampling = Sampling { temperature: 1.0, ..Sampling::GREEDY };
        let run = |index| {
            let mut sampler = Sampler::new(sampling, 3, index, &[]);
            (0..20).map(|_| sampler.next(&mut [0.0; 50], &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
