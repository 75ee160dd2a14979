//! Training methods for vision-language models: one loop, many recipes.
//!
//! [`trainer`] holds the only loop; [`recipe`] composes a method from a [`source`], an [`advantage`], [`objective`]s
//! and an [`aggregate`]; [`recipes`] are the methods by name.

pub mod advantage;
pub mod aggregate;
pub mod checkpoint;
mod error;
pub mod feeder;
pub mod learner;
pub mod metrics;
mod micro_batch;
pub mod objective;
pub mod predict;
pub mod prepare;
pub mod recipe;
pub mod recipes;
pub mod rollout;
pub mod schedule;
pub mod seed;
pub mod source;
pub mod trainer;
pub mod workers;

pub use error::TrainError;
