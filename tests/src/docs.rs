//! The pages do not rot: their links lead somewhere, the files they name exist, their experiments load and their
//! commands are commands.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Parser, error::ErrorKind};
use medgrpo::{cli::Cli, config};

/// A Markdown file.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block.
struct Block<'a> {
    language: &'a str,
    /// Line of its first line, from 1.
    line: usize,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn pages() -> Vec<Page> {
    let mut paths = vec![root().join("tests/data/parity/README.md"), root().join("experiments/LOG.md")];
    collect(&root(), false, &mut paths);
    collect(&root().join("docs"), true, &mut paths);
    assert!(paths.len() > 10, "the pages were not found: {paths:?}");
    paths.into_iter().map(|path| Page { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

fn collect(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && deep {
            collect(&path, deep, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

impl Page {
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.strip_prefix(root()).unwrap_or(&self.path).display())
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut open = false;
        for (number, line) in self.text.lines().enumerate() {
            match line.trim_start().strip_prefix("```") {
                Some(_) if open => open = false,
                Some(language) => {
                    open = true;
                    blocks.push(Block { language, line: number + 2, text: String::new() });
                }
                None if open => {
                    let block = blocks.last_mut().unwrap();
                    block.text += line;
                    block.text += "\n";
                }
                None => {}
            }
        }
        assert!(!open, "{}: a ``` is not closed", self.path.display());
        blocks
    }

    /// Lines outside of fenced blocks, with their numbers from 1.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut open = false;
        let lines = self.text.lines().enumerate().filter(|(_, line)| {
            let is_fence = line.trim_start().starts_with("```");
            open ^= is_fence;
            !open && !is_fence
        });
        lines.map(|(number, line)| (number + 1, line)).collect()
    }

    /// What stands in single backticks, with its line.
    fn code_spans(&self) -> Vec<(usize, &str)> {
        let lines = self.prose().into_iter();
        lines
            .flat_map(|(number, line)| line.split('`').skip(1).step_by(2).map(move |span| (number, span)))
            .collect()
    }

    /// Targets of `[text](target)`, with their lines.
    fn links(&self) -> Vec<(usize, &str)> {
        let lines = self.prose().into_iter();
        lines
            .flat_map(|(number, line)| {
                line.split("](").skip(1).filter_map(move |rest| Some((number, rest.split_once(')')?.0)))
            })
            .collect()
    }

    /// Anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|(_, line)| line.starts_with('#'));
        let kept = |c: char| (c.is_alphanumeric() || "-_ ".contains(c)).then(|| c.to_ascii_lowercase());
        headings
            .map(|(_, line)| {
                line.trim_start_matches('#')
                    .trim()
                    .chars()
                    .filter_map(kept)
                    .collect::<String>()
                    .replace(' ', "-")
            })
            .collect()
    }
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut followed = 0;
    for page in &pages {
        for (line, target) in page.links() {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path =
                if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            assert!(path.exists(), "{}: `{target}` leads nowhere", page.at(line));
            if !anchor.is_empty() {
                let path = path.canonicalize().unwrap();
                let goal = pages.iter().find(|page| page.path.canonicalize().unwrap() == path);
                let anchors = goal.map(Page::anchors).unwrap_or_default();
                assert!(
                    anchors.iter().any(|known| known == anchor),
                    "{}: no heading `#{anchor}` there",
                    page.at(line)
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "only {followed} links were seen");
}

/// Paths are from the repository's root; `docs/architecture.md` says where it leaves out `experiments/src/`.
#[test]
fn files_that_are_named_exist() {
    const ROOMS: [&str; 10] = [
        "datasets",
        "rewards",
        "model",
        "trainers",
        "experiments",
        "tests",
        "docs",
        "scripts",
        ".ci",
        ".cargo",
    ];
    let mut seen = 0;
    for page in pages() {
        for (line, span) in page.code_spans() {
            let Some((first, rest)) = span.split_once('/') else { continue };
            let is_path = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let is_source = [".rs", ".py", ".toml", ".md"].iter().any(|ending| rest.ends_with(ending));
            if !is_path || !(ROOMS.contains(&first) || is_source) {
                continue;
            }
            let found = [root(), root().join("experiments/src")].iter().any(|base| base.join(span).exists());
            assert!(found, "{}: there is no `{span}`", page.at(line));
            seen += 1;
        }
    }
    assert!(seen > 30, "only {seen} paths were seen");
}

#[test]
fn experiments_in_the_pages_load() {
    let mut loaded = 0;
    for page in pages() {
        for block in
            page.blocks().iter().filter(|block| block.language == "toml" && block.text.contains("[model]"))
        {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("experiment.toml");
            fs::write(&file, &block.text).unwrap();
            if let Err(error) = config::load(&file, &[]) {
                panic!("{}: {error}", page.at(block.line));
            }
            loaded += 1;
        }
    }
    assert!(loaded >= 2, "only {loaded} experiments were seen");
}

#[test]
fn commands_in_the_pages_are_commands() {
    let mut parsed = 0;
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.language == "sh") {
            for (number, line) in block.text.lines().enumerate() {
                let line = line.split(" #").next().unwrap_or_default();
                if !line.starts_with("medgrpo ") {
                    continue;
                }
                if let Err(error) = Cli::try_parse_from(line.split_whitespace()) {
                    panic!("{}: `{line}`: {error}", page.at(block.line + number));
                }
                parsed += 1;
            }
        }
        // In running text a command may leave its arguments out, but not be another.
        for (line, span) in page.code_spans() {
            if !span.starts_with("medgrpo ") {
                continue;
            }
            if let Err(error) = Cli::try_parse_from(span.split_whitespace()) {
                let is_short = matches!(
                    error.kind(),
                    ErrorKind::MissingRequiredArgument
                        | ErrorKind::MissingSubcommand
                        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                );
                assert!(is_short, "{}: `{span}`: {error}", page.at(line));
            }
            parsed += 1;
        }
    }
    assert!(parsed > 15, "only {parsed} commands were seen");
}
