//! Fills a model from a checkpoint directory, one tensor in flight at a time.

use std::{borrow::Cow, collections::BTreeSet, path::Path};

use burn::{module::Module, tensor::backend::Backend};

use super::{
    layout::{CheckpointLayout, published_name},
    module_map::{Part, fill_parameters},
    reader::CheckpointReader,
};
use crate::ModelError;

/// How a module's parameters meet a checkpoint's tensors: both are brought to the published name.
pub(crate) struct NameMap {
    /// From the path of a parameter.
    pub(crate) parameter: fn(&str) -> Cow<'_, str>,
    /// From the name in a file.
    pub(crate) stored: fn(&str) -> Cow<'_, str>,
    /// Whether a published name may be in the file though the model has no place for it.
    pub(crate) is_ignorable: fn(&str) -> bool,
}

/// Loads the weights of `dir` into a model whose fields are not called as its tensors are.
///
/// # Errors
/// As [`load_weights`].
pub(crate) fn load_renamed<B: Backend, M: Module<B>>(
    model: M,
    dir: &Path,
    names: &NameMap,
) -> Result<M, ModelError> {
    let reader = CheckpointReader::open(dir, names.stored)?;
    fill_from(&reader, model, Part::Base, names.parameter, names.is_ignorable)
}

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
    let reader = CheckpointReader::open(dir, published_name)?;
    let model = fill_from(&reader, model, Part::Base, unchanged, |name| ignorable.contains(&name))?;
    Ok((model, reader.layout()))
}

pub(super) fn unchanged(name: &str) -> Cow<'_, str> {
    Cow::Borrowed(name)
}

/// Fills `part` of `model` with the tensors of `reader`.
pub(super) fn fill_from<B: Backend, M: Module<B>>(
    reader: &CheckpointReader,
    model: M,
    part: Part,
    parameter_name: impl Fn(&str) -> Cow<'_, str>,
    is_ignorable: impl Fn(&str) -> bool,
) -> Result<M, ModelError> {
    let mut surplus: BTreeSet<&str> =
        reader.names().map(String::as_str).filter(|name| !is_ignorable(name)).collect();
    let mut problems = Vec::new();
    let mut failure = None;
    let model = fill_parameters(model, part, |info| {
        let name = parameter_name(&info.name);
        surplus.remove(&*name);
        let Some(stored) = reader.shape(&name) else {
            problems.push(format!("  missing: {name} {:?}", info.shape));
            return None;
        };
        if flattened(stored, info.shape.len()) != info.shape {
            problems
                .push(format!("  wrong shape: {name} is {stored:?}, the config asks for {:?}", info.shape));
            return None;
        }
        if failure.is_some() {
            return None;
        }
        reader.read_f32(&name).map_err(|error| failure = Some(error)).ok()
    });
    problems.extend(surplus.into_iter().map(|name| format!("  surplus: {name}")));
    if !problems.is_empty() {
        return Err(ModelError::Tensors { path: reader.dir().to_owned(), report: problems.join("\n") });
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(model),
    }
}

/// `shape` with its trailing axes multiplied together so that `axes` are left: a convolution kernel as a matrix.
fn flattened(shape: &[usize], axes: usize) -> Vec<usize> {
    if shape.len() <= axes || axes == 0 {
        return shape.to_vec();
    }
    let (head, tail) = shape.split_at(axes - 1);
    head.iter().copied().chain([tail.iter().copied().fold(1, usize::saturating_mul)]).collect()
}
