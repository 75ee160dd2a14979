//! Fills a model from a checkpoint directory, one tensor in flight at a time.

use std::{collections::BTreeSet, path::Path};

use burn::{module::Module, tensor::backend::Backend};

use super::{layout::CheckpointLayout, module_map::fill_parameters, reader::CheckpointReader};
use crate::ModelError;

/// Loads the weights of `dir` into `model`; the layout tells [`save_weights`](super::save_weights) how they were stored.
///
/// `ignorable` names tensors that may be in the file though the model has no place for them.
///
/// # Errors
/// All missing, surplus and wrong-shaped tensors in one message.
pub fn load_weights<B: Backend, M: Module<B>>(
    model: M,
    dir: &Path,
    ignorable: &[&str],
) -> Result<(M, CheckpointLayout), ModelError> {
    let reader = CheckpointReader::open(dir)?;
    let mut surplus: BTreeSet<String> = reader.names().cloned().collect();
    for name in ignorable {
        surplus.remove(*name);
    }
    let mut problems = Vec::new();
    let mut failure = None;
    let model = fill_parameters(model, |info| {
        surplus.remove(&info.name);
        let Some(stored) = reader.shape(&info.name) else {
            problems.push(format!("  missing: {} {:?}", info.name, info.shape));
            return None;
        };
        if flattened(stored, info.shape.len()) != info.shape {
            problems.push(format!(
                "  wrong shape: {} is {stored:?}, the config asks for {:?}",
                info.name, info.shape
            ));
            return None;
        }
        if failure.is_some() {
            return None;
        }
        reader.read_f32(&info.name).map_err(|error| failure = Some(error)).ok()
    });
    problems.extend(surplus.into_iter().map(|name| format!("  surplus: {name}")));
    if !problems.is_empty() {
        return Err(ModelError::Tensors { path: reader.dir().to_owned(), report: problems.join("\n") });
    }
    match failure {
        Some(error) => Err(error),
        None => Ok((model, reader.layout())),
    }
}

/// `shape` with its trailing axes multiplied together so that `axes` are left: a convolution kernel as a matrix.
fn flattened(shape: &[usize], axes: usize) -> Vec<usize> {
    if shape.len() <= axes || axes == 0 {
        return shape.to_vec();
    }
    let (head, tail) = shape.split_at(axes - 1);
    head.iter().copied().chain([tail.iter().product()]).collect()
}
