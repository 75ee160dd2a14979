//! The library behind the `medgrpo` binary.

pub mod config;
