//! From messages and pixels to token ids, patches and positions: what the reference's processor does, on the host.

mod encoded;

pub use encoded::{Encoded, GridThw, Patches};
