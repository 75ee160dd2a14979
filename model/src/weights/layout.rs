//! How a checkpoint names and stores its tensors, so that a saved copy has the same names and types.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use safetensors::Dtype;

use super::reader::CheckpointReader;
use crate::ModelError;

/// A tensor as it stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    /// Name in the file.
    pub name: String,
    /// Number format in the file.
    pub dtype: Dtype,
    /// Shape in the file.
    pub shape: Vec<usize>,
}

/// Tensors of a checkpoint by published name (`visual.*`, `model.*`, `lm_head.*`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointLayout {
    /// By published name.
    pub tensors: BTreeMap<String, StoredTensor>,
}

impl CheckpointLayout {
    /// The layout of a checkpoint directory; only headers are read.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        Ok(CheckpointReader::open(dir, published_name)?.layout())
    }
}

/// The published name of a tensor: transformers' own newer names (`model.visual.*`, `model.language_model.*`) mapped back.
pub(super) fn published_name(name: &str) -> Cow<'_, str> {
    if let Some(rest) = name.strip_prefix("model.visual.") {
        Cow::Owned(format!("visual.{rest}"))
    } else if let Some(rest) = name.strip_prefix("model.language_model.") {
        Cow::Owned(format!("model.{rest}"))
    } else {
        Cow::Borrowed(name)
    }
}

/// The other way: what transformers from 4.52 on calls what is published under `name`.
pub(crate) fn transformers_name(name: &str) -> Cow<'_, str> {
    if name.starts_with("visual.") {
        Cow::Owned(format!("model.{name}"))
    } else if let Some(rest) = name.strip_prefix("model.") {
        Cow::Owned(format!("model.language_model.{rest}"))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{published_name, transformers_name};

    #[test]
    fn both_name_styles_meet() {
        assert_eq!(published_name("model.visual.merger.ln_q.weight"), "visual.merger.ln_q.weight");
        assert_eq!(published_name("model.language_model.norm.weight"), "model.norm.weight");
        assert_eq!(published_name("model.norm.weight"), "model.norm.weight");
        assert_eq!(published_name("lm_head.weight"), "lm_head.weight");
        for name in ["visual.merger.ln_q.weight", "model.norm.weight", "lm_head.weight"] {
            assert_eq!(published_name(&transformers_name(name)), name);
        }
    }
}
