//! What goes to the terminal: results to stdout, the rest to stderr.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use medgrpo_trainers::TrainError;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    alarms::Alarmed,
    commands::Violated,
    dashboard::{self, LogWriter, Stream},
    predict::Unfinished,
};

/// Warnings and, with `RUST_LOG`, more to stderr.
pub fn init_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,medgrpo=info"));
    fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// A line of a result. A closed pipe is not our failure.
pub(crate) fn print(line: &str) {
    if dashboard::tell(|board| board.keep(Stream::Out, line.to_owned())).is_some() {
        return;
    }
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The error and its causes, those left out that it tells itself.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

/// Says what went wrong. Exit code 2: something the user can mend; 1: training itself failed or was ended by an alarm,
/// answers are left to give, or a check found what it looks for.
pub fn report_failure(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", message(error));
    match error.downcast_ref::<TrainError>() {
        Some(TrainError::NotFinite { .. }) => ExitCode::from(1),
        _ if error.is::<Violated>() || error.is::<Unfinished>() || error.is::<Alarmed>() => ExitCode::from(1),
        _ => ExitCode::from(2),
    }
}
