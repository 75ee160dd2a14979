//! What a model's rewards look like before training: the table that normalizations look datasets and tasks up in.
//!
//! [`Calibrator`] measures a model on records, [`from_rollouts`] reads what a run stored. [`Measured`] values become a [`Calibration`], a report of what it covers and
//! a picture.

mod calibrator;
mod coverage;
mod picture;
mod rollouts;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use medgrpo_datasets::{SourceId, TaskKind};
use medgrpo_rewards::{
    Parts, Score,
    compose::normalise::{Calibration, Normaliser, Pair},
};

pub(crate) use calibrator::Calibrator;
pub(crate) use rollouts::from_rollouts;

use crate::{config::resolved::Stage, run_dir::write_atomic};

/// Values of every component, by whose they are.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    by_pair: BTreeMap<Pair, Values>,
}

/// What was measured of one pair.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    /// Of every completion that could be scored.
    pub(crate) scored: Vec<f32>,
    /// Completions that could not.
    pub(crate) num_unscored: usize,
}

impl Measured {
    /// Takes note that a pair is to be measured, so that a report can say if nothing was.
    pub(crate) fn expect(&mut self, source: &SourceId, task: TaskKind, components: &[&str]) {
        for component in components {
            self.by_pair.entry(Pair::new(source, task, component)).or_default();
        }
    }

    /// Takes in one completion's parts; `None` where it could not be scored.
    fn add(
        &mut self,
        source: &SourceId,
        task: TaskKind,
        components: &[&str],
        part: impl Fn(&str) -> Option<f32>,
    ) {
        for component in components {
            let values = self.by_pair.entry(Pair::new(source, task, component)).or_default();
            match part(component) {
                Some(value) => values.scored.push(value),
                None => values.num_unscored += 1,
            }
        }
    }

    /// Takes in one completion's score.
    pub(crate) fn add_score(
        &mut self,
        source: &SourceId,
        task: TaskKind,
        components: &[&str],
        score: &Score,
    ) {
        let none = Parts::new();
        let parts = match score {
            Score::Scored { parts, .. } => parts,
            Score::Unscored(_) => &none,
        };
        self.add(source, task, components, |name| {
            parts.iter().find(|(part, _)| part == name).map(|(_, value)| *value)
        });
    }

    /// The table of these values; `model` says whose they are.
    pub(crate) fn table(&self, model: &str) -> Calibration {
        let values = self.by_pair.iter();
        let values =
            values.map(|(pair, values)| (pair.clone(), (values.scored.clone(), values.num_unscored)));
        Calibration::of(model.to_owned(), &values.collect())
    }
}

/// Writes a calibration: the table to `path`, its picture beside it as SVG; gives the report of what it covers.
pub(crate) fn write(
    path: &Path,
    model: &str,
    measured: &Measured,
    min_count: usize,
    normaliser: impl Fn(Calibration) -> Result<std::sync::Arc<dyn Normaliser>>,
) -> Result<Calibration> {
    let table = measured.table(model);
    if table.distributions.is_empty() {
        bail!("{}: not one completion could be scored, so there is nothing to calibrate", path.display());
    }
    let normaliser = normaliser(table.clone())?;
    let svg = picture::draw(measured, &*normaliser)?;
    // The table last: where it is, the picture is.
    write_atomic(&path.with_extension("svg"), svg.as_bytes())?;
    write_atomic(path, &serde_json::to_vec_pretty(&table)?)?;
    crate::print(&coverage::report(measured, &table, min_count));
    Ok(table)
}

/// The table that a stage's normalization uses: the one its config names, or the run's own in `folder`; `None` where there
/// is none yet, or none is needed.
pub(crate) fn table_of(stage: &Stage, folder: &Path) -> Result<Option<Calibration>> {
    let settings = stage.recipe.on_policy().and_then(|grpo| grpo.rewards.normalization.calibration());
    let Some(settings) = settings else { return Ok(None) };
    let path = settings.table.clone().unwrap_or_else(|| calibration_file(folder, &stage.name));
    if settings.table.is_none() && !path.exists() {
        return Ok(None);
    }
    read(&path).map(Some)
}

/// Where a run keeps the calibration of a stage; its picture is beside it as SVG.
pub(crate) fn calibration_file(folder: &Path, stage: &str) -> PathBuf {
    folder.join(format!("calibration-{stage}.json"))
}

/// Reads a table.
fn read(path: &Path) -> Result<Calibration> {
    let told = || path.display().to_string();
    let bytes = fs::read(path).with_context(told)?;
    let table: Calibration = serde_json::from_slice(&bytes).with_context(|| {
        format!("{}: not a calibration table as `medgrpo calibrate` writes it", path.display())
    })?;
    table.validate().map_err(anyhow::Error::msg).with_context(told)?;
    Ok(table)
}
