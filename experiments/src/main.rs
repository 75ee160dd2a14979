//! The `medgrpo` command.
fn main() {}
