//! The methods by name. Each is a constructor; see [`Recipe`](crate::recipe::Recipe) for the parts.

mod grpo;
mod sft;

pub use grpo::{GrpoConfig, grpo};
pub use sft::sft;
