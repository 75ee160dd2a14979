//! ROUGE-L of one caption against one reference (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries").
//!
//! `F = (1 + β²) P R / (R + β² P)` with β = 1.2, P and R the longest common subsequence of words over the length of the
//! caption and of the reference: the caption-evaluation convention. Words are runs of `a-z` and `0-9` in lower-cased text.

use std::collections::HashMap;

/// Recall weighs β² times precision.
const BETA: f64 = 1.2;

/// The words of a text.
pub fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// ROUGE-L between 0 and 1; 0 where no word is shared.
pub fn rouge_l(prediction: &str, reference: &str) -> f64 {
    rouge_l_of_words(&words(prediction), &words(reference))
}

/// [`rouge_l`] of texts that are already cut into words.
pub fn rouge_l_of_words(prediction: &[String], reference: &[String]) -> f64 {
    let common = longest_common_subsequence(prediction, reference) as f64;
    if common == 0.0 {
        return 0.0;
    }
    let (precision, recall) = (common / prediction.len() as f64, common / reference.len() as f64);
    let weight = BETA * BETA;
    (1.0 + weight) * precision * recall / (recall + weight * precision)
}

/// Length of the longest common subsequence, 64 words of the reference at a time (Hyyrö 2004): one addition over the
/// reference's bits per word of the prediction.
fn longest_common_subsequence(prediction: &[String], reference: &[String]) -> usize {
    let num_blocks = reference.len().div_ceil(64);
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    for (index, word) in reference.iter().enumerate() {
        places.entry(word).or_insert_with(|| vec![0; num_blocks])[index / 64] |= 1 << (index % 64);
    }
    // A zero bit marks a place at which the subsequence grows.
    let mut state = vec![u64::MAX; num_blocks];
    for word in prediction {
        let Some(places) = places.get(word.as_str()) else {
            continue;
        };
        let mut carry = false;
        for (block, place) in state.iter_mut().zip(places) {
            let hits = *block & place;
            let (sum, first) = block.overflowing_add(hits);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            carry = first || second;
            *block = sum | (*block & !place);
        }
    }
    let zeros: u32 = state.iter().map(|block| block.count_zeros()).sum();
    zeros as usize
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    fn by_table(a: &[String], b: &[String]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..a.len() {
            for j in 0..b.len() {
                table[i + 1][j + 1] =
                    if a[i] == b[j] { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
            }
        }
        table[a.len()][b.len()]
    }

    #[test]
    fn subsequence_equals_the_table() {
        let seed = 11;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        for round in 0..200 {
            let mut text = |longest: usize| -> Vec<String> {
                (0..rng.random_range(0..longest)).map(|_| rng.random_range(0..9).to_string()).collect()
            };
            let (a, b) = (text(200), text(200));
            assert_eq!(longest_common_subsequence(&a, &b), by_table(&a, &b), "seed {seed}, round {round}");
        }
    }

    #[test]
    fn by_hand() {
        // 2 of 3 and 2 of 4 words in order.
        let expected = 2.44 * (2.0 / 3.0) * 0.5 / (0.5 + 1.44 * 2.0 / 3.0);
        assert!((rouge_l("The hook cuts", "the knife cuts deep") - expected).abs() < 1e-12);
        assert_eq!(rouge_l("", "x"), 0.0);
        assert_eq!(rouge_l("a b", "A, b."), 1.0);
    }
}
