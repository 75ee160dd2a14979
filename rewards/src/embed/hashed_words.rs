//! A text embedding that needs no files: hashed words and pieces of words.

use std::collections::BTreeMap;

use super::TextEmbedder;

/// Words and their three-letter pieces, hashed into a vector of fixed length (Weinberger et al. 2009, "Feature Hashing for
/// Large Scale Multitask Learning").
///
/// Lexical only: it sees that `dissecting` is near `dissection`, but knows no synonym and no word order. Use a sentence
/// encoder where the choice of words is free. The same text has the same vector on every machine and in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedWords {
    /// Length of the vectors; at 1024 collisions hardly matter for captions. At least 1.
    pub dimensions: usize,
}

impl Default for HashedWords {
    fn default() -> Self {
        Self { dimensions: 1024 }
    }
}

/// What a piece of a word counts, against 1 for the whole word.
const PIECE_WEIGHT: f32 = 0.25;
/// Words of at most this many letters are mostly articles and prepositions: they count little and have no pieces.
const SHORT_WORD: usize = 3;
const SHORT_WEIGHT: f32 = 0.25;

/// FNV-1a, which is the same everywhere, with a final mix because its low bits are poor.
fn hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

impl TextEmbedder for HashedWords {
    /// A vector of length 1; all zeros for a text without words. The nth repetition of a feature adds ever less.
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        let lower = text.to_lowercase();
        let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        // By hash: how often it occurs, and what one occurrence counts.
        let mut counts: BTreeMap<u64, (u32, f32)> = BTreeMap::new();
        for word in words {
            let is_short = word.chars().count() <= SHORT_WORD;
            counts.entry(hash(word)).or_insert((0, if is_short { SHORT_WEIGHT } else { 1.0 })).0 += 1;
            if is_short {
                continue;
            }
            let bounded: Vec<char> = format!("<{word}>").chars().collect();
            for piece in bounded.windows(3) {
                let piece: String = piece.iter().collect();
                counts.entry(hash(&piece)).or_insert((0, PIECE_WEIGHT)).0 += 1;
            }
        }
        let dimensions = self.dimensions.max(1);
        let mut vector = vec![0.0_f32; dimensions];
        for (hash, (count, weight)) in counts {
            let weight = weight * (1.0 + (count as f32).ln());
            // The top bit is the sign, so that collisions cancel on average.
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            vector[(hash % dimensions as u64) as usize] += sign * weight;
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x /= length);
        }
        Some(vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::cosine;

    fn similarity(a: &str, b: &str) -> f64 {
        let embedder = HashedWords::default();
        cosine(&embedder.embed(a).unwrap(), &embedder.embed(b).unwrap())
    }

    #[test]
    fn shared_words_count_and_their_order_does_not() {
        let reference = "the hook dissects the gallbladder";
        assert!((similarity(reference, "The gallbladder: the HOOK dissects!") - 1.0).abs() < 1e-6);
        let near = similarity(reference, "a hook is dissecting the gallbladder");
        let half = similarity(reference, "the grasper holds the gallbladder");
        let far = similarity(reference, "a needle pierces skin");
        assert!(near > half && half > far && far < 0.15, "{near} {half} {far}");
    }

    #[test]
    fn vectors_are_the_same_everywhere_and_of_length_one() {
        let vector = HashedWords { dimensions: 8 }.embed("hook").unwrap();
        let length: f32 = vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-6, "{vector:?}");
        assert_eq!(hash("hook"), hash_by_hand("hook"));
        assert_eq!(HashedWords::default().embed("…").unwrap(), vec![0.0; 1024]);
    }

    /// FNV-1a written out.
    fn hash_by_hand(text: &str) -> u64 {
        let mut hash: u128 = 14_695_981_039_346_656_037;
        for byte in text.bytes() {
            hash = ((hash ^ u128::from(byte)) * 1_099_511_628_211) % (1 << 64);
        }
        let hash = hash as u64;
        let mixed = (u128::from(hash ^ (hash >> 33)) * u128::from(0xff51_afd7_ed55_8ccd_u64)) as u64;
        mixed ^ (mixed >> 33)
    }

    #[test]
    fn one_word_said_often_is_not_a_caption() {
        let reference = "the hook dissects the gallbladder from the liver bed";
        assert!(similarity(reference, &"the ".repeat(500)) < 0.5);
    }
}
