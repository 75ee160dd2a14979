//! Memory-mapped safetensors files of one checkpoint directory, sharded or single.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use serde::Deserialize;

use super::layout::{CheckpointLayout, StoredTensor};
use crate::ModelError;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

struct Shard {
    path: PathBuf,
    map: Mmap,
    data_start: usize,
}

/// All tensors of a checkpoint by published name; nothing is read before it is asked for.
pub(super) struct CheckpointReader {
    dir: PathBuf,
    shards: Vec<Shard>,
    tensors: BTreeMap<String, (usize, String, TensorInfo)>,
    published_name: fn(&str) -> Cow<'_, str>,
}

impl CheckpointReader {
    /// `published_name` is told the name of a tensor in a file.
    pub(super) fn open(dir: &Path, published_name: fn(&str) -> Cow<'_, str>) -> Result<Self, ModelError> {
        let index_path = dir.join(INDEX);
        let (files, indexed) = if index_path.exists() {
            let text = std::fs::read_to_string(&index_path).map_err(ModelError::io(&index_path))?;
            let index: ShardIndex = serde_json::from_str(&text)
                .map_err(|error| ModelError::file(&index_path, format!("not a shard index: {error}")))?;
            let files: BTreeSet<String> = index.weight_map.values().cloned().collect();
            if let Some(file) =
                files.iter().find(|file| Path::new(file).components().count() != 1 || file.contains(".."))
            {
                return Err(ModelError::file(
                    &index_path,
                    format!("shard `{file}` is not a plain file name"),
                ));
            }
            (files.into_iter().collect(), Some(index.weight_map))
        } else if dir.join(SINGLE).exists() {
            (vec![SINGLE.to_owned()], None)
        } else {
            return Err(ModelError::file(dir, format!("holds neither {SINGLE} nor {INDEX}")));
        };

        let mut reader =
            Self { dir: dir.to_owned(), shards: Vec::new(), tensors: BTreeMap::new(), published_name };
        for file in files {
            reader.add_shard(&dir.join(file))?;
        }
        if let Some(weight_map) = indexed
            && let Some(name) =
                weight_map.keys().find(|name| !reader.tensors.contains_key(&*published_name(name)))
        {
            return Err(ModelError::file(index_path, format!("names tensor `{name}`, which no shard holds")));
        }
        Ok(reader)
    }

    /// The tensors of one file that is no checkpoint of its own.
    pub(super) fn open_file(
        path: &Path,
        published_name: fn(&str) -> Cow<'_, str>,
    ) -> Result<Self, ModelError> {
        let mut reader =
            Self { dir: path.to_owned(), shards: Vec::new(), tensors: BTreeMap::new(), published_name };
        reader.add_shard(path)?;
        Ok(reader)
    }

    fn add_shard(&mut self, path: &Path) -> Result<(), ModelError> {
        let file = File::open(path).map_err(ModelError::io(path))?;
        // SAFETY: the map is read-only; a file changed by another process while mapped can give wrong numbers, as with
        // every reader of this format, but every offset is checked against the map's length below.
        let map = unsafe { Mmap::map(&file) }.map_err(ModelError::io(path))?;
        let (header, metadata) = SafeTensors::read_metadata(&map)
            .map_err(|error| ModelError::file(path, format!("not a valid safetensors file: {error}")))?;
        let data_start = header + size_of::<u64>();
        for (name, info) in metadata.tensors() {
            if data_start.checked_add(info.data_offsets.1).is_none_or(|end| end > map.len()) {
                return Err(ModelError::file(
                    path,
                    format!("tensor `{name}` ends after the end of the file: truncated?"),
                ));
            }
            let published = (self.published_name)(&name).into_owned();
            if let Some((_, other, _)) =
                self.tensors.insert(published, (self.shards.len(), name.clone(), info.clone()))
            {
                return Err(ModelError::file(
                    path,
                    format!("tensor `{name}` stands twice in the checkpoint (also as `{other}`)"),
                ));
            }
        }
        self.shards.push(Shard { path: path.to_owned(), map, data_start });
        Ok(())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn layout(&self) -> CheckpointLayout {
        let stored = |(_, name, info): &(usize, String, TensorInfo)| StoredTensor {
            name: name.clone(),
            dtype: info.dtype,
            shape: info.shape.clone(),
        };
        CheckpointLayout {
            tensors: self.tensors.iter().map(|(name, tensor)| (name.clone(), stored(tensor))).collect(),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|(_, _, info)| info.shape.as_slice())
    }

    /// The values of a tensor widened to f32, which is exact for every accepted type.
    pub(super) fn read_f32(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let (shard, stored_name, info) = &self.tensors[name];
        let shard = &self.shards[*shard];
        let bytes =
            &shard.map[shard.data_start + info.data_offsets.0..shard.data_start + info.data_offsets.1];
        match info.dtype {
            Dtype::F32 => Ok(widen(bytes, f32::from_le_bytes)),
            Dtype::F16 => Ok(widen(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Ok(widen(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            other => Err(ModelError::file(
                &shard.path,
                format!("tensor `{stored_name}` is stored as {other:?}; only F32, F16 and BF16 are read"),
            )),
        }
    }
}

fn widen<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32 + Sync) -> Vec<f32> {
    bytes.as_chunks::<N>().0.par_iter().map(|chunk| convert(*chunk)).collect()
}
