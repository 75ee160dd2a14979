//! The directory of a run: who may write to it, where things lie in it, and writing without half-written files.
//!
//! A lock that the operating system releases when its holder dies keeps two processes apart. Logs are append-only
//! lines of JSON that carry their stage and step, so that a resumed run can cut them back to its checkpoint.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{config::Experiment, environment::Environment};

/// What can go wrong with a run directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A new run would overwrite an old one.
    #[error("{} already holds a run: continue it with --resume {}, or choose another --out", .0.display(), .0.display())]
    Exists(PathBuf),
    /// A new run would mix with other files.
    #[error("{} is not empty and holds no run: choose another --out", .0.display())]
    NotEmpty(PathBuf),
    /// There is nothing to resume.
    #[error("{} holds no run to resume (no {CONFIG_FILE}): start one with medgrpo train CONFIG.toml --out {}", .0.display(), .0.display())]
    Absent(PathBuf),
    /// Another process is at it.
    #[error("{} is in use by process {holder}: wait for it or stop it", .path.display())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// Process number, as written by the holder.
        holder: String,
    },
    /// The disk is full.
    #[error("{}: the disk is full: free some space, then continue with --resume", .0.display())]
    DiskFull(PathBuf),
    /// Any other failure to read or write.
    #[error("{}: {source}", .path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl RunDirError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The resolved experiment.
pub const CONFIG_FILE: &str = "config.toml";
/// One entry per start of the run: versions, machine, command line.
pub const ENVIRONMENT_FILE: &str = "environment.json";
/// One line per logged step.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// The numbers of every model on every split, with the scores behind them.
pub const EVALUATION_FILE: &str = "evaluation.json";
/// One line per group of completions.
pub const ROLLOUTS_FILE: &str = "rollouts.jsonl";
/// The curves.
pub const CURVES_FILE: &str = "curves.svg";
/// The page.
pub const PAGE_FILE: &str = "index.html";
const LOCK_FILE: &str = ".lock";

/// Where in a run something happened: stages from 0, steps of a stage from 1, 0 before its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Index of the stage.
    pub stage: usize,
    /// Optimizer steps done in it.
    pub step: usize,
}

