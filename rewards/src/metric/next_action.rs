//! Which class an answer to a next-action question means.
//!
//! Exact text first; otherwise the class whose embedding is nearest by cosine, the first on ties. So with an embedder every
//! text means some class. Without one, other text is unresolved and counts as wrong.

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
    if let Some(class) = classes.iter().position(|class| class == answer) {
        return Resolved::Exact(class);
    }
    let Some(embedder) = embedder else {
        return Resolved::Unresolved;
    };
    let Some(vector) = embedder.embed(answer) else {
        return Resolved::Unresolved;
    };
    let mut best: Option<(usize, f64)> = None;
    for (index, class) in classes.iter().enumerate() {
        let Some(other) = embedder.embed(class) else {
            return Resolved::Unresolved;
        };
        let similarity = cosine(&vector, &other);
        if best.is_none_or(|(_, highest)| similarity > highest) {
            best = Some((index, similarity));
        }
    }
    best.map_or(Resolved::Unresolved, |(class, _)| Resolved::Nearest(class))
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
    }
}
