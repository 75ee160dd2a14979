//! The vision tower: patches through windowed and full attention, merged 2 × 2 into tokens.
//!
//! Source: `Qwen2_5_VisionTransformerPretrainedModel` of transformers 4.57. Time is never mixed beyond the two frames of
//! a patch: full attention spans one temporal slice.

use burn::{
    module::{Module, ParamId, list_param_ids},
    nn::Linear,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};

use super::{
    VisionConfig,
    windows::{Run, Segmentation, invert},
};
use crate::{
    attention::{Attention, Heads, KeyValue, Rows},
    gated_mlp::{GatedMlp, new_linear},
    gelu::Gelu,
    precision::{Precision, raised},
    processor::{GridThw, Patches},
    projection::{Projection, named},
    rms_norm::RmsNorm,
    rotary::{RotaryTable, inverse_frequencies},
    trainable::base_learns,
};

/// The reference hard-codes the epsilon of the tower's norms.
const EPSILON: f64 = 1e-6;
/// Base of the tower's rotary frequencies, hard-coded in the reference too.
const ROTARY_BASE: f64 = 10_000.0;

/// Patch embedding, blocks and merger.
#[derive(Module, Debug)]
pub struct VisionTower<B: Backend> {
    patch_embed: PatchEmbed<B>,
    blocks: Vec<VisionBlock<B>>,
    merger: PatchMerger<B>,
    #[module(skip)]
    config: VisionConfig,
}

/// The 3-D convolution whose stride is its kernel: a linear map of flattened patches.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    proj: Linear<B>,
}

/// One transformer block.
#[derive(Module, Debug)]
pub struct VisionBlock<B: Backend> {
    norm1: RmsNorm<B>,
    attn: VisionAttention<B>,
    norm2: RmsNorm<B>,
    mlp: GatedMlp<B>,
}

/// Fused projections of a block's attention.
#[derive(Module, Debug)]
pub struct VisionAttention<B: Backend> {
    qkv: Projection<B>,
    proj: Projection<B>,
}

/// Norm per patch, then four patches through a two-layer perceptron.
#[derive(Module, Debug)]
pub struct PatchMerger<B: Backend> {
    ln_q: RmsNorm<B>,
    mlp: (Projection<B>, Gelu, Projection<B>),
}

/// Rows to select before and after attending in another order than the one the rows are in.
struct Reorder<B: Backend> {
    there: Tensor<B, 1, Int>,
    back: Tensor<B, 1, Int>,
}

impl<B: Backend> VisionTower<B> {
    pub(super) fn new(config: &VisionConfig, device: &B::Device) -> Self {
        let width = config.hidden_size;
        let merged = width * config.merge_unit();
        Self {
            patch_embed: PatchEmbed { proj: new_linear(config.patch_dim(), width, false, device) },
            blocks: (0..config.depth).map(|_| VisionBlock::new(config, device)).collect(),
            merger: PatchMerger {
                ln_q: RmsNorm::new(width, EPSILON, device),
                mlp: (
                    Projection::new(merged, merged, true, device),
                    Gelu,
                    Projection::new(merged, config.out_hidden_size, true, device),
                ),
            },
            config: config.clone(),
        }
    }

    /// The tower and its merger learning or frozen; their adapters stay as they are.
    pub(super) fn with_trainable(self, tower: bool, merger: bool) -> Self {
        Self {
            patch_embed: base_learns(self.patch_embed, tower),
            blocks: base_learns(self.blocks, tower),
            merger: base_learns(self.merger, merger),
            config: self.config,
        }
    }

    /// Parameters of everything but the merger.
    pub(super) fn tower_parameters(&self) -> Vec<ParamId> {
        [list_param_ids(&self.patch_embed), list_param_ids(&self.blocks)].concat()
    }

    /// Parameters of the merger.
    pub(super) fn merger_parameters(&self) -> Vec<ParamId> {
        list_param_ids(&self.merger)
    }

    /// The layers an adapter may sit on, under their published names.
    pub(super) fn projections(&mut self) -> impl Iterator<Item = (String, &mut Projection<B>)> {
        let (first, _, second) = &mut self.merger.mlp;
        let merger = named("visual.merger.mlp", [("0", first), ("2", second)]);
        let blocks = self.blocks.iter_mut().enumerate().flat_map(|(index, block)| {
            let VisionAttention { qkv, proj } = &mut block.attn;
            named(&format!("visual.blocks.{index}.attn"), [("qkv", qkv), ("proj", proj)])
                .chain(block.mlp.projections(&format!("visual.blocks.{index}.mlp")))
        });
        blocks.chain(merger)
    }

