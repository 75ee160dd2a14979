//! A run that was stopped goes on as if it had not been: the real binary on a small experiment, compared byte by byte.

mod adapters;
mod alarms;
mod best;
mod clips;
mod compared;
mod events;
mod every_recipe;
mod failures;
mod from_nothing;
mod kills;
mod kl_in_reward;
mod lengths;
mod memory;
mod replayed;
mod rescored;
mod side_by_side;
mod signal;
mod stops;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{cli::binary, device::chosen};

/// The last checkpoints of the two stages of `experiment.toml`.
const LAST_CHECKPOINTS: [&str; 2] = ["checkpoints/00-sft-step-000008", "checkpoints/01-medgrpo-step-000004"];

/// The experiment in a folder of its own.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("experiment.toml"), include_str!("experiment.toml")).unwrap();
        Self { dir }
    }

    fn run(&self, name: &str) -> Run {
        Run { cwd: self.dir.path().to_owned(), name: name.to_owned() }
    }
}

/// A scene with its practice set rendered, and what the experiment gives when nothing happens to it.
struct Unbroken {
    scene: Scene,
    outcome: Outcome,
    /// With the practice set at hand.
    duration: Duration,
}

impl Unbroken {
    /// One for all tests that run at the same time; gone after the last of them.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Unbroken>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let unbroken = Arc::new(Self::new());
            *shared = Arc::downgrade(&unbroken);
            unbroken
        })
    }

    fn new() -> Self {
        let scene = Scene::new();
        let first = scene.run("unbroken");
        first.succeed();
        let outcome = first.outcome();
        let again = scene.run("again");
        let started = Instant::now();
        again.succeed();
        let duration = started.elapsed();
        outcome.assert_equal(&again.outcome(), "the same command twice");
        let [sft, medgrpo] = LAST_CHECKPOINTS.map(|dir| &outcome.0[&format!("{dir}/model.safetensors")]);
        assert!(sft != medgrpo, "the second stage changes nothing: the test would see no mistake in it");
        println!("unbroken: {:.1} s, last model {}", duration.as_secs_f64(), outcome.hash());
        Self { scene, outcome, duration }
    }
}

/// A run directory beside the experiment.
struct Run {
    cwd: PathBuf,
    name: String,
}

impl Run {
    fn path(&self) -> PathBuf {
        self.cwd.join(&self.name)
    }

    /// `medgrpo train` in the scene's folder.
    fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new(binary());
        command.arg("train").args(args).args(["--device", &chosen().to_string()]);
        command.current_dir(&self.cwd).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start_command(&self) -> Command {
        self.command(["experiment.toml", "--out", &self.name])
    }

    fn resume_command(&self) -> Command {
        self.command(["--resume", &self.name])
    }

    /// What a user types next: `--resume` once there is a run, the first command until then.
    fn next_command(&self) -> Command {
        if self.path().join("config.toml").exists() { self.resume_command() } else { self.start_command() }
    }

    /// Starts or resumes the run and lets it come to its end.
    fn succeed(&self) -> Output {
        let output = self.next_command().output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        output
    }

