//! From a resolved experiment to the objects that do the work.

mod data;
mod embedder;
mod init_model;
mod judge;
mod lengths;
mod method;
mod preparer;

pub(crate) use data::{DataFile, EvalSplit, MixtureStream, open_eval, open_train};
pub(crate) use embedder::open_embedder;
pub(crate) use init_model::init_model;
pub(crate) use judge::{JudgeSpec, open_judge};
pub(crate) use lengths::{Counted, MAX_TOLD, count_prompts};
pub(crate) use method::{learner_config, recipe, reward};
pub(crate) use preparer::preparer;
