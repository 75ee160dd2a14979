//! Training methods for vision-language models: one loop, many recipes.
//!
//! [`trainer`] holds the only loop; [`recipe`] composes a method from a [`source`], an [`advantage`], [`objective`]s
//! and an [`aggregate`] for each; [`recipes`] are the methods by name, [`filter`]s say which groups are worth a step.

pub mod advantage;
pub mod aggregate;
pub mod checkpoint;
pub mod cut;
pub mod dynamic_sampling;
mod error;
pub mod failure;
pub mod feeder;
pub mod filter;
pub mod learner;
mod loss;
pub mod loss_mask;
pub mod metrics;
mod micro_batch;
pub mod objective;
pub mod predict;
pub mod prepare;
pub mod recipe;
pub mod recipes;
pub mod replay;
mod reward_kl;
pub mod rollout;
pub mod schedule;
pub mod seed;
pub mod source;
pub mod trainer;
pub mod workers;

#[cfg(test)]
mod grpo_cases;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod testing;

pub use error::TrainError;
