//! Rewards of medical visual question answering (Zhu et al. 2025, "Toward Effective Reinforcement Learning Fine-Tuning for
//! Medical VQA in Vision-Language Models", arXiv 2505.13973).
//!
//! The paper describes its rewards in words: accuracy, format, semantic alignment by an expert model, and two that pay
//! length. The formulas here are assumed by us in agreement with that description, and so is what each file adds. For
//! open questions: the record's reference is a text, a class or the letter of a choice in the question.

pub mod accuracy;
pub mod format;
pub mod length;
pub mod semantic;

pub use accuracy::AccuracyReward;
pub use format::TagsReward;
pub use length::{CorrectLengthReward, ExtendedChainReward};
pub use semantic::SemanticAlignmentReward;
