//! Measures a model's rewards on the records of a stage.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Result;
use burn::tensor::backend::Backend;
use medgrpo_datasets::{Dataset, SourceId, TaskKind};
use medgrpo_model::vlm::Vlm;
use medgrpo_rewards::compose::normalise::{Identity, Normaliser};
use medgrpo_trainers::{prepare::SamplePreparer, seed::derive_seed, source::GroupSource, workers::Workers};
use rayon::prelude::*;

use super::Measured;
use crate::{
    build::{self, DataFile, Experts, Scoring},
    config::resolved::{Policy, rewards::Calibration},
    progress::Progress,
};

/// Prompts drawn between two looks at the progress. A constant: seeds are counted by it.
const CHUNK: usize = 32;

/// What to measure, and with what.
pub(crate) struct Calibrator<'a> {
    pub(crate) files: &'a [DataFile],
    pub(crate) tasks: &'a [TaskKind],
    pub(crate) grpo: &'a Policy,
    pub(crate) settings: &'a Calibration,
    pub(crate) experts: &'a Experts,
    pub(crate) preparer: &'a SamplePreparer,
    pub(crate) stop_ids: &'a [u32],
    pub(crate) workers: &'a Arc<Workers>,
    pub(crate) seed: u64,
    /// Set to end early.
    pub(crate) stop: &'a AtomicBool,
}

impl Calibrator<'_> {
    /// Completions of `model`, scored without a normalization. `None` if it was asked to stop.
    pub(crate) fn run<B: Backend, M: Vlm<B> + Clone>(
        &self,
        model: &M,
        device: &B::Device,
    ) -> Result<Option<Measured>> {
        let normaliser: Arc<dyn Normaliser> = Arc::new(Identity);
        let reward =
            build::reward(&self.grpo.rewards, self.grpo.max_completion_length, self.experts, &normaliser)?;
        let scoring = Scoring { reward, normaliser, judge: self.experts.judge.clone() };
        let processor = &self.preparer.processor;
        let num_generations = self.settings.num_generations;
        let mut source =
            build::on_policy(self.grpo, num_generations, scoring, processor, self.stop_ids, self.workers);
        let mut measured = Measured::default();
        let places = self.places(&mut measured);
        let progress = Progress::start("calibrate", places.len(), "prompts");
        for (number, chunk) in places.chunks(CHUNK).enumerate() {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let prepared = chunk
                .par_iter()
                .map(|&(file, place)| {
                    let file = &self.files[file];
                    let sample = file.usable.get(place)?;
                    self.preparer.prepare(file.origin(&sample), sample)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let seed = derive_seed(self.seed, "calibrate", number as u64);
            for group in GroupSource::<B, M>::collect(&mut source, model, prepared, seed, device)? {
                let sample = &group.prepared.sample;
                let components = build::component_names(&self.grpo.rewards, sample.task);
                for score in group.completions.iter().filter_map(|completion| completion.score.as_ref()) {
                    measured.add_score(&sample.source, sample.task, &components, score);
                }
            }
            progress.set((number * CHUNK + chunk.len()).min(places.len()));
        }
        progress.finish();
        Ok(Some(measured))
    }

    /// (file, place) of at most `num_records` rows of each dataset and task, spread evenly, in the order of the files.
    fn places(&self, measured: &mut Measured) -> Vec<(usize, usize)> {
        let mut pairs: BTreeMap<(TaskKind, SourceId), Vec<(usize, usize)>> = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            for place in file.places(self.tasks) {
                let label = &file.usable.labels()[place];
                pairs.entry((label.task, label.source.clone())).or_default().push((index, place));
            }
        }
        let mut chosen = Vec::new();
        for ((task, source), rows) in pairs {
            measured.expect(&source, task, &build::component_names(&self.grpo.rewards, task));
            let count = self.settings.num_records.min(rows.len());
            chosen.extend((0..count).map(|number| rows[number * rows.len() / count]));
        }
        chosen.sort_unstable();
        chosen
    }
}