    /// Starts or resumes the run and kills it as soon as `is_time`. Whether it was still running.
    fn kill_when(&self, mut is_time: impl FnMut() -> bool) -> bool {
        let mut child = self.next_command().spawn().unwrap();
        while child.try_wait().unwrap().is_none() && !is_time() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        if let Some(code) = output.status.code() {
            assert_eq!(code, 0, "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        }
        output.status.code().is_none()
    }

    /// Waits until the run has left `path` behind; panics if it ends before.
    fn wait_for(&self, child: &mut Child, path: &str) {
        let path = self.path().join(path);
        while !path.metadata().is_ok_and(|metadata| metadata.is_dir() || metadata.len() > 0) {
            assert!(child.try_wait().unwrap().is_none(), "{}: the run has ended", self.name);
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Stages and steps with a line of metrics.
    fn logged_steps(&self) -> Vec<(u64, u64)> {
        let text = std::fs::read_to_string(self.path().join("metrics.jsonl")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.map(|line| (line["stage"].as_u64().unwrap(), line["step"].as_u64().unwrap())).collect()
    }

    /// Names of the checkpoints, oldest first.
    fn checkpoints(&self) -> Vec<String> {
        let mut names = names(&self.path().join("checkpoints"));
        names.retain(|name| name.starts_with('0'));
        names.sort();
        names
    }

    fn outcome(&self) -> Outcome {
        let mut files = BTreeMap::new();
        collect(&self.path(), "", &mut files);
        let metrics = String::from_utf8(files.remove("metrics.jsonl").expect("a run has metrics")).unwrap();
        events::assert_same_as_metrics(&self.path().join("tensorboard"), &metrics);
        files.insert("metrics.jsonl".to_owned(), without_times(&metrics).into_bytes());
        Outcome(files)
    }
}

/// The files of a finished run that depend on the experiment alone.
struct Outcome(BTreeMap<String, Vec<u8>>);

impl Outcome {
    /// The weights of the last checkpoint, in short.
    fn hash(&self) -> String {
        let model = &self.0[&format!("{}/model.safetensors", LAST_CHECKPOINTS[1])];
        blake3::hash(model).to_hex()[..16].to_owned()
    }

    fn assert_equal(&self, other: &Self, what: &str) {
        let names = |outcome: &Self| outcome.0.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(self), names(other), "{what}: the files");
        for wanted in [
            "model/model.safetensors",
            "rollouts.jsonl",
            "rollouts-tokens.jsonl.gz",
            "predictions/test-medgrpo.jsonl",
        ] {
            assert!(self.0.contains_key(wanted), "{wanted} is not compared");
        }
        let differing: Vec<_> = self.0.keys().filter(|name| self.0[*name] != other.0[*name]).collect();
        let line = differing.first().map(|name| {
            let [ours, theirs] = [self, other].map(|outcome| String::from_utf8_lossy(&outcome.0[*name]));
            let pair = ours.lines().zip(theirs.lines()).find(|(ours, theirs)| ours != theirs);
            pair.map(|(ours, theirs)| format!("\n{ours}\n{theirs}")).unwrap_or_default()
        });
        assert!(differing.is_empty(), "{what}: {differing:?} differ{}", line.unwrap_or_default());
    }
}

/// Reads the files below `dir`, left out those that hold a time or the run's name, and checkpoints that a stop may add.
/// The numbers of event files are compared with those of the metrics.
fn collect(dir: &Path, prefix: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for name in names(dir) {
        let path = dir.join(&name);
        let relative = format!("{prefix}{name}");
        let is_named =
            ["config.toml", "environment.json", "index.html", "curves.svg", "tensorboard", ".lock"]
                .contains(&&*relative);
        let is_extra = (prefix == "checkpoints/" && !name.starts_with('.'))
            && !LAST_CHECKPOINTS.contains(&relative.as_str());
        if is_named || is_extra {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{relative}/"), files);
        } else {
            files.insert(relative, std::fs::read(&path).unwrap());
        }
    }
}

fn without_times(metrics: &str) -> String {
    let mut kept = String::new();
    for line in metrics.lines() {
        let Value::Object(mut line) = serde_json::from_str(line).unwrap() else { panic!("{line}") };
        // What a judge has been asked before a kill it need not be asked again.
        line.retain(|key, _| !key.starts_with("judge/"));
        let before = line.len();
        line.retain(|key, _| key != "step_time" && !key.starts_with("time/") && !key.starts_with("perf/"));
        let num_told = if cfg!(target_os = "linux") { 7 } else { 5 };
        assert_eq!(before - line.len(), num_told, "times, speed and memory of a step");
        kept += &format!("{}\n", Value::Object(line));
    }
    kept
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
