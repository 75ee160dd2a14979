//! Model text to typed answers, one file a task, by the rules of the benchmark's official scorer.
//!
//! Every parser is total: any text gives an answer (perhaps an empty one) in time linear in its length, sorting aside.
//! The rules are the scorer's, oddities included, because training should optimise what is reported; what the
//! oddities are is said where they are. Each function cites no regex of the scorer: all were written from a
//! description of its behaviour and checked against values made with it (`tests/data/eval`).

pub mod cvs;
pub mod dvc;
pub mod next_action;
pub mod python;
pub mod skill;
pub mod stg;
pub mod tag;
