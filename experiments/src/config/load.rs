//! From files and `--set` to a resolved experiment.
//!
//! `base = "other.toml"` (relative to the file that says it) is read first and the file laid over it: tables merge,
//! lists and plain values are replaced. The table `set = { "stage.1.trainer.max_steps" = 5 }` then reaches into lists,
//! and `--set stage.1.trainer.max_steps=5` goes last.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{
    check::check,
    error::{ConfigError, Problem},
    resolved::Experiment,
    shape::Shape,
    tree::{self, Node, Origin, Tree},
    validate::{Finding, validate, validate_choices},
    wire::ExperimentWire,
};

/// Reads an experiment file with everything it builds on, and lays `overrides` (`key.path=value`) over it.
///
/// # Errors
///
/// Everything that is wrong, each with file and line: unreadable files, syntax, unknown keys, wrong types, values that
/// do not make sense together.
pub fn load(path: &Path, overrides: &[String]) -> Result<Experiment, ConfigError> {
    let mut tree = read_file(path, &mut Vec::new())?;
    for text in overrides {
        apply_override(&mut tree, text)?;
    }
    let problems = check(&tree, &Shape::experiment());
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let wire = ExperimentWire::deserialize(tree.to_toml()).map_err(|error| Problem {
        origin: Some(tree.origin.clone()),
        message: error.to_string(),
        help: None,
    })?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut findings = validate_choices(&wire);
    let experiment = Experiment::from_wire(wire, &name);
    findings.extend(experiment.iter().flat_map(validate));
    match experiment {
        Some(experiment) if findings.is_empty() => Ok(experiment),
        _ => {
            let problem = |finding: Finding| problem_at(&tree, finding);
            Err(ConfigError { problems: findings.into_iter().map(problem).collect() })
        }
    }
}

/// A finding with the place where its key was typed.
pub(super) fn problem_at(tree: &Node, finding: Finding) -> Problem {
    let Finding { key, message, help } = finding;
    Problem { origin: Some(tree.nearest(&key).origin.clone()), message, help: Some(help) }
}

/// Reads one file and, below it, its `base`. `open` holds the files being read, outermost first.
pub(super) fn read_file(path: &Path, open: &mut Vec<PathBuf>) -> Result<Node, ConfigError> {
    let failure = |message: String, help: &str| Problem {
        origin: None,
        message: format!("{}: {message}", path.display()),
        help: Some(help.to_owned()),
    };
    let bytes =
        fs::read(path).map_err(|error| failure(error.to_string(), "give the path of an experiment file"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        failure(format!("byte {offset} is not UTF-8"), "an experiment file is TOML, which is UTF-8 text")
    })?;
    let shown: Arc<Path> = path.into();
    let origin = |line| Origin::File { path: Arc::clone(&shown), line };
    let mut tree = tree::parse(&text, &origin).map_err(|error| Problem {
        origin: Some(origin(error.line)),
        message: format!("not valid TOML: {}", error.message),
        help: None,
    })?;
    let base = take(&mut tree, "base");
    let set = take(&mut tree, "set");
    if let Some(base) = base {
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        open.push(canonical);
        let under = read_base(path, &base, open)?;
        open.pop();
        let over = std::mem::replace(&mut tree, under);
        tree.overlay(over);
    }
    if let Some(set) = set {
        apply_set_table(&mut tree, set)?;
    }
    Ok(tree)
}

fn read_base(path: &Path, base: &Node, open: &mut Vec<PathBuf>) -> Result<Node, ConfigError> {
    let problem = |message: String, help: &str| Problem {
        origin: Some(base.origin.clone()),
        message,
        help: Some(help.to_owned()),
    };
    let Tree::Leaf(toml::Value::String(name)) = &base.value else {
        return Err(problem("`base` takes a string".to_owned(), "name one file, relative to this one").into());
    };
    let file = path.parent().unwrap_or(Path::new("")).join(name);
    let canonical = fs::canonicalize(&file).map_err(|error| {
        problem(format!("`base` {}: {error}", file.display()), "paths are relative to this file")
    })?;
    if open.contains(&canonical) {
        return Err(problem(
            format!("`base` leads back to {}", file.display()),
            "a file cannot build on itself",
        )
        .into());
    }
    read_file(&file, open)
}

fn take(tree: &mut Node, key: &str) -> Option<Node> {
    match &mut tree.value {
        Tree::Table(table) => table.remove(key),
        _ => None,
    }
}

fn apply_set_table(tree: &mut Node, set: Node) -> Result<(), ConfigError> {
    let Tree::Table(entries) = set.value else {
        let help = Some("write set = { \"stage.1.trainer.max_steps\" = 5 }".to_owned());
        return Err(
            Problem { origin: Some(set.origin), message: "`set` takes a table".to_owned(), help }.into()
        );
    };
    for (key, node) in entries {
        set_path(tree, &key, node)?;
    }
    Ok(())
}

pub(super) fn apply_override(tree: &mut Node, text: &str) -> Result<(), ConfigError> {
    let origin = Origin::Set(text.into());
    let Some((key, typed)) = text.split_once('=') else {
        let help = Some("write --set key.path=value".to_owned());
        return Err(Problem { origin: Some(origin), message: "there is no `=`".to_owned(), help }.into());
    };
    // `value = <typed>` on a line of its own; what is not one TOML value is the string itself (a path, a word).
    let parsed = tree::parse(&format!("value = {typed}"), &|_| origin.clone()).ok().and_then(only_value);
    let string =
        || Node { origin: origin.clone(), value: Tree::Leaf(toml::Value::String(typed.trim().to_owned())) };
    set_path(tree, key.trim(), parsed.unwrap_or_else(string))
}

fn only_value(node: Node) -> Option<Node> {
    let Tree::Table(mut table) = node.value else {
        return None;
    };
    (table.len() == 1).then(|| table.remove("value")).flatten()
}

fn set_path(tree: &mut Node, key: &str, node: Node) -> Result<(), ConfigError> {
    let parts: Vec<_> = key.split('.').map(str::trim).collect();
    let origin = node.origin.clone();
    let problem = |message: String| Problem { origin: Some(origin.clone()), message, help: None };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(problem(format!("`{key}` is not a key path like stage.1.trainer.max_steps")).into());
    }
    if parts.len() > MAX_DEPTH {
        return Err(problem(format!(
            "`{key}` has {} parts; no key lies deeper than {MAX_DEPTH}",
            parts.len()
        ))
        .into());
    }
    tree.set(&parts, node).map_err(|message| problem(format!("cannot set `{key}`: {message}")).into())
}

/// Far above the deepest key there is; keeps a hostile path from building a tower of tables.
const MAX_DEPTH: usize = 16;
