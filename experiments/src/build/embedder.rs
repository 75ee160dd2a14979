//! What turns texts into vectors for scoring: a sentence encoder, or vectors computed elsewhere.
//!
//! The encoder computes on the processor wherever the model trains: it is small, and rewards are computed while the
//! model's device is busy. A text is encoded once while it is remembered.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail};
use burn::tensor::backend::AutodiffBackend;
use medgrpo_model::{ModelError, sentence_encoder::SentenceEncoder};
use medgrpo_rewards::embed::{HashedWords, TextEmbedder, VectorMap};

use crate::device::{Job, run_on_cpu};

const VECTORS: &str = "vectors:";
/// The embedder that needs no files.
const LEXICAL: &str = "lexical";
/// Texts remembered, about 100 MB with their vectors; then all are forgotten.
const MAX_KNOWN: usize = 50_000;

/// Opens `DIR`, a sentence-transformers directory, `vectors:FILE`, a JSON map from text to vector, or `lexical`, which
/// needs no files and sees shared words only.
///
/// # Errors
/// With what is wrong and what to do: when it is neither, or its files cannot be used.
pub fn open_embedder(spec: &str) -> Result<Arc<dyn TextEmbedder>> {
    if spec == LEXICAL {
        return Ok(Arc::new(HashedWords::default()));
    }
    if let Some(file) = spec.strip_prefix(VECTORS) {
        return Ok(Arc::new(read_vectors(Path::new(file))?));
    }
    let dir = Path::new(spec);
    if !dir.is_dir() {
        bail!(
            "embedder `{spec}`: no such folder; give the folder of a sentence encoder as sentence-transformers saves it \
             (all-MiniLM-L6-v2 is the benchmark's), {VECTORS}FILE, a JSON map from text to vector, or {LEXICAL}"
        );
    }
    let encode = run_on_cpu(LoadEncoder(dir)).with_context(|| format!("embedder `{spec}`"))?;
    Ok(Arc::new(RememberingEncoder { encode, known: Mutex::default() }))
}

/// A sentence encoder with its backend left out.
type Encode = Box<dyn Fn(&[&str]) -> Result<Vec<Vec<f32>>, ModelError> + Send + Sync>;

struct LoadEncoder<'a>(&'a Path);

impl Job for LoadEncoder<'_> {
    type Output = Encode;

    fn run<B: AutodiffBackend>(self, device: &B::Device) -> Result<Encode> {
        let encoder = SentenceEncoder::<B::InnerBackend>::from_dir(self.0, device)?;
        Ok(Box::new(move |texts: &[&str]| encoder.encode(texts)))
    }
}

struct RememberingEncoder {
    encode: Encode,
    known: Mutex<HashMap<String, Vec<f32>>>,
}

