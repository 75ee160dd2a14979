//! The same numbers as transformers 4.57.6 on tiny random checkpoints: `tests/data/parity/README.md` lists the tensors.
//!
//! Tests that compute on a device take `MEDGRPO_TEST_DEVICE`. There are few of them, each long, since on a GPU every
//! process compiles its shaders anew. With `--nocapture` the observed deviations are printed.

mod forward;
mod generation;
mod gradients;
pub(crate) mod loading;
mod logits_processors;
mod processor;
mod saving;
mod sentence_encoder;
mod shared_prompt;
