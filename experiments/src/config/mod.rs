//! Experiments as TOML: typed keys, every default visible, every mistake with its line and its remedy.
//!
//! [`wire`] is what may be typed, [`resolved`] what it means; [`load()`] goes from one to the other. A new key starts in
//! `wire`, gets its meaning in `resolved`, its default in `resolve` and its limits in `validate`; reference and error messages follow by themselves.

mod check;
mod error;
mod load;
mod reference;
mod replayed;
mod resolve;
pub mod resolved;
mod shape;
#[cfg(test)]
mod tests;
mod tree;
mod validate;
pub mod wire;

pub use error::{ConfigError, Problem};
pub use load::load;
pub use reference::reference_markdown;
pub(crate) use replayed::load_replayed;
pub use resolved::Experiment;
pub use tree::Origin;
