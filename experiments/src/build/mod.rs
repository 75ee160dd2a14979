//! From a resolved experiment to the objects that do the work.

mod data;
mod init_model;
mod method;
mod preparer;

pub(crate) use data::{DataFile, EvalSplit, MixtureStream, open_eval, open_train};
pub(crate) use init_model::init_model;
pub(crate) use method::{learner_config, recipe};
pub(crate) use preparer::preparer;