    /// Features of all patches of `media` in order, `[num_tokens, out_hidden_size]`.
    pub fn forward(&self, media: &[&Patches], precision: Precision, device: &B::Device) -> Tensor<B, 2> {
        let config = &self.config;
        let grids: Vec<GridThw> = media.iter().flat_map(|patches| patches.grids.iter().copied()).collect();
        let num_patches: usize = grids.iter().map(|grid| grid.num_patches()).sum();

        let windows = Segmentation::windows(config, &grids);
        let slices = Segmentation::slices(&grids);
        // Rows go through the tower in window order, as all but a few blocks want them.
        let to_slices = slices
            .selection_from(&windows.order)
            .map(|there| Reorder { back: index(invert(&there), device), there: index(there, device) });
        let identity = windows.order.iter().enumerate().all(|(place, &patch)| place == patch as usize);

        let dim = config.patch_dim();
        let mut values = Vec::with_capacity(num_patches * dim);
        let rows: Vec<f32> = media.iter().flat_map(|patches| patches.values.iter().copied()).collect();
        for &patch in &windows.order {
            values.extend_from_slice(&rows[patch as usize * dim..(patch as usize + 1) * dim]);
        }
        let mut hidden = self
            .patch_embed
            .proj
            .forward(Tensor::from_data(TensorData::new(values, [num_patches, dim]), device));
        let angles = patch_angles(config, &grids, &windows.order);
        let rotary = RotaryTable::new(&angles, config.head_dim() / 2, config.num_heads);

        for (number, block) in self.blocks.iter().enumerate() {
            let (runs, reorder) = if config.fullatt_block_indexes.contains(&number) {
                (&slices.runs, to_slices.as_ref())
            } else {
                (&windows.runs, None)
            };
            let attend = |x: Tensor<B, 2>| block.attn.forward(&x, &rotary, runs, reorder, config);
            hidden = block.forward(hidden, attend, precision);
        }
        let merged = self.merger.forward(hidden, config.merge_unit(), precision);
        if identity {
            return merged;
        }
        let units: Vec<i32> = windows
            .order
            .iter()
            .step_by(config.merge_unit())
            .map(|patch| patch / config.merge_unit() as i32)
            .collect();
        merged.select(0, index(invert(&units), device))
    }
}

impl<B: Backend> VisionBlock<B> {
    fn new(config: &VisionConfig, device: &B::Device) -> Self {
        let width = config.hidden_size;
        Self {
            norm1: RmsNorm::new(width, EPSILON, device),
            attn: VisionAttention {
                qkv: Projection::new(width, 3 * width, true, device),
                proj: Projection::new(width, width, true, device),
            },
            norm2: RmsNorm::new(width, EPSILON, device),
            mlp: GatedMlp::new(width, config.intermediate_size, true, device),
        }
    }

    fn forward(
        &self,
        hidden: Tensor<B, 2>,
        attend: impl Fn(Tensor<B, 2>) -> Tensor<B, 2>,
        precision: Precision,
    ) -> Tensor<B, 2> {
        let attended = attend(precision.lower(self.norm1.forward(hidden.clone())));
        let hidden = hidden + raised(attended);
        let mlp = self.mlp.forward(precision.lower(self.norm2.forward(hidden.clone())));
        hidden + raised(mlp)
    }
}

impl<B: Backend> VisionAttention<B> {
    fn forward(
        &self,
        x: &Tensor<B, 2>,
        rotary: &RotaryTable<B>,
        runs: &[Run],
        reorder: Option<&Reorder<B>>,
        config: &VisionConfig,
    ) -> Tensor<B, 2> {
        let [query, key, value] = self.qkv.forward_parts(x);
        let parts = [rotary.rotate(query), rotary.rotate(key), value];
        let [query, key, value] = match reorder {
            Some(reorder) => parts.map(|part| part.select(0, reorder.there.clone())),
            None => parts,
        };
        let heads = Heads { query: config.num_heads, kv: config.num_heads, dim: config.head_dim() };
        let mut first = 0;
        let attended: Vec<Tensor<B, 2>> = runs
            .iter()
            .map(|run| {
                let rows = run.segments * run.len;
                let part = |x: &Tensor<B, 2>| x.clone().narrow(0, first, rows);
                let attention = Attention::full(Rows::independent(run.segments, run.len), heads);
                let own = KeyValue::new(part(&key), part(&value), attention.rows, heads);
                let attended = attention.attend(part(&query), &own, None);
                first += rows;
                attended
            })
            .collect();
        let attended = Tensor::cat(attended, 0);
        self.proj.forward(match reorder {
            Some(reorder) => attended.select(0, reorder.back.clone()),
            None => attended,
        })
    }
}

impl<B: Backend> PatchMerger<B> {
    fn forward(&self, hidden: Tensor<B, 2>, unit: usize, precision: Precision) -> Tensor<B, 2> {
        let [patches, width] = hidden.dims();
        let x = precision.lower(self.ln_q.forward(hidden)).reshape([patches / unit, width * unit]);
        let (first, gelu, second) = &self.mlp;
        raised(second.forward(gelu.forward(first.forward(x))))
    }
}

/// Rotary angles `[patches, head_dim / 2]` of the patches in `order`: the first half follows the row, the second the column.
fn patch_angles(config: &VisionConfig, grids: &[GridThw], order: &[i32]) -> Vec<f32> {
    let frequencies = inverse_frequencies(ROTARY_BASE, config.head_dim() / 2);
    let merge = config.spatial_merge_size;
    let mut places = Vec::with_capacity(order.len());
    for grid in grids {
        for _ in 0..grid.t {
            for row in (0..grid.h).step_by(merge) {
                for col in (0..grid.w).step_by(merge) {
                    places.extend((0..merge * merge).map(|i| (row + i / merge, col + i % merge)));
                }
            }
        }
    }
    order
        .iter()
        .flat_map(|&patch| {
            let (row, col) = places[patch as usize];
            [row, col]
                .into_iter()
                .flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency))
        })
        .collect()
}

fn index<B: Backend>(values: Vec<i32>, device: &B::Device) -> Tensor<B, 1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
