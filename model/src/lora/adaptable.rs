//! What a model tells about its layers, and what an adapter can then do with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use burn::{
    module::{Module, Param},
    tensor::backend::Backend,
};

use super::{Lora, LoraConfig};
use crate::{ModelError, projection::Projection, trainable::base_learns, weights::init_adapter};

/// A model whose projections can carry a low-rank adapter.
///
/// Models that come from one another by these methods share their tensors: a view costs no memory.
pub trait Adaptable<B: Backend>: Module<B> {
    /// Every layer on which an adapter may sit, under its published name.
    fn projections(&mut self) -> Vec<(String, &mut Projection<B>)>;

    /// Published names of the layers that PEFT would adapt if they were named, and this model cannot.
    fn without_adapter(&self) -> &'static [&'static str];

    /// The layers that `config` would adapt, with their sizes, `[input, output]`, by published name.
    ///
    /// # Errors
    /// A configuration that makes no adapter on this model.
    fn lora_layers(&self, config: &LoraConfig) -> Result<BTreeMap<String, [usize; 2]>, ModelError> {
        let mut view = self.clone();
        let projections = view.projections();
        let names: Vec<String> = projections.iter().map(|(name, _)| name.clone()).collect();
        let selected = config.select(&names, self.without_adapter())?;
        let sizes = projections.iter().filter(|(name, _)| selected.contains(name.as_str()));
        Ok(sizes.map(|(name, layer)| (name.clone(), layer.weight.lazy_shape().dims())).collect())
    }

    /// The model with a fresh adapter, which changes nothing yet, and everything else frozen.
    ///
    /// # Errors
    /// A configuration that makes no adapter on this model, or an adapter that is there already.
    fn with_lora(self, config: &LoraConfig, seed: u64) -> Result<Self, ModelError> {
        let layers = self.lora_layers(config)?.into_keys().collect();
        Ok(init_adapter(attach(self, config, &layers)?, seed))
    }

    /// What its adapter is made of, if it has one.
    fn lora_config(&self) -> Option<LoraConfig> {
        let mut view = self.clone();
        let mut projections = view.projections().into_iter();
        projections.find_map(|(_, projection)| Some(LoraConfig::clone(&projection.lora.as_ref()?.config)))
    }

    /// The model with its adapter on or off; off, it is the model below: the reference policy.
    fn with_adapter(mut self, enabled: bool) -> Self {
        for lora in self.projections().into_iter().filter_map(|(_, projection)| projection.lora.as_mut()) {
            lora.state.enabled = enabled;
        }
        self
    }

    /// The model with its adapter's dropout drawn from `seed`, or without dropout.
    ///
    /// Passes over the same rows with the same seed drop the same; a model has none unless asked here.
    fn with_dropout_seed(mut self, seed: Option<u64>) -> Self {
        for (name, projection) in self.projections() {
            if let Some(lora) = projection.lora.as_mut() {
                lora.state.dropout_seed = seed.map(|seed| seed_of_layer(seed, &name));
            }
        }
        self
    }

    /// A plain model of weights `W + s·AB`, all of which learn; as it is without an adapter.
    fn merged(mut self) -> Self {
        let mut adapted = false;
        for (_, projection) in self.projections() {
            if let Some(lora) = projection.lora.take() {
                adapted = true;
                let weight = &projection.weight;
                projection.weight = Param::initialized(weight.id, weight.val().detach() + lora.product());
            }
        }
        if adapted { base_learns(self, true) } else { self }
    }
}

/// The model with room for the matrices of an adapter on `layers`, everything else frozen.
pub(super) fn attach<B: Backend, M: Adaptable<B>>(
    mut model: M,
    config: &LoraConfig,
    layers: &BTreeSet<String>,
) -> Result<M, ModelError> {
    let config = Arc::new(config.clone());
    for (name, projection) in model.projections() {
        if projection.lora.is_some() {
            return Err(ModelError::Lora {
                key: "r",
                message: "the model has an adapter already: merge it before it gets another".to_owned(),
            });
        }
        if layers.contains(&name) {
            let [input, output] = projection.weight.lazy_shape().dims();
            let device = projection.weight.lazy_device();
            projection.lora = Some(Lora::new(input, output, &config, &device));
        }
    }
    Ok(base_learns(model, false))
}

fn seed_of_layer(seed: u64, name: &str) -> u64 {
    let digest = blake3::Hasher::new().update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    let (first, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}
