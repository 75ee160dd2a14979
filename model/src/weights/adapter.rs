//! The matrices of an adapter: fresh, and as PEFT stores them.

use std::{borrow::Cow, collections::BTreeSet, path::Path};

use burn::{module::Module, tensor::backend::Backend};
use rand::Rng;
use safetensors::Dtype;

use super::{
    init::named_stream,
    layout::{published_name, transformers_name},
    load::{fill_from, unchanged},
    module_map::{Part, fill_parameters, for_each_parameter},
    reader::CheckpointReader,
    save::{LazyTensor, write_file},
};
use crate::ModelError;

/// Where PEFT keeps the matrices.
const ADAPTER_FILE: &str = "adapter_model.safetensors";
/// PEFT's wrappers around the model.
const PREFIX: &str = "base_model.model.";
const MATRICES: [&str; 2] = [".lora_A.weight", ".lora_B.weight"];

/// Fills the adapter on `model` as PEFT does: `A` uniform within `1 / √input` (Kaiming with `a = √5`), `B` zero.
///
/// Each matrix draws from a stream of its own, named by `seed` and the matrix's name.
pub(crate) fn init_adapter<B: Backend, M: Module<B>>(model: M, seed: u64) -> M {
    fill_parameters(model, Part::Adapter, |info| {
        let len = info.shape.iter().product();
        if info.name.ends_with(MATRICES[1]) {
            return Some(vec![0.0; len]);
        }
        let bound = 1.0 / (info.shape[1] as f64).sqrt();
        let mut rng = named_stream(seed, &info.name);
        Some((0..len).map(|_| ((2.0 * rng.random::<f64>() - 1.0) * bound) as f32).collect())
    })
}

/// Published names of the layers that have a matrix in the file of `dir`.
pub(crate) fn adapter_layers(dir: &Path) -> Result<BTreeSet<String>, ModelError> {
    let reader = CheckpointReader::open_file(&dir.join(ADAPTER_FILE), adapter_name)?;
    let layer = |name: &String| MATRICES.iter().find_map(|end| name.strip_suffix(end)).map(str::to_owned);
    Ok(reader.names().filter_map(layer).collect())
}

/// Fills the adapter on `model` from the file of `dir`.
///
/// # Errors
/// All missing, surplus and wrong-shaped tensors in one message.
pub(crate) fn load_adapter_weights<B: Backend, M: Module<B>>(model: M, dir: &Path) -> Result<M, ModelError> {
    let reader = CheckpointReader::open_file(&dir.join(ADAPTER_FILE), adapter_name)?;
    fill_from(&reader, model, Part::Adapter, unchanged, |_| false)
}

/// Writes the adapter on `model`, in f32, into the existing folder `dir`.
pub(crate) fn save_adapter_weights<B: Backend, M: Module<B>>(
    model: &M,
    dir: &Path,
) -> Result<(), ModelError> {
    let mut tensors = Vec::new();
    for_each_parameter(model, Part::Adapter, |info, values| {
        let name = format!("{PREFIX}{}", transformers_name(&info.name));
        tensors.push((name, LazyTensor { dtype: Dtype::F32, shape: info.shape, values }));
    });
    write_file(tensors, &dir.join(ADAPTER_FILE))
}

/// The published name of a tensor of the file, whichever generation of transformers wrote it.
fn adapter_name(name: &str) -> Cow<'_, str> {
    published_name(name.strip_prefix(PREFIX).unwrap_or(name))
}
