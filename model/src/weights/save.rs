//! Writes a model as safetensors that transformers loads: same names, same types, bit-equal where nothing changed.

use std::{borrow::Cow, collections::BTreeMap, collections::HashMap, fs::File, path::Path};

use burn::{module::Module, tensor::backend::Backend};
use half::{bf16, f16};
use safetensors::{Dtype, View, tensor::serialize_to_file};
use serde_json::json;

use super::{
    layout::{CheckpointLayout, StoredTensor},
    module_map::{Part, Values, for_each_parameter},
};
use crate::ModelError;

/// Shards stay below this, as Hugging Face's do.
const MAX_SHARD_BYTES: usize = 5_000_000_000;

/// Which number format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavePrecision {
    /// Each tensor as it was loaded: for a finished model.
    AsLoaded,
    /// f32, so that training goes on from exactly these numbers.
    F32,
}

/// A tensor whose numbers are fetched when they are written.
pub(super) struct LazyTensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) values: Values,
}

impl View for LazyTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.fetch();
        Cow::Owned(match self.dtype {
            Dtype::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        })
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.dtype == Dtype::F32 { 4 } else { 2 }
    }
}

/// Writes `model.safetensors` (or shards with an index) into the existing folder `dir` and syncs them.
///
/// Names, shapes and, if `precision` says so, types follow `layout`; a tensor it does not know is written in f32 under
/// its published name with the model's own shape. Matrices of an adapter are left out.
pub fn save_weights<B: Backend, M: Module<B>>(
    model: &M,
    layout: &CheckpointLayout,
    precision: SavePrecision,
    dir: &Path,
) -> Result<(), ModelError> {
    let mut tensors: Vec<(String, LazyTensor)> = Vec::new();
    for_each_parameter(model, Part::Base, |info, values| {
        let stored = layout.tensors.get(&info.name).cloned().unwrap_or_else(|| StoredTensor {
            name: info.name.clone(),
            dtype: Dtype::F32,
            shape: info.shape.clone(),
        });
        let dtype = match precision {
            SavePrecision::AsLoaded => stored.dtype,
            SavePrecision::F32 => Dtype::F32,
        };
        tensors.push((stored.name, LazyTensor { dtype, shape: stored.shape, values }));
    });

    let total: usize = tensors.iter().map(|(_, tensor)| tensor.data_len()).sum();
    if total <= MAX_SHARD_BYTES {
        return write_file(tensors, &dir.join("model.safetensors"));
    }
    let mut shards: Vec<Vec<(String, LazyTensor)>> = vec![Vec::new()];
    let mut room = MAX_SHARD_BYTES;
    for tensor in tensors {
        let bytes = tensor.1.data_len();
        if bytes > room && shards.last().is_some_and(|shard| !shard.is_empty()) {
            shards.push(Vec::new());
            room = MAX_SHARD_BYTES;
        }
        room = room.saturating_sub(bytes);
        shards.last_mut().expect("starts with one shard").push(tensor);
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (number, shard) in shards.into_iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        weight_map.extend(shard.iter().map(|(name, _)| (name.clone(), file.clone())));
        write_file(shard, &dir.join(file))?;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    let path = dir.join("model.safetensors.index.json");
    std::fs::write(&path, index.to_string()).map_err(ModelError::io(&path))
}

/// Writes and syncs one file.
pub(super) fn write_file(tensors: Vec<(String, LazyTensor)>, path: &Path) -> Result<(), ModelError> {
    // transformers refuses files without this entry.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(tensors, Some(metadata), path)
        .map_err(|error| ModelError::file(path, format!("could not be written: {error}")))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(ModelError::io(path))
}
