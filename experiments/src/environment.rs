//! What a run was made with: program, machine, command line. One entry per start, so that a resumed run keeps them all.

use std::{env, fs, path::Path, process::Command, time::SystemTime};

use serde::{Deserialize, Serialize};

use crate::run_dir::{ENVIRONMENT_FILE, RunDirError, write_atomic};

/// One start of the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this program.
    pub medgrpo_version: String,
    /// Commit of the repository that the command was started in, if any.
    pub git_revision: Option<String>,
    /// Whether tracked files differed from that commit.
    pub git_modified: Option<bool>,
    /// First line of `ffmpeg -version`, if it is installed.
    pub ffmpeg_version: Option<String>,
    /// Operating system and processor architecture (`linux x86_64`).
    pub platform: String,
    /// Name of the processor, where the system tells it.
    pub cpu: Option<String>,
    /// Threads that this process may use.
    pub num_cpus: usize,
    /// Where the arithmetic runs, in words.
    pub device: String,
    /// The command as typed.
    pub command_line: Vec<String>,
    /// The directory that relative paths of the configuration start from.
    pub working_directory: String,
    /// Date and time in UTC (RFC 3339).
    pub started_at: String,
}

impl Environment {
    /// Looks around. `device` is the device in words.
    pub fn collect(device: &str) -> Self {
        let git_revision = first_line_of("git", &["rev-parse", "HEAD"]);
        let git_modified = git_revision.as_ref().and_then(|_| {
            let status =
                Command::new("git").args(["status", "--porcelain", "--untracked-files=no"]).output().ok()?;
            status.status.success().then_some(!status.stdout.is_empty())
        });
        Self {
            medgrpo_version: env!("CARGO_PKG_VERSION").to_owned(),
            git_revision,
            git_modified,
            ffmpeg_version: first_line_of("ffmpeg", &["-version"]),
            platform: format!("{} {}", env::consts::OS, env::consts::ARCH),
            cpu: cpu_name(),
            num_cpus: std::thread::available_parallelism().map_or(1, usize::from),
            device: device.to_owned(),
            command_line: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            working_directory: env::current_dir()
                .map_or_else(|_| String::new(), |dir| dir.display().to_string()),
            started_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }

    /// Adds this start to the run directory's `environment.json`, a list.
    ///
    /// # Errors
    ///
    /// If the list cannot be read or written.
    pub fn record(&self, run_dir: &Path) -> Result<(), RunDirError> {
        let path = run_dir.join(ENVIRONMENT_FILE);
        let failure = |source| RunDirError::Io { path: path.clone(), source };
        let mut starts: Vec<serde_json::Value> = if path.exists() {
            let text = fs::read(&path).map_err(failure)?;
            serde_json::from_slice(&text).map_err(|error| failure(error.into()))?
        } else {
            Vec::new()
        };
        starts.push(serde_json::to_value(self).map_err(|error| failure(error.into()))?);
        let text = serde_json::to_vec_pretty(&starts).map_err(|error| failure(error.into()))?;
        write_atomic(&path, &text)
    }
}

fn first_line_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    if !output.status.success() {
        return None;
    }
    let line = String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

fn cpu_name() -> Option<String> {
    let table = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = table.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = Environment::collect("cpu");
        let second = Environment { device: "cuda:0".to_owned(), ..first.clone() };
        first.record(dir.path()).unwrap();
        second.record(dir.path()).unwrap();
        let text = fs::read(dir.path().join(ENVIRONMENT_FILE)).unwrap();
        let starts: Vec<Environment> = serde_json::from_slice(&text).unwrap();
        assert_eq!(starts, [first, second]);
    }

    #[test]
    fn the_date_is_a_date() {
        let started_at = Environment::collect("cpu").started_at;
        assert!(humantime::parse_rfc3339(&started_at).is_ok(), "{started_at}");
    }
}
