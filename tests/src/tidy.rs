//! Invariants of the house that no compiler checks; each message says how to mend a breach.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// A Rust source of the workspace.
struct Source {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
    is_test: bool,
}

impl Source {
    fn member(&self) -> &str {
        self.path.split('/').next().unwrap()
    }

    /// The lines before the file's own tests; none where the whole file is tests.
    fn code(&self) -> &str {
        if self.is_test || self.member() == "tests" {
            return "";
        }
        let starts = self.text.match_indices("\n#[cfg(test)]\n").map(|(start, _)| start);
        let opens_module = |start: &usize| {
            let item = self.text[*start..].lines().find(|line| !line.is_empty() && !line.starts_with("#["));
            item.is_some_and(|item| item.contains("mod ") && item.ends_with('{'))
        };
        starts.into_iter().find(opens_module).map_or(&self.text, |start| &self.text[..start])
    }

    /// Files of this module's child modules that are compiled for tests alone.
    fn test_modules(&self) -> impl Iterator<Item = String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder,
            _ => self.path.strip_suffix(".rs").unwrap_or(&self.path),
        };
        let lines = self.text.lines().zip(self.text.lines().skip(1));
        lines
            .filter(|(attribute, _)| attribute.trim() == "#[cfg(test)]")
            .filter_map(|(_, module)| module.strip_suffix(';')?.rsplit_once("mod ").map(|(_, name)| name))
            .flat_map(move |name| [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")])
    }

    /// Code lines without comments, with their numbers from 1.
    fn statements(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code().lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

const MEMBERS: [&str; 6] = ["model", "rewards", "datasets", "trainers", "experiments", "tests"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    for member in MEMBERS {
        for folder in ["src", "benches", "examples"] {
            collect(&root().join(member).join(folder), &mut found);
        }
    }
    assert!(found.len() > 100, "only {} sources were found", found.len());
    let tests: BTreeSet<String> = found.iter().flat_map(Source::test_modules).collect();
    for source in &mut found {
        source.is_test = tests.contains(&source.path);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            found.push(Source { path, text, is_test: false });
        }
    }
}

fn report(breaches: &[String], mend: &str) {
    assert!(breaches.is_empty(), "\n  {}\n{mend}\n", breaches.join("\n  "));
}

fn manifest(member: &str) -> Table {
    std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap().parse().unwrap()
}

/// Names in the dependency tables of a manifest, those for tests left out where `dev` is false.
fn dependencies(member: &str, dev: bool) -> BTreeSet<String> {
    let manifest = manifest(member);
    let mut tables = vec![&manifest];
    if let Some(Value::Table(targets)) = manifest.get("target") {
        tables.extend(targets.values().filter_map(Value::as_table));
    }
    let kinds = ["dependencies", "build-dependencies", "dev-dependencies"];
    let kinds = if dev { &kinds[..] } else { &kinds[..2] };
    let named =
        tables.into_iter().flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    named.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let allowed: [(&str, &[&str]); 5] = [
        ("model", &[]),
        ("datasets", &[]),
        ("rewards", &["medgrpo-datasets"]),
        ("trainers", &["medgrpo-datasets", "medgrpo-rewards", "medgrpo-model"]),
        ("experiments", &["medgrpo-datasets", "medgrpo-rewards", "medgrpo-model", "medgrpo-trainers"]),
    ];
    let mut breaches = Vec::new();
    for (member, allowed) in allowed {
        for name in dependencies(member, true).iter().filter(|name| name.starts_with("medgrpo")) {
            if !allowed.contains(&name.as_str()) {
                breaches.push(format!("{member}/Cargo.toml depends on {name}"));
            }
        }
    }
    report(
        &breaches,
        "Move what is needed to the crate that both may import (docs/architecture.md shows the direction).",
    );
    let workspace: Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let members: BTreeSet<&str> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(members, MEMBERS.into(), "a new member needs its place in this test");
}

#[test]
fn burn_stays_where_the_arithmetic_is() {
    let mut breaches = Vec::new();
    for member in ["rewards", "datasets"] {
        let burn = dependencies(member, true)
            .into_iter()
            .filter(|name| name.starts_with("burn") || name.starts_with("cubecl"));
        breaches.extend(burn.map(|name| format!("{member}/Cargo.toml depends on {name}")));
    }
    report(&breaches, "Tensors belong in model and trainers; rewards and datasets work on plain numbers.");
}

#[test]
fn backends_are_named_in_one_file() {
    const NAMES: [&str; 12] = [
        "cuda",
        "wgpu",
        "flex",
        "tch",
        "burn_flex",
        "burn_wgpu",
        "burn_cuda",
        "burn_tch",
        "Flex",
        "Wgpu",
        "Cuda",
        "LibTorch",
    ];
    // What a user may type or read is not the choice of a backend; an operation for arrays in memory is none either.
    let speaks_of_devices = ["experiments/src/device.rs", "experiments/src/cli.rs", "model/src/host_op.rs"];
    let mut breaches = Vec::new();
    for source in sources() {
        let exempt = speaks_of_devices.contains(&source.path.as_str());
        if exempt
            || !matches!(source.member(), "model" | "trainers" | "experiments")
            || source.path.contains("/benches/")
        {
            continue;
        }
        for (number, line) in source.statements() {
            let line = without_text(line);
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if let Some(name) = words.find(|word| NAMES.contains(word)) {
                breaches.push(format!("{}:{number} names {name}", source.path));
            }
        }
    }
    for member in ["model", "trainers"] {
        let is_backend =
            |name: &String| name.starts_with("burn-") && (member, name.as_str()) != ("model", "burn-flex");
        let backends = dependencies(member, false).into_iter().filter(is_backend);
        breaches
            .extend(backends.map(|name| format!("{member}/Cargo.toml depends on {name} outside of tests")));
    }
    report(&breaches, "Be generic over `B: Backend`; only experiments/src/device.rs chooses one. Tests may.");
}

#[test]
fn one_file_holds_the_training_loop() {
    // A training loop is code that asks a learner for optimizer steps again and again.
    let steps = |source: &&Source| {
        source.member() != "tests" && source.statements().any(|(_, line)| line.contains("learner.step("))
    };
    let sources = sources();
    let mut with_steps: Vec<&str> = sources.iter().filter(steps).map(|source| source.path.as_str()).collect();
    with_steps.sort_unstable();
    // `bench` times single steps on one batch: no data, no schedule, nothing learnt.
    assert_eq!(
        with_steps,
        ["experiments/src/commands/bench/mod.rs", "trainers/src/trainer.rs"],
        "the only training loop is trainers/src/trainer.rs: describe a new algorithm as a Recipe"
    );
    let optimizer = |source: &&Source| source.member() != "tests" && source.code().contains("burn::optim");
    let with_optimizer: Vec<&str> =
        sources.iter().filter(optimizer).map(|source| source.path.as_str()).collect();
    assert!(
        with_optimizer
            .iter()
            .all(|path| matches!(*path, "trainers/src/learner.rs" | "trainers/src/checkpoint.rs")),
        "optimizers belong to trainers/src/learner.rs: {with_optimizer:?}"
    );
    let backward = |source: &&Source| source.statements().any(|(_, line)| line.contains(".backward("));
    let with_backward: Vec<&str> =
        sources.iter().filter(backward).map(|source| source.path.as_str()).collect();
    assert_eq!(with_backward, ["model/src/gradients.rs"], "why: docs/decisions/006");
    let recipes: Vec<&Source> =
        sources.iter().filter(|source| source.path.starts_with("trainers/src/recipes/")).collect();
    assert!(!recipes.is_empty());
    for recipe in recipes {
        let loops = recipe.statements().any(|(_, line)| {
            ["for ", "while ", "loop {"].iter().any(|word| line.trim_start().starts_with(word))
        });
        assert!(!loops, "{} holds a loop: a recipe only chooses parts", recipe.path);
    }
}

#[test]
fn only_experiments_prints() {
    let mut breaches = Vec::new();
    for source in sources() {
        if matches!(source.member(), "experiments" | "tests") || source.path.contains("/benches/") {
            continue;
        }
        for (number, line) in source.statements() {
            let line = without_text(line);
            let word = ["println!", "print!", "eprint!", "dbg!", "io::stdout()", "io::stderr()"]
                .iter()
                .find(|word| line.contains(*word));
            breaches.extend(word.map(|word| format!("{}:{number} uses {word}", source.path)));
        }
    }
    report(&breaches, "Return the text, or hand it to a callback; `tracing` carries warnings.");
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut breaches = Vec::new();
    for source in sources() {
        let (code, all) = (source.code().lines().count(), source.text.lines().count());
        if code > 400 || all > 600 {
            breaches.push(format!(
                "{}: {code} lines of code, {all} with tests (400 and 600 allowed)",
                source.path
            ));
        }
        let doc = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        if doc == 0 {
            breaches.push(format!("{}: does not start with `//!` documentation", source.path));
        }
        if doc > 8 {
            breaches.push(format!("{}: its `//!` documentation has {doc} lines (8 allowed)", source.path));
        }
    }
    report(
        &breaches,
        "One concept a file: split it by concept; say at its top what it is, why, and where it stops.",
    );
}

#[test]
fn nothing_unwraps_or_is_left_undone_outside_tests() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (number, line) in source.statements() {
            let line = without_text(line);
            let word = [".unwrap()", "todo!", "unimplemented!"].iter().find(|word| line.contains(*word));
            breaches.extend(word.map(|word| format!("{}:{number} uses {word}", source.path)));
        }
        for (number, line) in source.code().lines().enumerate() {
            let word = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")]
                .into_iter()
                .find(|word| line.contains(word));
            breaches.extend(word.map(|word| format!("{}:{} says {word}", source.path, number + 1)));
        }
    }
    report(
        &breaches,
        "Return an error, or state the invariant in `expect(\"...\")`. Finish it or leave it out.",
    );
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    // Put together here, so that this file is not its own breach.
    let machine = ["home/", "root/", "work/", "Users/", "tmp/"].map(|folder| format!("\"/{folder}"));
    let mut breaches = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate() {
            if machine.iter().any(|path| line.contains(path.as_str())) {
                breaches.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    report(&breaches, "Take the path as an argument, or start at CARGO_MANIFEST_DIR or a temporary folder.");
}

#[test]
fn big_crates_come_in_one_version() {
    let lock: Table = std::fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let field = |key: &str| package[key].as_str().unwrap();
        versions.entry(field("name")).or_default().insert(field("version"));
    }
    let big = |name: &str| {
        let families = ["burn", "cubecl", "cubek", "wgpu", "naga"];
        let single = ["image", "tokenizers", "serde", "serde_json", "clap", "rayon", "minijinja", "tracing"];
        families.iter().any(|family| name == *family || name.starts_with(&format!("{family}-")))
            || single.contains(&name)
    };
    assert!(versions.contains_key("burn") && versions.contains_key("image"));
    let twice = versions.iter().filter(|(name, versions)| big(name) && versions.len() > 1);
    let breaches: Vec<String> = twice.map(|(name, versions)| format!("{name}: {versions:?}")).collect();
    report(&breaches, "`cargo tree --duplicates` shows who asks for which; choose versions that agree.");
    assert_eq!(
        versions["burn"],
        ["0.21.0"].into(),
        "docs/decisions/001-burn-0.21.md says why burn is pinned"
    );
}

#[test]
fn members_share_their_dependencies_versions_and_lints() {
    let mut breaches = Vec::new();
    for member in MEMBERS {
        let manifest = manifest(member);
        if manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&Value::Boolean(true)) {
            breaches.push(format!("{member}/Cargo.toml: no `[lints] workspace = true`"));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, entry) in manifest.get(kind).and_then(Value::as_table).into_iter().flatten() {
                if entry.get("workspace") != Some(&Value::Boolean(true)) {
                    breaches.push(format!("{member}/Cargo.toml: {name} has a version of its own"));
                }
            }
        }
    }
    report(
        &breaches,
        "Versions stand in the root Cargo.toml under [workspace.dependencies]; take them with `workspace = true`.",
    );
}

/// A line with what stands in quotes and after `//` cut out, roughly: enough to find words of code.
fn without_text(line: &str) -> String {
    let mut code = String::new();
    for (index, part) in line.replace("\\\"", "").replace("'\"'", "").split('"').enumerate() {
        if index % 2 == 0 {
            match part.find("//") {
                Some(comment) => {
                    code.push_str(&part[..comment]);
                    break;
                }
                None => code.push_str(part),
            }
            code.push(' ');
        }
    }
    code
}