impl RememberingEncoder {
    /// Never held while encoding, which may give this thread another task that asks for it too.
    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<f32>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TextEmbedder for RememberingEncoder {
    fn embed(&self, text: &str) -> Option<Vec<f32>> {
        self.embed_all(&[text]).pop().flatten()
    }

    fn embed_all(&self, texts: &[&str]) -> Vec<Option<Vec<f32>>> {
        let mut vectors: Vec<Option<Vec<f32>>> = {
            let known = self.known();
            texts.iter().map(|text| known.get(*text).cloned()).collect()
        };
        let missing = texts.iter().zip(&vectors).filter(|(_, vector)| vector.is_none());
        let mut seen = HashSet::new();
        let fresh: Vec<&str> = missing.map(|(text, _)| *text).filter(|text| seen.insert(*text)).collect();
        if fresh.is_empty() {
            return vectors;
        }
        match (self.encode)(&fresh) {
            Ok(encoded) => {
                let encoded: HashMap<&str, Vec<f32>> = fresh.into_iter().zip(encoded).collect();
                for (text, vector) in texts.iter().zip(&mut vectors) {
                    if vector.is_none() {
                        *vector = encoded.get(text).cloned();
                    }
                }
                let mut known = self.known();
                if known.len() + encoded.len() > MAX_KNOWN {
                    known.clear();
                }
                known.extend(encoded.into_iter().map(|(text, vector)| (text.to_owned(), vector)));
            }
            Err(error) => {
                tracing::error!("{} texts have no vector: {error}", fresh.len());
            }
        }
        vectors
    }
}

fn read_vectors(path: &Path) -> Result<VectorMap> {
    let bytes = std::fs::read(path).with_context(|| format!("embedder: {}", path.display()))?;
    let vectors: HashMap<String, Vec<f32>> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{}: not a JSON map from text to vector", path.display()))?;
    let mut width = None;
    for (text, vector) in &vectors {
        let text: String = text.chars().take(60).collect();
        let place = || format!("{}: the vector of `{text}`", path.display());
        if vector.is_empty() {
            bail!("{} is empty", place());
        }
        let wanted = *width.get_or_insert(vector.len());
        if vector.len() != wanted {
            bail!(
                "{} has {} numbers, another has {wanted}: all must come from one encoder",
                place(),
                vector.len()
            );
        }
    }
    if vectors.is_empty() {
        bail!("{}: holds no vector", path.display());
    }
    Ok(VectorMap::from_iter(vectors))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn an_encoder_works_from_many_threads_at_once() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/sentence_encoder/tiny");
        let embedder = open_embedder(dir).unwrap();
        let texts: Vec<String> = (0..40).map(|number| format!("the hook cuts {}", number % 10)).collect();
        let alone: Vec<_> = texts.par_iter().map(|text| embedder.embed(text).unwrap()).collect();
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let together = embedder.embed_all(&borrowed);
        assert_eq!(alone.len(), together.len());
        for (text, (alone, together)) in texts.iter().zip(alone.iter().zip(together)) {
            assert_eq!(*alone, together.unwrap(), "{text}");
        }
        assert_ne!(alone[0], alone[1]);
    }

    #[test]
    fn each_text_is_encoded_once_and_a_failure_is_no_vector() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let encode: Encode = Box::new(move |texts: &[&str]| {
            count.fetch_add(texts.len(), Ordering::Relaxed);
            if texts.contains(&"bad") {
                return Err(ModelError::Input("bad".to_owned()));
            }
            Ok(texts.iter().map(|text| vec![text.len() as f32]).collect())
        });
        let encoder = RememberingEncoder { encode, known: Mutex::default() };
        assert_eq!(encoder.embed_all(&["a", "bb", "a"]), [Some(vec![1.0]), Some(vec![2.0]), Some(vec![1.0])]);
        assert_eq!(encoder.embed("bb"), Some(vec![2.0]));
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(encoder.embed_all(&["a", "bad"]), [Some(vec![1.0]), None]);
        assert!(encoder.embed_all(&[]).is_empty());
    }

    #[test]
    fn vectors_come_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vectors.json");
        let open = |text: &str| {
            std::fs::write(&path, text).unwrap();
            open_embedder(&format!("vectors:{}", path.display()))
        };
        let embedder = open(r#"{"a": [1, 0.5], "": [0, 1]}"#).unwrap();
        assert_eq!(embedder.embed_all(&["a", "b"]), [Some(vec![1.0, 0.5]), None]);
        for (text, wanted) in [
            ("[]", "not a JSON map"),
            ("{}", "holds no vector"),
            (r#"{"a": []}"#, "`a` is empty"),
            (r#"{"a": [1e39]}"#, "out of range"),
            (r#"{"a": [NaN]}"#, "not a JSON map"),
            (r#"{"a": [1], "b": [1, 2]}"#, "one encoder"),
        ] {
            let error = format!("{:#}", open(text).err().unwrap());
            assert!(error.contains(wanted) && error.contains("vectors.json"), "{error}");
        }
    }

    #[test]
    fn what_is_no_embedder_is_told_with_what_to_give() {
        let missing = format!("{:#}", open_embedder("no/such/folder").err().unwrap());
        assert!(missing.contains("no/such/folder") && missing.contains("vectors:FILE"), "{missing}");
        let file = format!("{:#}", open_embedder("vectors:no/such/file.json").err().unwrap());
        assert!(file.contains("no/such/file.json"), "{file}");
        let dir = tempfile::tempdir().unwrap();
        let empty = format!("{:#}", open_embedder(dir.path().to_str().unwrap()).err().unwrap());
        assert!(empty.contains("modules.json"), "{empty}");
    }
}
