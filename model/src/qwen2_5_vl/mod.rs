//! Qwen2.5-VL as burn modules; field names are the checkpoint's tensor names.

mod config;
mod model;
mod positions;
mod text;
mod vision;
mod windows;

pub use config::{Qwen25VlConfig, SpecialTokenIds, TextConfig, VisionConfig};
pub use model::Qwen25Vl;
pub use positions::rope_positions;
pub use text::{DecoderLayer, TextModel};
pub use vision::VisionTower;
