//! The `medgrpo` command.

use std::process::ExitCode;

use clap::Parser;
use medgrpo::{cli::Cli, commands};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    medgrpo::init_logging();
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => medgrpo::report_failure(&error),
    }
}
