//! The command line as scripts use it: the real binary, its files, its stdout and its exit code.

mod bad_input;
mod contracts;
mod eval;
mod external;
mod records;
mod rewards;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use crate::fixture;

/// Runs `medgrpo` with these arguments.
fn medgrpo<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(binary()).args(args).env_remove("RUST_LOG").output().unwrap()
}

/// Runs `medgrpo`, which must succeed, and returns what it wrote to stdout.
fn succeed<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> String {
    let Output { status, stdout, stderr } = medgrpo(args);
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}: {stderr}");
    String::from_utf8(stdout).unwrap()
}

/// `medgrpo VERB --model NAME --data NAME.WHAT.jsonl --out OUT`.
fn verb(verb: &str, name: &str, what: &str, out: &Path) -> Vec<String> {
    let data = fixture::root().join(format!("{name}.{what}.jsonl"));
    verb_on(verb, &fixture::root().join(name), &data, out)
}

fn verb_on(verb: &str, model: &Path, data: &Path, out: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let args = [
        verb.to_owned(),
        "--model".into(),
        text(model),
        "--data".into(),
        text(data),
        "--out".into(),
        text(out),
    ];
    args.to_vec()
}

/// The binary of this test's profile and features. Cargo builds no binary of another package for a test, and an old
/// one would be tested in its place, so it is built here; that takes no time when it is current.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(profile) => profile,
            None => panic!("{} is not in a profile's folder", test.display()),
        };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "--package", "medgrpo", "--profile", profile]);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
        // What cargo tells a test of its package would make build scripts that look at it run anew, here and in the next
        // build outside of a test: minutes each time.
        for (name, _) in std::env::vars_os() {
            let told = name.to_str().unwrap_or_default();
            if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "OUT_DIR"]
                .iter()
                .any(|prefix| told.starts_with(prefix))
            {
                build.env_remove(name);
            }
        }
        let features = [
            ("wgpu", cfg!(feature = "wgpu")),
            ("cuda", cfg!(feature = "cuda")),
            ("tch", cfg!(feature = "tch")),
        ];
        for (feature, on) in features {
            if on {
                build.args(["--features", feature]);
            }
        }
        assert!(build.status().unwrap().success(), "the binary cannot be built");
        let binary = folder.join(format!("medgrpo{}", std::env::consts::EXE_SUFFIX));
        assert!(binary.exists(), "{} is not where this test looks for it", binary.display());
        binary
    })
}
