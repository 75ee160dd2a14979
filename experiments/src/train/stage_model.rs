//! The model of a stage: what it starts from, what of it learns, what it leaves behind.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use burn::{
    module::AutodiffModule,
    tensor::backend::{AutodiffBackend, Backend},
};
use medgrpo_model::{
    checkpoint::Pretrained,
    lora::{Adaptable, load_adapter},
    precision::Precision,
    qwen2_5_vl::{Qwen25Vl, Qwen25VlConfig},
    trainable::Trainable,
    vision_store::VisionStore,
    vlm::Vlm,
};
use medgrpo_trainers::{
    checkpoint::{ADAPTER, Stored, TrainState, load_state},
    seed::derive_seed,
};

use super::checkpoints::checkpoint_dir;
use crate::{
    build::seed_of_stage,
    config::resolved::{Experiment, ModelSource, Stage},
};

/// The directories between which a run's model wanders.
#[derive(Clone, Debug)]
pub(super) struct StageModels<'a> {
    pub(super) experiment: &'a Experiment,
    /// The checkpoint that the run started from.
    pub(super) start: PathBuf,
    /// Where the run's own lie.
    pub(super) checkpoints: PathBuf,
    /// What all of them compute with.
    pub(super) precision: Precision,
}

/// Layers by published name, with their sizes, `[input, output]`.
pub(crate) type AdaptedLayers = BTreeMap<String, [usize; 2]>;

/// The layers that the adapter of each stage sits on, with their sizes, found without weights.
///
/// # Errors
/// An adapter that does not fit the model of `config`.
pub(crate) fn adapted_layers<B: Backend>(
    experiment: &Experiment,
    config: &Qwen25VlConfig,
    device: &B::Device,
) -> Result<Vec<Option<AdaptedLayers>>> {
    let model = Qwen25Vl::<B>::new(config, device);
    let layers = |(index, stage): (usize, &Stage)| {
        let lora = stage.lora.as_ref()?;
        Some(model.lora_layers(lora).with_context(|| format!("stage.{index}.lora")))
    };
    experiment.stages.iter().enumerate().map(|stage| layers(stage).transpose()).collect()
}

