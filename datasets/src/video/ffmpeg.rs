//! Starting `ffmpeg` and `ffprobe` on a file that is not trusted.
//!
//! The file is named by the `file:` protocol and no other protocol is allowed, so that neither a path nor a playlist
//! inside a file reaches the network.

use std::{
    io::{ErrorKind, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use ffmpeg_sidecar::{ffprobe::ffprobe_path, paths::ffmpeg_path};

use crate::DatasetError;

/// This much of what the program says is kept.
const MAX_STDERR_BYTES: u64 = 16 * 1024;

/// Which program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tool {
    Ffmpeg,
    Ffprobe,
}

/// A program at work; stopped when dropped.
pub(super) struct Running {
    child: Child,
    stderr: Option<std::thread::JoinHandle<String>>,
}

/// The arguments that name an input file.
pub(super) fn input(path: &Path) -> Vec<std::ffi::OsString> {
    let mut file = std::ffi::OsString::from("file:");
    file.push(path);
    vec!["-protocol_whitelist".into(), "file".into(), "-i".into(), file]
}

/// Starts a program with its output piped.
pub(super) fn start(
    tool: Tool,
    path: &Path,
    args: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Running, DatasetError> {
    // The tools' own message for a missing file is less clear.
    let metadata =
        std::fs::metadata(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
    let media = |message: String| DatasetError::Media { path: path.to_owned(), message };
    if !metadata.is_file() {
        return Err(media("not a video file".into()));
    }
    if metadata.len() == 0 {
        return Err(media("the video file is empty".into()));
    }
    let (name, program) = match tool {
        Tool::Ffmpeg => ("ffmpeg", ffmpeg_path()),
        Tool::Ffprobe => ("ffprobe", ffprobe_path()),
    };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C reaches every process of the terminal's group. A training run finishes its step then, and needs its frames.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command
        .spawn()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => media(format!(
                "reading a video needs the program `{name}`, which is not installed or not on PATH: install the package \
                 ffmpeg (Debian, Ubuntu: apt-get install ffmpeg)"
            )),
            _ => media(format!("the program `{name}` cannot be started: {error}")),
        })?;
    let stderr = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut told = Vec::new();
            let kept = stderr.by_ref().take(MAX_STDERR_BYTES).read_to_end(&mut told);
            // The rest is read too, or the program would wait for a reader.
            let rest = std::io::copy(&mut stderr, &mut std::io::sink());
            if let Err(error) = kept.and(rest) {
                tracing::debug!("the messages of {name} cannot be read: {error}");
            }
            String::from_utf8_lossy(&told).into_owned()
        })
    });
    Ok(Running { child, stderr })
}

impl Running {
    /// The program's output.
    pub(super) fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("the output is piped and taken once")
    }

    /// Waits for the end: whether it went well, and what was said.
    pub(super) fn finish(mut self) -> std::io::Result<(bool, String)> {
        let status = self.child.wait()?;
        let told = self.stderr.take().and_then(|stderr| stderr.join().ok()).unwrap_or_default();
        Ok((status.success(), told))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where the program has already ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The last line of a program's messages, without its address prefixes.
pub(super) fn last_line(told: &str) -> String {
    let line = told.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    let mut line = line;
    while let Some((_, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) {
        line = rest;
    }
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_reason_without_prefixes() {
        assert_eq!(last_line("a\n[mov,mp4 @ 0x55] [error] moov atom not found\n\n"), "moov atom not found");
        assert_eq!(last_line(""), "no reason given");
    }
}
