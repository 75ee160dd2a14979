//! Which class an answer to a next-action question means.
//!
//! Exact text first; otherwise the class whose embedding is nearest by cosine, the first on ties. So with an embedder every
//! text means some class. Without one, other text is unresolved and counts as wrong.

use std::collections::{BTreeSet, HashMap};

use crate::embed::{TextEmbedder, cosine};

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// It is the class with this index, letter by letter.
    Exact(usize),
    /// The class with this index has the nearest embedding.
    Nearest(usize),
    /// Not a class, and there is no embedder or it has no vector for a text.
    Unresolved,
}

impl Resolved {
    /// The class, if there is one.
    pub fn class(self) -> Option<usize> {
        match self {
            Self::Exact(class) | Self::Nearest(class) => Some(class),
            Self::Unresolved => None,
        }
    }
}

/// Resolves a normalised answer among `classes`.
pub fn resolve(answer: &str, classes: &[String], embedder: Option<&dyn TextEmbedder>) -> Resolved {
    resolve_all(&[(answer, classes)], embedder)[0]
}

/// [`resolve`] for several answers, each among its own classes, in their order: all texts are embedded in one call.
pub fn resolve_all(asked: &[(&str, &[String])], embedder: Option<&dyn TextEmbedder>) -> Vec<Resolved> {
    let exact = |answer: &str, classes: &[String]| classes.iter().position(|class| class == answer);
    let mut texts = BTreeSet::new();
    if embedder.is_some() {
        for &(answer, classes) in asked {
            if exact(answer, classes).is_none() {
                texts.extend([answer].into_iter().chain(classes.iter().map(String::as_str)));
            }
        }
    }
    let texts: Vec<&str> = texts.into_iter().collect();
    let vectors = embedder.filter(|_| !texts.is_empty()).map(|embedder| embedder.embed_all(&texts));
    let vectors: HashMap<&str, Vec<f32>> = texts
        .into_iter()
        .zip(vectors.unwrap_or_default())
        .filter_map(|(text, vector)| Some((text, vector?)))
        .collect();
    let of = |&(answer, classes): &(&str, &[String])| match exact(answer, classes) {
        Some(class) => Resolved::Exact(class),
        None => nearest(answer, classes, &vectors).map_or(Resolved::Unresolved, Resolved::Nearest),
    };
    asked.iter().map(of).collect()
}

/// The class with the highest cosine; `None` where a vector is missing.
fn nearest(answer: &str, classes: &[String], vectors: &HashMap<&str, Vec<f32>>) -> Option<usize> {
    let vector = vectors.get(answer)?;
    let mut best: Option<(usize, f64)> = None;
    for (index, class) in classes.iter().enumerate() {
        let similarity = cosine(vector, vectors.get(class.as_str())?);
        if best.is_none_or(|(_, highest)| similarity > highest) {
            best = Some((index, similarity));
        }
    }
    best.map(|(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::VectorMap;

    #[test]
    fn exact_then_nearest_then_unresolved() {
        let classes = ["cut".to_owned(), "tie".to_owned(), "knot".to_owned()];
        let vectors = VectorMap::from_iter([
            ("cut".to_owned(), vec![1.0, 0.0]),
            ("tie".to_owned(), vec![0.0, 1.0]),
            ("knot".to_owned(), vec![0.0, 2.0]),
            ("tying".to_owned(), vec![0.1, 1.0]),
        ]);
        assert_eq!(resolve("knot", &classes, Some(&vectors)), Resolved::Exact(2));
        assert_eq!(resolve("tying", &classes, Some(&vectors)), Resolved::Nearest(1));
        assert_eq!(resolve("unknown", &classes, Some(&vectors)), Resolved::Unresolved);
        assert_eq!(resolve("tying", &classes, None), Resolved::Unresolved);
        let (all, few) = (classes.as_slice(), &classes[..1]);
        let asked = [("unknown", all), ("tying", few), ("tie", all), ("tie", few), ("tying", all)];
        let one_by_one = asked.map(|(answer, classes)| resolve(answer, classes, Some(&vectors)));
        assert_eq!(resolve_all(&asked, Some(&vectors)), one_by_one);
        assert_eq!(resolve_all(&[], Some(&vectors)), []);
    }
}
