//! One walk over a module's parameters that speaks the checkpoint's names, shapes and layout.
//!
//! burn keeps linear weights as `[input, output]`, checkpoints as `[output, input]`: both directions are turned here and
//! nowhere else. Parameter ids are hashes of the names, so that optimizer state finds its parameter in every process.
//! A checkpoint's own parameters and those of an adapter on it are walked apart: they are stored in different files.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Tensor, TensorData, backend::Backend},
};
use rayon::prelude::*;

/// Containers whose matrices are the other way round.
const TRANSPOSED: [&str; 3] = ["Struct:Linear", "Struct:Projection", ADAPTER];
const ADAPTER: &str = "Struct:Lora";

/// Which of a module's parameters are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those of the checkpoint.
    Base,
    /// Those of the adapter on it.
    Adapter,
}

impl Part {
    /// The part of a parameter directly inside a container of this type.
    pub(crate) fn of(container: &str) -> Self {
        if container == ADAPTER { Self::Adapter } else { Self::Base }
    }
}

/// A parameter as the checkpoint sees it.
pub(super) struct ParamInfo {
    /// Published name; of an adapter's `LAYER.lora_A.weight` and `LAYER.lora_B.weight`.
    pub(super) name: String,
    /// Shape in the checkpoint, convolution kernels flattened to two axes.
    pub(super) shape: Vec<usize>,
    part: Part,
    transposed: bool,
}

impl ParamInfo {
    fn new(path: &[(String, String)], shape: &[usize]) -> Self {
        let mut names: Vec<&str> = path.iter().map(|(name, _)| name.as_str()).collect();
        let container = path.last().map_or("", |(_, container)| container.as_str());
        let part = Part::of(container);
        if part == Part::Adapter {
            // `LAYER.lora.a`: the fields of `Projection` and `Lora`.
            let matrix = names.pop();
            names.pop();
            names.push(if matrix == Some("a") { "lora_A.weight" } else { "lora_B.weight" });
        }
        let name = names.join(".");
        let transposed = shape.len() == 2 && TRANSPOSED.contains(&container);
        let mut shape = shape.to_vec();
        if transposed {
            shape.reverse();
        }
        Self { name, shape, part, transposed }
    }
}

/// Replaces every parameter of `part` for which `values` gives numbers (in the checkpoint's layout); the others stay as
/// they are.
pub(super) fn fill_parameters<B: Backend, M: Module<B>>(
    module: M,
    part: Part,
    values: impl FnMut(&ParamInfo) -> Option<Vec<f32>>,
) -> M {
    module.map(&mut Filler { part, path: Vec::new(), values })
}

struct Filler<F> {
    part: Part,
    path: Vec<(String, String)>,
    values: F,
}

impl<B: Backend, F: FnMut(&ParamInfo) -> Option<Vec<f32>>> ModuleMapper<B> for Filler<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let shape = param.lazy_shape();
        let info = ParamInfo::new(&self.path, shape.as_slice());
        if info.part != self.part {
            return param;
        }
        let Some(mut values) = (self.values)(&info) else {
            return param;
        };
        if info.transposed {
            values = transpose(&values, info.shape[0], info.shape[1]);
        }
        let tensor = Tensor::from_data(TensorData::new(values, shape), &param.lazy_device());
        Param::initialized(stable_id(&info.name), tensor.require_grad())
    }
}

/// Calls `visit` with every parameter of `part`.
pub(super) fn for_each_parameter<B: Backend, M: Module<B>>(
    module: &M,
    part: Part,
    visit: impl FnMut(ParamInfo, Values),
) {
    module.visit(&mut Reader { part, path: Vec::new(), visit });
}

/// A parameter's numbers, fetched from the device when asked for.
pub(super) struct Values(Box<dyn Fn() -> Vec<f32> + Send + Sync>);

impl Values {
    /// The numbers in the checkpoint's layout.
    pub(super) fn fetch(&self) -> Vec<f32> {
        (self.0)()
    }
}

struct Reader<F> {
    part: Part,
    path: Vec<(String, String)>,
    visit: F,
}

impl<B: Backend, F: FnMut(ParamInfo, Values)> ModuleVisitor<B> for Reader<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.push((name.to_owned(), container_type.to_owned()));
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let dims = tensor.dims();
        let info = ParamInfo::new(&self.path, &dims);
        if info.part != self.part {
            return;
        }
        let transposed = info.transposed;
        let fetch = move || {
            let values: Vec<f32> =
                tensor.to_data().convert::<f32>().into_vec().expect("converted to f32 just before");
            if transposed { transpose(&values, dims[0], dims[1]) } else { values }
        };
        (self.visit)(info, Values(Box::new(fetch)));
    }
}

/// `[rows, cols]` to `[cols, rows]`.
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    // A few target rows at a time keep the strided side in cache.
    out.par_chunks_mut(rows * 16).enumerate().for_each(|(block, out)| {
        let first = block * 16;
        for row in 0..rows {
            for (i, out_row) in out.chunks_exact_mut(rows).enumerate() {
                out_row[row] = values[row * cols + first + i];
            }
        }
    });
    out
}

/// FNV-1a of the name: stable over processes and releases, as stored optimizer state needs.
fn stable_id(name: &str) -> ParamId {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ParamId::from(hash)
}

#[cfg(test)]
mod tests {
    use super::transpose;

    #[test]
    fn transposes_ragged_blocks() {
        let values: Vec<f32> = (0..3 * 19).map(|i| i as f32).collect();
        let turned = transpose(&values, 3, 19);
        assert_eq!(turned[..4], [0.0, 19.0, 38.0, 1.0]);
        assert_eq!(transpose(&turned, 19, 3), values);
    }
}
