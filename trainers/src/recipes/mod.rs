//! The methods by name. Each is a choice of parts; see [`Recipe`](crate::recipe::Recipe) for what there is to choose.
//!
//! All methods that learn from rewards are [`grpo`] with another [`GrpoConfig`]: what makes a method is written in its
//! file, everything else is as in [`GrpoConfig::default`].

mod bnpo;
mod cispo;
mod dapo;
mod dr_grpo;
mod gdpo;
mod grpo;
mod gspo;
mod luspo;
mod peers;
mod rloo;
mod sapo;
mod sft;
mod vespo;

pub use grpo::{GrpoConfig, KlIn, Surrogate, grpo};
pub use sft::sft;
