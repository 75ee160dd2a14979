//! What the tests of this room and of gradients share: the parity checkpoint, its records, adapters of PEFT on it, gradients by name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::{
    backend::Autodiff,
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
    },
};
use burn_flex::Flex;
use safetensors::{Dtype, SafeTensors};

use crate::{
    ModelError,
    checkpoint::{CheckpointSource, Pretrained},
    group_forward::{Group, LogProbOptions, completion_log_probs},
    processor::{Encoded, GridThw, Patches},
    qwen2_5_vl::Qwen25Vl,
    vlm::Vlm,
    weights::transformers_name,
};

pub(crate) type Plain = Flex;
pub(crate) type Learning = Autodiff<Flex>;

/// Adapters in `tests/data/lora`.
pub(crate) const ADAPTERS: [&str; 2] = ["language", "everywhere"];
/// Records of the parity fixture that `tests/fixtures/lora.py` runs.
pub(crate) const RECORDS: [usize; 3] = [0, 7, 10];

const CLIP_MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const CLIP_STD: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

fn tests_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data")
}

pub(crate) fn adapter_dir(name: &str) -> PathBuf {
    tests_data().join("lora").join(name)
}

pub(crate) fn base<B: Backend>() -> (Qwen25Vl<B>, CheckpointSource) {
    parity("flat_tied")
}

/// A checkpoint of `tests/data/parity`.
pub(crate) fn parity<B: Backend>(name: &str) -> (Qwen25Vl<B>, CheckpointSource) {
    Qwen25Vl::from_dir(&tests_data().join("parity").join(name), &B::Device::default()).unwrap()
}

/// The tensors of a safetensors file as numbers, with their shapes.
#[derive(Debug, PartialEq)]
pub(crate) struct Tensors(pub(super) BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let numbers = |dtype, data: &[u8]| -> Vec<f64> {
            match dtype {
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
                Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
                Dtype::U8 => data.iter().map(|byte| f64::from(*byte)).collect(),
                other => panic!("{other:?}"),
            }
        };
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let entry = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            (name, (view.shape().to_vec(), numbers(view.dtype(), view.data())))
        };
        Self(file.tensors().into_iter().map(entry).collect())
    }

    pub(crate) fn of_adapter(name: &str) -> Self {
        Self::read(&tests_data().join(format!("lora/{name}.safetensors")))
    }

    pub(crate) fn get(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no tensor `{name}`")).1
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).iter().map(|id| *id as u32).collect()
    }

    /// Patches from grey levels `[patches, 3, frames, side, side]`; a picture is both frames of its patches.
    fn patches(&self, index: usize, kind: &str, grids: &str) -> Patches {
        let Some((shape, levels)) = self.0.get(&format!("{index}.{kind}_levels")) else {
            return Patches::default();
        };
        let frame = shape[3] * shape[4];
        let values = levels
            .chunks(shape[2] * frame)
            .enumerate()
            .flat_map(|(row, levels)| {
                let channel = row % 3;
                let value =
                    move |level: &f64| ((level / 255.0 - CLIP_MEAN[channel]) / CLIP_STD[channel]) as f32;
                levels.iter().cycle().take(2 * frame).map(value)
            })
            .collect();
        let grids = self.get(&format!("{index}.{grids}")).chunks(3);
        let grid = |grid: &[f64]| GridThw { t: grid[0] as usize, h: grid[1] as usize, w: grid[2] as usize };
        Patches { values, grids: grids.map(grid).collect() }
    }
}

/// A prompt and its answer.
pub(crate) struct Record {
    pub(crate) prompt: Encoded,
    pub(crate) answer: Vec<u32>,
}

/// The records in the order of [`RECORDS`].
pub(crate) fn records() -> Vec<Record> {
    let parity = Tensors::read(&tests_data().join("parity/flat_tied.safetensors"));
    let record = |index: usize| Record {
        prompt: Encoded {
            input_ids: parity.ids(&format!("{index}.prompt_ids")),
            images: parity.patches(index, "pixel_values", "image_grid_thw"),
            videos: parity.patches(index, "pixel_values_videos", "video_grid_thw"),
            second_per_grid_ts: parity
                .0
                .get(&format!("{index}.second_per_grid_ts"))
                .map(|(_, values)| values.iter().map(|value| *value as f32).collect())
                .unwrap_or_default(),
        },
        answer: parity.ids(&format!("{index}.answer_token_ids")),
    };
    RECORDS.into_iter().map(record).collect()
}

