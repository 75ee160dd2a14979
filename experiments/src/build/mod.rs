//! From a resolved experiment to the objects that do the work.

mod data;
mod embedder;
mod experts;
mod init_model;
mod judge;
mod lengths;
mod loss;
mod method;
mod preparer;
mod reward;

pub(crate) use data::{DataFile, EvalSplit, MixtureStream, open_eval, open_train};
pub use embedder::open_embedder;
pub(crate) use experts::{forecast, open_experts};
pub(crate) use init_model::{init_model, planned};
pub(crate) use judge::open_judge;
pub(crate) use lengths::{Counted, MAX_TOLD, count_prompts};
pub(crate) use loss::{dynamic_sampling, grpo_config};
pub(crate) use method::{Scoring, learner_config, micro_batch, on_policy, recipe, seed_of_stage};
pub(crate) use preparer::preparer;
pub(crate) use reward::{Experts, component_names, component_weights, needs, normaliser, reward};
