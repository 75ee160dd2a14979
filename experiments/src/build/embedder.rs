//! What turns sentences into vectors, by what the user names.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use medgrpo_rewards::embed::{TextEmbedder, VectorMap};

/// Opens `vectors:FILE`, a JSON map from text to vector.
pub(crate) fn open_embedder(spec: &str) -> Result<Arc<dyn TextEmbedder>> {
    let Some(file) = spec.strip_prefix("vectors:") else {
        bail!("embedder {spec}: expected vectors:FILE");
    };
    let bytes = std::fs::read(Path::new(file)).with_context(|| file.to_owned())?;
    let vectors: VectorMap = serde_json::from_slice(&bytes)
        .with_context(|| format!("{file}: expected a map from text to vector"))?;
    Ok(Arc::new(vectors))
}
