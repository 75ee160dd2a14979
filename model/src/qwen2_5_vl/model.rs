//! The whole model and its [`Vlm`] face.

use std::{path::Path, sync::Arc};

use burn::{
    module::{Module, ParamId, list_param_ids},
    nn::Linear,
    tensor::{Int, Tensor, TensorData, backend::Backend},
};
use serde_json::{Map, Value};

use super::{DecoderLayer, Qwen25VlConfig, TextModel, VisionTower, positions, text::new_pass};
use crate::{
    ModelError,
    attention::{Mask, Rows},
    checkpoint::{CheckpointSource, Pretrained},
    decoder::DecoderPass,
    gated_mlp::new_linear,
    lora::Adaptable,
    output_head::OutputHead,
    precision::Precision,
    processor::{Encoded, Patches},
    projection::Projection,
    shared_media::SharedMedia,
    trainable::{ModelPart, Trainable, any_learns, base_learns},
    vision_store::VisionStore,
    vlm::{Positions, Vlm},
    weights::load_weights,
};

/// Qwen2.5-VL (Bai et al. 2025).
#[derive(Module, Debug)]
pub struct Qwen25Vl<B: Backend> {
    visual: VisionTower<B>,
    model: TextModel<B>,
    /// Absent when the head is the embedding table.
    lm_head: Option<Linear<B>>,
    #[module(skip)]
    config: Qwen25VlConfig,
    #[module(skip)]
    vision_store: Option<Arc<VisionStore>>,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> Qwen25Vl<B> {
    /// The model without weights: they are allocated when loaded, or zero at first use.
    pub fn new(config: &Qwen25VlConfig, device: &B::Device) -> Self {
        let text = &config.text;
        Self {
            visual: VisionTower::new(&config.vision, device),
            model: TextModel::new(text, device),
            lm_head: (!config.tie_word_embeddings)
                .then(|| new_linear(text.hidden_size, text.vocab_size, false, device)),
            config: config.clone(),
            vision_store: None,
            precision: Precision::default(),
        }
    }

    /// The model with the features of its vision tower taken from `store`, which must be of this tower: the caller sees
    /// to it that the tower stays as it is.
    pub fn with_vision_store(self, store: Option<Arc<VisionStore>>) -> Self {
        Self { vision_store: store, ..self }
    }

    /// Where the features of its vision tower are taken from, if anywhere.
    pub fn vision_store(&self) -> Option<&Arc<VisionStore>> {
        self.vision_store.as_ref()
    }

    /// Sizes and constants.
    pub fn config(&self) -> &Qwen25VlConfig {
        &self.config
    }
}

impl<B: Backend> Pretrained<B> for Qwen25Vl<B> {
    fn from_dir(dir: &Path, device: &B::Device) -> Result<(Self, CheckpointSource), ModelError> {
        let config = Qwen25VlConfig::from_dir(dir)?;
        // Some tied checkpoints store the head all the same; it is a copy of the embedding table.
        let ignorable: &[&str] = if config.tie_word_embeddings { &["lm_head.weight"] } else { &[] };
        let (model, layout) = load_weights(Self::new(&config, device), dir, ignorable)?;
        Ok((model, CheckpointSource { dir: dir.to_owned(), layout }))
    }

    fn config_json(&self) -> &Map<String, Value> {
        &self.config.raw
    }
}

impl<B: Backend> Adaptable<B> for Qwen25Vl<B> {
    fn projections(&mut self) -> Vec<(String, &mut Projection<B>)> {
        self.visual.projections().chain(self.model.projections()).collect()
    }

    fn without_adapter(&self) -> &'static [&'static str] {
        &["visual.patch_embed.proj", "model.embed_tokens", "lm_head"]
    }
}

impl<B: Backend> Vlm<B> for Qwen25Vl<B> {
    type Layer = DecoderLayer<B>;

