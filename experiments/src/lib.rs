//! The library behind the `medgrpo` binary.
