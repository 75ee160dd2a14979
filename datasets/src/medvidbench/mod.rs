//! MedVidBench: reading its records, in every shape seen in the wild, from files of any size.
//!
//! [`schema`] is the record as written, [`convert`](convert()) says what it means, [`MedVidBenchFile`] is the file.
//! A record is addressed by its row: ids repeat.

mod answer;
mod check;
mod convert;
mod file;
mod gold;
mod index;
mod recover;
mod scan;
pub mod schema;
#[cfg(test)]
mod tests;

pub use check::{MediaCheck, Summary};
pub use convert::convert;
pub use file::{IndexOrigin, MedVidBenchFile};
