//! Rewards made of other rewards.

pub mod per_task;

pub use per_task::PerTask;
