//! A curve over a table: each measured value is placed within the distribution that its pair has in the calibration.

use std::sync::Arc;

use serde_json::Value;

use super::{Distribution, Normaliser, Pair, Reference};
use crate::RewardError;

/// Where a value stands in a distribution. Pure, and it never falls: better never pays less.
pub trait Curve: Send + Sync {
    /// The reward of a measured value.
    fn at(&self, measured: f64, known: &Distribution) -> f64;

    /// Whether the distribution holds what the curve needs.
    ///
    /// # Errors
    ///
    /// What it lacks.
    fn check(&self, known: &Distribution) -> Result<(), String> {
        let _ = known;
        Ok(())
    }
}

/// A [`Curve`] over the distributions of a [`Reference`], which alone learns.
pub struct Tabled<C> {
    /// The distributions.
    pub reference: Arc<Reference>,
    /// The curve.
    pub curve: C,
}

impl<C: Curve> Normaliser for Tabled<C> {
    fn normalise(&self, pair: &Pair, measured: &[f32]) -> Result<Vec<f32>, RewardError> {
        self.reference.with(pair, measured, |known| {
            self.curve.check(known).map_err(|lack| RewardError::State(format!("{pair}: {lack}")))?;
            Ok(measured.iter().map(|&x| self.curve.at(f64::from(x), known) as f32).collect())
        })?
    }

    fn end_step(&self) {
        self.reference.end_step();
    }

    fn state(&self) -> Value {
        self.reference.state()
    }

    fn restore(&self, state: &Value) -> Result<(), RewardError> {
        self.reference.restore(state)
    }
}