/// A run directory that this process alone may write to.
#[derive(Debug)]
pub struct RunDir {
    root: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl RunDir {
    /// Makes the directory of a new run. What a process that was killed before the run began had not finished writing is removed.
    ///
    /// # Errors
    ///
    /// If there is anything in it already, or another process holds it.
    pub fn create(root: &Path) -> Result<Self, RunDirError> {
        fs::create_dir_all(root).map_err(RunDirError::io(root))?;
        let run = Self::lock(root)?;
        if root.join(CONFIG_FILE).exists() {
            return Err(RunDirError::Exists(root.to_owned()));
        }
        for entry in fs::read_dir(root).map_err(RunDirError::io(root))? {
            let name = entry.map_err(RunDirError::io(root))?.file_name();
            if name != LOCK_FILE && !is_temporary(&name) {
                return Err(RunDirError::NotEmpty(root.to_owned()));
            }
        }
        remove_temporaries(root).map_err(RunDirError::io(root))?;
        Ok(run)
    }

    /// Opens the directory of a run to continue it. What a killed process had not finished writing is removed.
    ///
    /// # Errors
    ///
    /// If there is no run in it, or another process holds it.
    pub fn resume(root: &Path) -> Result<Self, RunDirError> {
        if !root.join(CONFIG_FILE).exists() {
            return Err(RunDirError::Absent(root.to_owned()));
        }
        let run = Self::lock(root)?;
        run.make_folders()?;
        for folder in [root, &run.checkpoints(), &run.predictions()] {
            remove_temporaries(folder).map_err(RunDirError::io(folder))?;
        }
        Ok(run)
    }

    fn make_folders(&self) -> Result<(), RunDirError> {
        for folder in [self.checkpoints(), self.predictions()] {
            fs::create_dir_all(&folder).map_err(RunDirError::io(&folder))?;
        }
        Ok(())
    }

    fn lock(root: &Path) -> Result<Self, RunDirError> {
        let path = root.join(LOCK_FILE);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(RunDirError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The number is for the message only.
                let _ = file.take(20).read_to_string(&mut holder);
                return Err(RunDirError::Locked { path: root.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(RunDirError::io(&path)(error)),
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(RunDirError::io(&path))?;
        Ok(Self { root: root.to_owned(), _lock: file })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where checkpoints go.
    pub fn checkpoints(&self) -> PathBuf {
        Self::checkpoints_of(&self.root)
    }

    /// The same of the run in `root`, whoever holds it.
    pub(crate) fn checkpoints_of(root: &Path) -> PathBuf {
        root.join("checkpoints")
    }

    /// Where predictions go.
    pub fn predictions(&self) -> PathBuf {
        self.root.join("predictions")
    }

    /// Where the numbers of a stage go for TensorBoard: each stage is a run there, with its own steps.
    pub fn tensorboard(&self, stage_index: usize, stage: &str) -> PathBuf {
        self.root.join("tensorboard").join(format!("{stage_index:02}-{stage}"))
    }

    /// Writes the resolved experiment, unless an earlier start did, and adds this start's environment; from then on the
    /// directory holds a run, and before that nothing but its lock.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn claim(&self, experiment: &Experiment, environment: &Environment) -> Result<(), RunDirError> {
        let config = self.root.join(CONFIG_FILE);
        if !config.exists() {
            write_atomic(&config, experiment.to_toml().as_bytes())?;
        }
        environment.record(&self.root)?;
        self.make_folders()
    }

    /// Opens a log (`metrics.jsonl`, `rollouts.jsonl`) to append to, cut back to `keep`: lines of later steps, and a
    /// last line that was never finished, are dropped. `Position { stage: 0, step: 0 }` keeps what came before the
    /// first step.
    ///
    /// # Errors
    ///
    /// If it cannot be read or written.
    pub fn log(&self, file_name: &str, keep: Position) -> Result<JsonLines, RunDirError> {
        JsonLines::open(self.root.join(file_name), keep)
    }
}

/// An append-only file with one JSON object a line.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(flatten)]
    at: Position,
    #[serde(flatten)]
    record: &'a T,
}

impl JsonLines {
    fn open(path: PathBuf, keep: Position) -> Result<Self, RunDirError> {
        if path.exists() {
            cut_back(&path, keep)?;
        }
        let file =
            OpenOptions::new().append(true).create(true).open(&path).map_err(RunDirError::io(&path))?;
        Ok(Self { path, file })
    }

    /// Appends `record`, which must be a struct or a map, with its position. The line is handed to the operating
    /// system whole.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn append<T: Serialize>(&mut self, at: Position, record: &T) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(&Line { at, record })
            .map_err(|error| RunDirError::Io { path: self.path.clone(), source: error.into() })?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(RunDirError::io(&self.path))
    }

    /// Waits until everything appended is on the disk. To be called before the checkpoint of the same step is written.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn sync(&self) -> Result<(), RunDirError> {
        self.file.sync_all().map_err(RunDirError::io(&self.path))
    }
}

/// Drops the lines after `keep`, and from the first one on that is not JSON with a position.
fn cut_back(path: &Path, keep: Position) -> Result<(), RunDirError> {
    let file = File::open(path).map_err(RunDirError::io(path))?;
    let num_bytes = file.metadata().map_err(RunDirError::io(path))?.len();
    let mut reader = BufReader::new(file);
    let mut kept = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(RunDirError::io(path))?;
        let is_kept = line.ends_with(b"\n")
            && serde_json::from_slice::<Position>(&line).is_ok_and(|position| position <= keep);
        if read == 0 || !is_kept {
            break;
        }
        kept += read as u64;
    }
    if kept < num_bytes {
        // Positions only grow, so what is dropped is a tail; shortening a file is one step for the file system.
        let file = OpenOptions::new().write(true).open(path).map_err(RunDirError::io(path))?;
        file.set_len(kept).and_then(|()| file.sync_all()).map_err(RunDirError::io(path))?;
    }
    Ok(())
}

fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes())
}

