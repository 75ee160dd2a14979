//! Checkpoint directories in the Hugging Face layout: lazy reading, exact saving, fresh weights; adapters in PEFT's.

mod adapter;
mod init;
mod layout;
mod load;
mod module_map;
mod reader;
mod save;

pub(crate) use adapter::{adapter_layers, init_adapter, load_adapter_weights, save_adapter_weights};
pub use init::init_random;
pub(crate) use layout::transformers_name;
pub use layout::{CheckpointLayout, StoredTensor};
pub use load::load_weights;
pub(crate) use load::{NameMap, load_renamed};
pub(crate) use module_map::Part;
pub use save::{SavePrecision, save_weights};