impl StageModels<'_> {
    /// The whole model that a stage ended with.
    pub(super) fn end_of(&self, index: usize) -> PathBuf {
        let stage = &self.experiment.stages[index];
        checkpoint_dir(&self.checkpoints, index, &stage.name, stage.trainer.max_steps)
    }

    /// The whole model that a stage starts from, and is leashed to.
    pub(super) fn start_of<B: Backend>(&self, index: usize, device: &B::Device) -> Result<Qwen25Vl<B>> {
        match index.checked_sub(1) {
            Some(previous) => self.load_whole(&self.end_of(previous), device),
            None => self.load(&self.start, device),
        }
    }

    /// The model of a checkpoint, after comparing its files with their sums.
    pub(super) fn load_whole<B: Backend>(&self, dir: &Path, device: &B::Device) -> Result<Qwen25Vl<B>> {
        load_state(dir)?;
        self.load(dir, device)
    }

    /// The model of `dir`.
    pub(super) fn load<B: Backend>(&self, dir: &Path, device: &B::Device) -> Result<Qwen25Vl<B>> {
        Ok(Qwen25Vl::from_dir(dir, device)?.0.with_precision(self.precision))
    }

    /// The model as it stands at a checkpoint.
    pub(super) fn at<B: Backend>(
        &self,
        dir: &Path,
        state: &TrainState,
        device: &B::Device,
    ) -> Result<Qwen25Vl<B>> {
        let stage = &self.experiment.stages[state.stage_index];
        if stage.lora.is_some() && state.step < stage.trainer.max_steps {
            return Ok(load_adapter(self.start_of(state.stage_index, device)?, &dir.join(ADAPTER))?);
        }
        self.load(dir, device)
    }

    /// `model` with what the stage trains learning; `is_resumed` says that it comes from a checkpoint of the stage.
    pub(super) fn learning<B: AutodiffBackend>(
        &self,
        model: Qwen25Vl<B>,
        index: usize,
        is_resumed: bool,
    ) -> Result<Qwen25Vl<B>> {
        let stage = &self.experiment.stages[index];
        let Some(lora) = &stage.lora else {
            let learns = |is_frozen: Option<bool>| is_frozen != Some(true);
            return Ok(model.with_trainable(Trainable {
                vision_tower: learns(stage.trainer.freeze_vision_tower),
                merger: learns(stage.trainer.freeze_merger),
                language_model: learns(stage.trainer.freeze_language_model),
            }));
        };
        if is_resumed {
            return Ok(model);
        }
        let seed = derive_seed(seed_of_stage(self.experiment.seed, index), "lora", 0);
        Ok(model.with_lora(lora, seed)?)
    }

    /// Where the features of a stage's clips are kept, if they stay as they are.
    pub(super) fn vision_store(&self, index: usize) -> Result<Option<Arc<VisionStore>>> {
        let trainer = &self.experiment.stages[index].trainer;
        let ram = trainer.vision_cache_mb.unwrap_or(0) << 20;
        let disk = trainer.vision_cache_disk_mb.unwrap_or(0) << 20;
        if ram + disk == 0 {
            return Ok(None);
        }
        let mut store = VisionStore::new(ram);
        if disk > 0 {
            let dir = self.features(index);
            store = store.with_disk(&dir, disk).with_context(|| dir.display().to_string())?;
        }
        Ok(Some(Arc::new(store)))
    }

    /// Removes what a stage that is over kept on the disk.
    pub(super) fn forget_features(&self, index: usize) -> Result<()> {
        let dir = self.features(index);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| dir.display().to_string())
            }
            _ => Ok(()),
        }
    }

    /// The tower is what the stage started with, so each stage has its own.
    fn features(&self, index: usize) -> PathBuf {
        let stage = &self.experiment.stages[index];
        self.checkpoints.with_file_name(format!(".vision-features-{index:02}-{}", stage.name))
    }

    /// What the policy is leashed to: the model below its adapter, or else the one that the stage started from.
    pub(super) fn reference<B: AutodiffBackend>(
        &self,
        model: &Qwen25Vl<B>,
        index: usize,
        device: &B::Device,
    ) -> Result<Qwen25Vl<B::InnerBackend>> {
        if self.experiment.stages[index].lora.is_some() {
            return Ok(model.clone().with_adapter(false).valid());
        }
        let start = self.start_of(index, device).context("the reference of this stage's KL term")?;
        // Where the policy has a store its tower is still the start's.
        Ok(start.with_vision_store(model.vision_store().cloned()))
    }

    /// The adapter of the last stage, where that has one.
    pub(super) fn last_adapter(&self) -> Option<PathBuf> {
        let last = self.experiment.stages.len().checked_sub(1)?;
        self.experiment.stages[last].lora.as_ref().map(|_| self.end_of(last).join(ADAPTER))
    }

    /// How others are told which model an adapter of the stage belongs on: the experiment's own, or a place in the run
    /// directory.
    pub(super) fn base_name(&self, index: usize) -> String {
        let dir = match (index.checked_sub(1), &self.experiment.model) {
            (Some(previous), _) => Path::new("checkpoints")
                .join(self.end_of(previous).file_name().expect("a checkpoint's folder has a name")),
            (None, ModelSource::Path(path)) => path.clone(),
            (None, ModelSource::Init(_)) => PathBuf::from("model-init"),
        };
        dir.display().to_string()
    }
}

/// What a checkpoint of a stage holds of the model.
pub(super) fn stored<'n>(stage: &Stage, step: usize, base_name: &'n str) -> Stored<'n> {
    match (&stage.lora, step == stage.trainer.max_steps) {
        (None, _) => Stored::Model,
        (Some(_), false) => Stored::Adapter(base_name),
        (Some(_), true) => Stored::AdapterAndMerged(base_name),
    }
}