/// Removes what is half-written in `folder`. Only the holder of the run's lock may: nobody else is writing then.
fn remove_temporaries(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_temporary(&entry.file_name()) {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// How the names of half-written files and folders of a run start.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp-";

/// Writes a file that is there whole or not at all: under a temporary name in the same directory, synced, renamed.
///
/// # Errors
///
/// If it cannot be written; nothing is left behind then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let parent = parent_of(path);
    let written = (|| {
        let mut file = temporary(0o666).tempfile_in(parent)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(parent)?.sync_all()
    })();
    written.map_err(RunDirError::io(path))
}

/// Makes a folder that is there whole or not at all; `fill` is given its temporary place and syncs what it writes.
///
/// # Errors
///
/// Those of `fill` and of the file system; nothing is left behind then.
pub(crate) fn write_folder(
    path: &Path,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let parent = parent_of(path);
    let temporary = temporary(0o777).tempdir_in(parent).map_err(RunDirError::io(path))?;
    fill(temporary.path())?;
    fs::rename(temporary.path(), path)
        .and_then(|()| File::open(parent)?.sync_all())
        .map_err(RunDirError::io(path))?;
    // It is no longer there to be removed.
    let _ = temporary.keep();
    Ok(())
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// tempfile's default hides what it makes from everyone else; the umask decides as for anything else.
fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    builder
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, process::Command};

    use super::*;

    fn at(stage: usize, step: usize) -> Position {
        Position { stage, step }
    }

    fn record(loss: f64) -> BTreeMap<&'static str, f64> {
        BTreeMap::from([("loss", loss)])
    }

    #[test]
    fn a_run_is_never_overwritten_and_only_a_run_is_resumed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("a/b");
        assert!(matches!(RunDir::resume(&root), Err(RunDirError::Absent(_))));
        drop(RunDir::create(&root).unwrap());
        // A start that was killed before it wrote its config is no run: the same command works again.
        fs::write(root.join(".tmp-config"), "seed =").unwrap();
        assert!(matches!(RunDir::resume(&root), Err(RunDirError::Absent(_))));
        drop(RunDir::create(&root).unwrap());
        assert!(!root.join(".tmp-config").exists());
        write_atomic(&root.join(CONFIG_FILE), b"seed = 0").unwrap();
        assert!(matches!(RunDir::create(&root), Err(RunDirError::Exists(_))));
        drop(RunDir::resume(&root).unwrap());
        let foreign = dir.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.tex"), "x").unwrap();
        assert!(matches!(RunDir::create(&foreign), Err(RunDirError::NotEmpty(_))));
        assert!(foreign.join("thesis.tex").exists());
    }

    #[test]
    fn what_a_killed_process_left_half_written_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(&dir.path().join(CONFIG_FILE), b"").unwrap();
        let run = RunDir::resume(dir.path()).unwrap();
        for folder in [run.path(), &run.checkpoints(), &run.predictions()] {
            fs::create_dir_all(folder.join(".tmp-folder/sub")).unwrap();
            fs::write(folder.join(".tmp-folder/sub/weights"), "half").unwrap();
            fs::write(folder.join(".tmp-file"), "half").unwrap();
            fs::write(folder.join("whole"), "whole").unwrap();
        }
        drop(run);
        let run = RunDir::resume(dir.path()).unwrap();
        for folder in [run.path(), &run.checkpoints(), &run.predictions()] {
            assert!(!folder.join(".tmp-folder").exists() && !folder.join(".tmp-file").exists());
            assert!(folder.join("whole").exists());
        }
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::create(dir.path()).unwrap();
        first.log(METRICS_FILE, at(0, 0)).unwrap();
        write_atomic(&dir.path().join(CONFIG_FILE), b"").unwrap();
        let error = RunDir::resume(dir.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        RunDir::resume(dir.path()).unwrap();
    }

    #[test]
    fn the_lock_of_a_killed_process_is_free() {
        let dir = tempfile::tempdir().unwrap();
        write_atomic(&dir.path().join(CONFIG_FILE), b"").unwrap();
        let lock = dir.path().join(LOCK_FILE);
        fs::write(&lock, "").unwrap();
        // util-linux's flock holds the same kind of lock.
        let Ok(mut other) = Command::new("flock").arg("--no-fork").arg(&lock).args(["sleep", "60"]).spawn()
        else {
            return;
        };
        let refused = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            matches!(RunDir::resume(dir.path()), Err(RunDirError::Locked { .. }))
        });
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(refused, "the lock of another process was not seen");
        RunDir::resume(dir.path()).unwrap();
    }

    #[test]
    fn a_resumed_log_is_cut_back_to_the_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path()).unwrap();
        let mut log = run.log(METRICS_FILE, at(0, 0)).unwrap();
        log.append(at(0, 0), &record(9.0)).unwrap();
        for step in 1..=3 {
            log.append(at(0, step), &record(step as f64)).unwrap();
        }
        log.append(at(1, 1), &record(0.5)).unwrap();
        log.sync().unwrap();
        drop(log);
        let path = dir.path().join(METRICS_FILE);
        let whole = fs::read_to_string(&path).unwrap();
        assert_eq!(whole.lines().next(), Some(r#"{"stage":0,"step":0,"loss":9.0}"#));

        let mut log = run.log(METRICS_FILE, at(0, 2)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3, "steps 0, 1 and 2");
        log.append(at(0, 3), &record(3.0)).unwrap();
        log.append(at(1, 1), &record(0.5)).unwrap();
        drop(log);
        assert_eq!(fs::read_to_string(&path).unwrap(), whole, "as if never stopped");

        // A line that was being written when the process died.
        fs::write(&path, format!("{whole}{{\"stage\":1,\"st")).unwrap();
        run.log(METRICS_FILE, at(9, 9)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn atomic_writes_replace_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_atomic(&path, b"one").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = write_atomic(&dir.path().join("absent/x.json"), b"").unwrap_err();
        assert!(error.to_string().contains("absent/x.json"), "{error}");
    }

    #[test]
    fn a_full_disk_is_called_so() {
        let path = Path::new("/dev/full");
        if !path.exists() {
            return;
        }
        let mut log =
            JsonLines { path: path.to_owned(), file: OpenOptions::new().write(true).open(path).unwrap() };
        let error = log.append(at(0, 1), &record(1.0)).unwrap_err();
        assert!(matches!(error, RunDirError::DiskFull(_)), "{error}");
        assert!(error.to_string().contains("the disk is full"), "{error}");
    }
}
