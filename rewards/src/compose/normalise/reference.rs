//! A calibration in use: frozen, or refreshed from what the policy earns now.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Calibration, Distribution, Pair};
use crate::RewardError;

/// What to do with a pair that the calibration does not hold, or holds with too few values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// Stop: training on a scale that nobody measured is rarely meant.
    #[default]
    Error,
    /// Take the distribution of the task over all datasets.
    Task,
}

/// The distributions that table-based normalisers look pairs up in.
///
/// The paper freezes the SFT model's (`refresh_steps` 0). With a refresh, a pair that has gathered `min_count` values since
/// its last one takes their distribution every `refresh_steps` steps; one that has not keeps gathering.
pub struct Reference {
    calibration: RwLock<Calibration>,
    unseen: Unseen,
    min_count: usize,
    refresh_steps: usize,
    live: Mutex<Live>,
}

#[derive(Default, Serialize, Deserialize)]
struct Live {
    steps: usize,
    measured: Vec<(Pair, Vec<f32>)>,
    #[serde(skip)]
    pending: BTreeMap<Pair, Vec<f32>>,
}

impl Reference {
    /// A calibration in use; a pair with fewer than `min_count` values counts as unseen.
    pub fn new(calibration: Calibration, unseen: Unseen, min_count: usize, refresh_steps: usize) -> Self {
        Self {
            calibration: RwLock::new(calibration),
            unseen,
            min_count,
            refresh_steps,
            live: Mutex::default(),
        }
    }

    /// Applies `f` to the distribution of a pair, and takes note of what was measured for it.
    ///
    /// # Errors
    ///
    /// If the pair is unseen and that is an error, or no fallback has seen its task either.
    pub(super) fn with<T>(
        &self,
        pair: &Pair,
        measured: &[f32],
        f: impl FnOnce(&Distribution) -> T,
    ) -> Result<T, RewardError> {
        if self.refresh_steps > 0 {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            live.pending.entry(pair.clone()).or_default().extend(measured);
        }
        let calibration = self.calibration.read().unwrap_or_else(PoisonError::into_inner);
        let seen = |pair: &Pair| calibration.get(pair).filter(|found| found.count >= self.min_count.max(1));
        let found = seen(pair).or_else(|| match self.unseen {
            Unseen::Error => None,
            Unseen::Task => seen(&pair.on_all_datasets()),
        });
        found.map(f).ok_or_else(|| RewardError::NotCalibrated {
            pair: pair.to_string(),
            count: calibration.get(pair).map_or(0, |found| found.count),
            needed: self.min_count.max(1),
        })
    }

    pub(super) fn end_step(&self) {
        if self.refresh_steps == 0 {
            return;
        }
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let live = &mut *live;
        for (pair, mut values) in std::mem::take(&mut live.pending) {
            // Groups were scored in any order.
            values.sort_by(f32::total_cmp);
            match live.measured.iter_mut().find(|(other, _)| *other == pair) {
                Some((_, gathered)) => gathered.extend(values),
                None => live.measured.push((pair, values)),
            }
        }
        live.steps += 1;
        if live.steps < self.refresh_steps {
            return;
        }
        live.steps = 0;
        let mut calibration = self.calibration.write().unwrap_or_else(PoisonError::into_inner);
        live.measured.retain(|(pair, values)| {
            if values.len() < self.min_count.max(1) {
                return true;
            }
            if let Some(new) = Distribution::of(pair.clone(), values, 0) {
                match calibration.distributions.iter_mut().find(|old| old.pair == *pair) {
                    Some(old) => *old = new,
                    None => calibration.distributions.push(new),
                }
            }
            false
        });
    }

    pub(super) fn state(&self) -> Value {
        if self.refresh_steps == 0 {
            return Value::Null;
        }
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let calibration = self.calibration.read().unwrap_or_else(PoisonError::into_inner);
        json!({ "calibration": *calibration, "live": *live })
    }

    pub(super) fn restore(&self, state: &Value) -> Result<(), RewardError> {
        if self.refresh_steps == 0 {
            return Ok(());
        }
        let bad =
            |error: serde_json::Error| RewardError::State(format!("the refreshed calibration: {error}"));
        let calibration: Calibration = Deserialize::deserialize(&state["calibration"]).map_err(bad)?;
        let live: Live = Deserialize::deserialize(&state["live"]).map_err(bad)?;
        *self.calibration.write().unwrap_or_else(PoisonError::into_inner) = calibration;
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(())
    }
}
