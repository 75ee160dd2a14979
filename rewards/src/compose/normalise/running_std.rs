//! A rival of the median logistic that needs no calibration: a running standard deviation per task (EMA-GRPO).

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use medgrpo_datasets::TaskKind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Normaliser, Pair, group_z_score::moments};
use crate::RewardError;

/// `x / σ`, where σ comes from exponential moving averages of the first and second moment of a task's component over all
/// datasets: the scale of EMA-GRPO (Feng et al. 2025, `OneThinker`), whose advantages are not divided by the group's own
/// deviation (`scale_rewards = "none"`).
///
/// The averages move after a step, so a step is scaled by those before it; the first one by each group's own deviation.
pub struct RunningStd {
    decay: f64,
    min_std: f64,
    tasks: Mutex<BTreeMap<String, Running>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Running {
    first: f64,
    second: f64,
    steps: u32,
    #[serde(skip)]
    pending: Vec<f32>,
}

impl Running {
    fn std(&self, decay: f64) -> Option<f64> {
        // Averages that start from 0 are too small by this much.
        let weight = 1.0 - decay.powf(f64::from(self.steps));
        let (first, second) = (self.first / weight, self.second / weight);
        (self.steps > 0).then(|| (second - first * first).max(0.0).sqrt())
    }
}

impl RunningStd {
    /// Averages that keep `decay` of themselves a step, in `(0, 1)`; no deviation counts as less than `min_std`.
    pub fn new(decay: f64, min_std: f64) -> Self {
        Self { decay, min_std, tasks: Mutex::default() }
    }
}

fn key(task: TaskKind, component: &str) -> String {
    format!("{task}/{component}")
}

impl Normaliser for RunningStd {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let running = tasks.entry(key(pair.task, &pair.component)).or_default();
        running.pending.extend(measured);
        let std = running.std(self.decay).unwrap_or_else(|| moments(measured).1).max(self.min_std);
        Ok(measured.iter().map(|&x| (f64::from(x) / std) as f32).collect())
    }

    fn end_step(&self) {
        for running in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
            let mut values = std::mem::take(&mut running.pending);
            if values.is_empty() {
                continue;
            }
            // Groups were scored in any order; sums of floats depend on it.
            values.sort_by(f32::total_cmp);
            let mean = |power: i32| {
                values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / values.len() as f64
            };
            running.first = self.decay * running.first + (1.0 - self.decay) * mean(1);
            running.second = self.decay * running.second + (1.0 - self.decay) * mean(2);
            running.steps += 1;
        }
    }

    fn state(&self) -> Value {
        json!(*self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn restore(&self, state: &Value) -> Result<(), RewardError> {
        let tasks = Deserialize::deserialize(state)
            .map_err(|error| RewardError::State(format!("the running deviations: {error}")))?;
        *self.tasks.lock().unwrap_or_else(PoisonError::into_inner) = tasks;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_follows_the_steps_before() {
        let pair = Pair { dataset: "A".to_owned(), task: TaskKind::Tag, component: "iou".to_owned() };
        let running = RunningStd::new(0.9, 1e-3);
        // The first step knows nothing but the group: deviation sqrt(2).
        let first = running.normalise(&pair, &[0.0, 2.0]).unwrap();
        assert!((first[1] - 2.0 / 2f32.sqrt()).abs() < 1e-6, "{first:?}");
        running.end_step();
        // Bias-corrected, one step gives its own moments: mean 1, mean square 2, deviation 1.
        let second = running.normalise(&pair, &[0.0, 3.0]).unwrap();
        assert!((second[1] - 3.0).abs() < 1e-6, "{second:?}");
        // A step in which a task is absent leaves it alone.
        let state = {
            running.end_step();
            running.state()
        };
        running.end_step();
        assert_eq!(running.state(), state);
        let restored = RunningStd::new(0.9, 1e-3);
        restored.restore(&state).unwrap();
        assert_eq!(restored.normalise(&pair, &[0.7]).unwrap(), running.normalise(&pair, &[0.7]).unwrap());
        assert!(restored.restore(&json!([1])).is_err());
    }
}
