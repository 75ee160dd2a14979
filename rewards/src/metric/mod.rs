//! The benchmark's metrics, one file each, on typed answers.
//!
//! Functions score one record, the way the official scorer does; how records are averaged is `leaderboard`'s business.
//! [`matching`] and the functions named `strict` are ours: what rewards use where the official rule can be played.

pub mod bleu;
pub mod box_iou;
pub mod caption_words;
pub mod captions;
pub mod cider;
pub mod dvc_f1;
pub mod dvc_pairs;
pub mod matching;
pub mod meteor;
pub mod next_action;
mod ngrams;
pub mod rouge_l;
pub mod scores;
pub mod span_iou;
mod word_alignment;
