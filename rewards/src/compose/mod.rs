//! Rewards made of other rewards.
//!
//! A reward file knows one metric; what a method pays is a tree of [`Component`]s, each with a name and a normalisation,
//! under [`Product`], [`Weighted`], [`Overlong`] and [`PerTask`]. MedGRPO's reward is such a tree with
//! [`normalise::MedianLogistic`] at its components.

pub mod component;
pub mod normalise;
pub mod overlong;
pub mod per_task;
pub mod product;
pub mod weighted;

pub use component::Component;
pub use overlong::Overlong;
pub use per_task::PerTask;
pub use product::Product;
pub use weighted::Weighted;
