//! One test binary: what is promised to users and between crates, checked from outside.
//!
//! Unit tests live beneath the code they test; here stands what needs several crates, files or the binary.

/// The command line's contracts, with the real binary.
#[cfg(test)]
mod cli;
/// Where device tests run: `MEDGRPO_TEST_DEVICE`.
#[cfg(test)]
mod device;
/// Links, files, experiments and commands in the pages.
#[cfg(test)]
mod docs;
/// Reference tensors and the conversations they belong to.
#[cfg(test)]
mod fixture;
/// What may not depend on how a training step is computed.
#[cfg(test)]
mod laws;
/// The same numbers as transformers.
#[cfg(test)]
mod parity;
/// Stopped runs go on as if nothing had happened.
#[cfg(test)]
mod resume;
/// A chat API for tests.
#[cfg(test)]
mod server;
/// Invariants of the house that no compiler checks.
#[cfg(test)]
mod tidy;
