//! What the fuzz targets do with an input; the targets are one line each.

pub mod exercise;
