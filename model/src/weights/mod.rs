//! Checkpoint directories in the Hugging Face layout: lazy reading, exact saving, fresh weights.

mod init;
mod layout;
mod load;
mod module_map;
mod reader;
mod save;

pub use init::init_random;
pub use layout::{CheckpointLayout, StoredTensor};
pub use load::load_weights;
pub(crate) use load::{NameMap, load_renamed};
pub use save::{SavePrecision, save_weights};
