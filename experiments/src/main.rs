//! The `medgrpo` command.

use std::process::ExitCode;

use clap::Parser;
use medgrpo::{cli::Cli, commands};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    keep_freed_memory();
    medgrpo::init_logging();
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => medgrpo::report_failure(&error),
    }
}

/// What one training step frees the next one wants: given back in between, every page would be zeroed anew, a tenth to a
/// fifth of a step on the CPU (experiments/LOG.md). `MIMALLOC_PURGE_DELAY` goes first.
fn keep_freed_memory() {
    // `mi_option_purge_delay` of mimalloc.h, which the bindings leave out.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    const NEVER: std::ffi::c_long = -1;
    // SAFETY: sets a number that the allocator reads.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, NEVER) };
}
