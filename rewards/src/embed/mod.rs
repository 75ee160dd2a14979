//! Text embeddings behind a trait: the nearest-class step of next-action scoring, and caption similarity.
//!
//! A sentence encoder lives in the model crate: this one holds no burn. Here is only the map from text to vector.

#[cfg(test)]
mod counting;
mod hashed_words;

#[cfg(test)]
pub(crate) use counting::Counting;
pub use hashed_words::HashedWords;

use std::collections::HashMap;

use serde::Deserialize;

/// Turns text into a vector whose direction stands for its meaning.
pub trait TextEmbedder: Send + Sync {
    /// The vector of a text, all of one length; `None` where this embedder has none for it.
    ///
    /// An encoder may spread the work over rayon's threads: the caller holds no lock meanwhile.
    fn embed(&self, text: &str) -> Option<Vec<f32>>;

    /// The vectors of several texts, in their order; faster than one by one where they are computed.
    fn embed_all(&self, texts: &[&str]) -> Vec<Option<Vec<f32>>> {
        texts.iter().map(|text| self.embed(text)).collect()
    }
}

/// Vectors computed elsewhere, by exact text.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct VectorMap {
    vectors: HashMap<String, Vec<f32>>,
}

impl FromIterator<(String, Vec<f32>)> for VectorMap {
    fn from_iter<I: IntoIterator<Item = (String, Vec<f32>)>>(vectors: I) -> Self {
        Self { vectors: vectors.into_iter().collect() }
    }
}

impl TextEmbedder for VectorMap {
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        self.vectors.get(text).cloned()
    }
}

/// Cosine of the angle between two vectors of one length; 0 if one of them has no direction.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_by_hand() {
        assert_eq!(cosine(&[3.0, 4.0], &[4.0, 3.0]), 0.96);
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
    }
}
