//! An embedder for tests that remembers what it was asked.

use std::sync::Mutex;

use super::TextEmbedder;

/// A vector of two numbers for any text but the empty one, and a record of what was asked for, call by call.
#[derive(Default)]
pub(crate) struct Counting {
    asked: Mutex<Vec<Vec<String>>>,
}

impl Counting {
    pub(crate) fn vector(&self, text: &str) -> Option<Vec<f32>> {
        let num_vowels = text.chars().filter(|c| "aeiou".contains(*c)).count();
        (!text.is_empty()).then(|| vec![text.len() as f32, num_vowels as f32])
    }

    pub(crate) fn asked(&self) -> Vec<Vec<String>> {
        self.asked.lock().unwrap().clone()
    }
}

impl TextEmbedder for Counting {
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        self.embed_all(&[text]).remove(0)
    }

    fn embed_all(&self, texts: &[&str]) -> Vec<Option<Vec<f32>>> {
        self.asked.lock().unwrap().push(texts.iter().map(|text| (*text).to_owned()).collect());
        texts.iter().map(|text| self.vector(text)).collect()
    }
}