/// Log-probabilities of `completions`, padded to `[completions, len]`.
pub(crate) fn score<B: Backend>(
    model: &Qwen25Vl<B>,
    prompt: &Encoded,
    completions: &[Vec<u32>],
) -> Tensor<B, 2> {
    let group = Group { prompt, completions };
    completion_log_probs(model, &[group], LogProbOptions::default(), &B::Device::default()).unwrap().log_probs
}

pub(crate) fn numbers<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

/// Log-probabilities of the answers of all records.
pub(crate) fn answers<B: Backend>(model: &Qwen25Vl<B>) -> Vec<Vec<f32>> {
    let answer =
        |record: &Record| numbers(score(model, &record.prompt, std::slice::from_ref(&record.answer)));
    records().iter().map(answer).collect()
}

/// Mean negative log-likelihood of all tokens of the answers.
pub(crate) fn loss<B: Backend, M: Vlm<B>>(model: &M) -> Tensor<B, 1> {
    let records = records();
    let count: usize = records.iter().map(|record| record.answer.len()).sum();
    let sums = records.iter().map(|record| {
        let completions = [record.answer.clone()];
        let group = Group { prompt: &record.prompt, completions: &completions };
        let scored =
            completion_log_probs(model, &[group], LogProbOptions::default(), &B::Device::default()).unwrap();
        scored.log_probs.sum()
    });
    Tensor::cat(sums.collect(), 0).sum().div_scalar(-(count as f64))
}

/// The gradients of `loss` that are there, by the name and in the layout of PEFT's files for matrices of an adapter.
pub(crate) fn gradients<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    loss: impl FnOnce(&M) -> Tensor<B, 1>,
) -> BTreeMap<String, Vec<f32>> {
    let (gradients, ()) =
        crate::gradients::gradients(model, |view| Ok::<_, ModelError>((loss(view), ()))).unwrap();
    by_name(model, &gradients)
}

/// Those of `model` among `gradients`, named as [`gradients`](self::gradients) does.
pub(crate) fn by_name<B: AutodiffBackend, M: AutodiffModule<B>>(
    model: &M,
    gradients: &GradientsParams,
) -> BTreeMap<String, Vec<f32>> {
    let mut named = Named { path: Vec::new(), gradients, found: BTreeMap::new() };
    model.visit(&mut named);
    named.found
}

struct Named<'g> {
    path: Vec<String>,
    gradients: &'g GradientsParams,
    found: BTreeMap<String, Vec<f32>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Named<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) else { return };
        let path = self.path.join(".");
        let matrix = [(".lora.a", ".lora_A.weight"), (".lora.b", ".lora_B.weight")]
            .into_iter()
            .find_map(|(end, matrix)| Some(format!("{}{matrix}", path.strip_suffix(end)?)));
        let (name, gradient) = match matrix {
            Some(name) => {
                (format!("base_model.model.{}", transformers_name(&name)), gradient.swap_dims(0, 1))
            }
            None => (path, gradient),
        };
        assert!(self.found.insert(name, numbers(gradient)).is_none());
    }
}

/// `|ours - reference| / |reference|` in L2 norm.
pub(crate) fn relative_l2(ours: &[f32], reference: impl IntoIterator<Item = f64>) -> f64 {
    let reference: Vec<f64> = reference.into_iter().collect();
    assert_eq!(ours.len(), reference.len());
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let apart = squares(&mut ours.iter().zip(&reference).map(|(a, b)| f64::from(*a) - b));
    (apart / squares(&mut reference.iter().copied())).sqrt()
}

/// The largest distance of two sets of numbers.
pub(crate) fn furthest(ours: &[f32], reference: impl IntoIterator<Item = f64>) -> f64 {
    let reference: Vec<f64> = reference.into_iter().collect();
    assert_eq!(ours.len(), reference.len());
    ours.iter().zip(reference).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}
