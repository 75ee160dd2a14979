//! Low-rank adaptation (Hu et al. 2022): `xW + b + s·(drop(x)A)B` on chosen layers, with `W` and `b` frozen.
//!
//! `W + s·AB` is formed by [`Adaptable::merged`] alone: elsewhere frozen weights have neither a gradient nor a copy. Names,
//! defaults of initialisation and files are those of PEFT.

mod adaptable;
mod config;
mod dropout;
#[cfg(test)]
mod files;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod laws;
mod layer;
mod peft;

pub use adaptable::Adaptable;
pub use config::LoraConfig;
pub use layer::Lora;
pub use peft::{load_adapter, save_adapter};
