//! Vision-language models as burn modules, generic over the backend: checkpoints, processor, forward pass, generation.
//!
//! Nothing here knows a dataset or a reward. [`vlm::Vlm`] is what trainers see; [`qwen2_5_vl`] implements it.
//! [`sentence_encoder`] stands apart: texts to vectors, for rewards.

#![cfg_attr(not(feature = "flex"), allow(dead_code, reason = "operations that no compiled backend runs"))]

pub mod attention;
pub mod checkpoint;
mod config_reader;
pub mod decoder;
mod error;
mod gated_mlp;
mod gelu;
pub mod generate;
pub mod generation_config;
pub mod gradients;
pub mod group_forward;
pub mod group_gradients;
mod group_layout;
mod host_op;
mod lanes;
pub mod lora;
pub mod memory;
pub mod output_head;
pub mod precision;
pub mod processor;
pub mod projection;
pub mod prompt;
pub mod qwen2_5_vl;
mod rms_norm;
mod rotary;
pub mod sampling;
pub mod sentence_encoder;
mod shared_media;
mod token_scores;
pub mod trainable;
pub mod vision_store;
pub mod vlm;
pub mod weights;

pub use error::ModelError;