    fn encode_vision(&self, inputs: &[&Encoded], device: &B::Device) -> Option<Tensor<B, 2>> {
        // Per input the images, then the videos: the order `embed` looks them up in.
        let media = inputs
            .iter()
            .flat_map(|input| [&input.images, &input.videos])
            .filter(|patches| !patches.grids.is_empty());
        let shared = SharedMedia::new(media);
        if shared.distinct.is_empty() {
            return None;
        }
        let forward = |media: &[&Patches]| self.visual.forward(media, self.precision, device);
        let features = match &self.vision_store {
            None => forward(&shared.distinct),
            Some(store) => {
                let features = |patches: &&Patches| {
                    store.features(patches, self.precision, device, || forward(&[patches]))
                };
                Tensor::cat(shared.distinct.iter().map(features).collect(), 0)
            }
        };
        Some(shared.spread(features, self.config.vision.merge_unit()))
    }

    fn positions(&self, input: &Encoded) -> Result<Positions, ModelError> {
        positions::rope_positions(self.config(), input)
    }

    fn embed(
        &self,
        sequences: &[Vec<u32>],
        features: Option<Tensor<B, 2>>,
        device: &B::Device,
    ) -> Tensor<B, 2> {
        let config = self.config();
        let ids: Vec<i32> = sequences.iter().flatten().map(|id| *id as i32).collect();
        let num_tokens = ids.len();
        let table = self.model.embed_tokens.weight.val();
        let embedded =
            table.select(0, Tensor::<B, 1, Int>::from_data(TensorData::new(ids, [num_tokens]), device));
        let Some(features) = features else {
            return embedded;
        };
        // One selection from embeddings and features together, which every backend differentiates.
        let mut next_feature = num_tokens as i32;
        let mut places = Vec::with_capacity(num_tokens);
        for sequence in sequences {
            let num_images = sequence.iter().filter(|id| **id == config.image_token_id).count() as i32;
            let num_videos = sequence.iter().filter(|id| **id == config.video_token_id).count() as i32;
            let (mut image, mut video) = (next_feature, next_feature + num_images);
            for id in sequence {
                let next = match *id {
                    id if id == config.image_token_id => &mut image,
                    id if id == config.video_token_id => &mut video,
                    _ => {
                        places.push(places.len() as i32);
                        continue;
                    }
                };
                places.push(*next);
                *next += 1;
            }
            next_feature += num_images + num_videos;
        }
        assert_eq!(
            next_feature as usize,
            num_tokens + features.dims()[0],
            "the processor expands each placeholder to as many tokens as the tower gives features"
        );
        let places = Tensor::<B, 1, Int>::from_data(TensorData::new(places, [num_tokens]), device);
        Tensor::cat(vec![embedded, features], 0).select(0, places)
    }

    fn layers(&self) -> &[DecoderLayer<B>] {
        self.model.layers()
    }

    fn pass(
        &self,
        rows: Rows,
        positions: &Positions,
        own_mask: Option<&Mask>,
        prompt_mask: Option<&Mask>,
    ) -> DecoderPass<B> {
        new_pass(&self.config().text, rows, positions, own_mask, prompt_mask, self.precision)
    }

    fn head(&self) -> OutputHead<B> {
        let norm = self.model.norm.clone();
        let head = match &self.lm_head {
            Some(head) => OutputHead::new(norm, head.weight.clone()),
            None => OutputHead::tied(norm, self.model.embed_tokens.weight.clone()),
        };
        head.with_precision(self.precision)
    }

    fn vision_learns(&self) -> bool {
        any_learns(&self.visual)
    }

    fn with_trainable(self, parts: Trainable) -> Self {
        Self {
            visual: self.visual.with_trainable(parts.vision_tower, parts.merger),
            model: base_learns(self.model, parts.language_model),
            lm_head: base_learns(self.lm_head, parts.language_model),
            config: self.config,
            vision_store: self.vision_store,
            precision: self.precision,
        }
    }

    fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    fn parameters_of(&self, part: ModelPart) -> Vec<ParamId> {
        match part {
            ModelPart::VisionTower => self.visual.tower_parameters(),
            ModelPart::Merger => self.visual.merger_parameters(),
            ModelPart::LanguageModel => [list_param_ids(&self.model), list_param_ids(&self.lm_head)].concat(),
        }
    }

    fn placeholder_ids(&self) -> Vec<u32> {
        let config = self.config();
        vec![
            config.image_token_id,
            config.video_token_id,
            config.vision_start_token_id,
            config.vision_end_token_id,
        ]
    }
}
