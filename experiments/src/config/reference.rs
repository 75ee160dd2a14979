//! The page `docs/config-reference.md`, written from the keys themselves so that it cannot rot.
//!
//! Meanings are the doc comments of the wire structs; defaults are read off a resolved experiment that gives only what
//! it must.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{
    resolved::Experiment,
    shape::{Key, Shape},
    wire::ExperimentWire,
};

/// An experiment that gives required keys only, and has every table.
const SPARSE: &str = r#"
practice = { out = "data/practice", clips = 1 }
model.init = {}
data = { train = [{ file = "train.json" }], eval = [{ file = "test.json" }] }
stage = [{ name = "grpo", recipe.type = "grpo", trainer.max_steps = 1 }]
"#;

const PREFACE: &str = "\
# Configuration reference

Generated from the source by the test `config_reference_is_current`; edit the doc comments in
`experiments/src/config/wire/` instead.

An experiment is one TOML file. Unknown keys are errors. The run directory's `config.toml` is the same experiment with
every default written out.

- `base = \"other.toml\"` (relative to the file that says it) reads another file first. Tables merge key by key; lists and
  plain values are replaced.
- `set = { \"stage.grpo.recipe.beta\" = 0.04 }` reaches into lists: an element is named by its number from 0 or by its `name`.
- `--set stage.grpo.recipe.beta=0.04` on the command line goes last. The value is TOML; what is not valid TOML is taken
  as a string.

Paths are relative to the directory the command is started in. Defaults of a recipe's keys are those of `type = \"grpo\"`;
what the other types change stands at `type`.
";

/// The reference of all keys, as Markdown.
pub fn reference_markdown() -> String {
    let wire = toml::from_str::<toml::Table>(SPARSE).and_then(ExperimentWire::deserialize);
    let sparse = wire.ok().and_then(|wire| Experiment::from_wire(wire, "name"));
    let sparse = sparse.expect("SPARSE is valid; a test writes this page");
    let resolved = toml::Value::try_from(&sparse).expect("plain tables with string keys");
    let mut page = Page { text: PREFACE.to_owned(), resolved };
    page.section("The top of the file", "", Shape::experiment().keys(), "", "");
    page.text
}

struct Page {
    text: String,
    resolved: toml::Value,
}

impl Page {
    /// `header` is the table's name in TOML; `path` its place in the resolved example.
    fn section(&mut self, title: &str, doc: &str, keys: &[Key], header: &str, path: &str) {
        self.line(&format!("\n## {title}"));
        if !doc.is_empty() {
            self.line(&format!("\n{doc}"));
        }
        let mut inner = Vec::new();
        let mut rows = Vec::new();
        for key in keys {
            match &key.shape {
                Shape::Table(_) | Shape::Tagged(_) => inner.push(key),
                Shape::List(element) if matches!(element.as_ref(), Shape::Table(_)) => inner.push(key),
                _ => rows.push(key),
            }
        }
        if !rows.is_empty() {
            self.line("\n| key | value | default | meaning |\n|---|---|---|---|");
            for key in rows {
                self.row(key, path);
            }
        }
        for key in inner {
            self.inner(key, header, path);
        }
    }

    fn inner(&mut self, key: &Key, header: &str, path: &str) {
        let header = join(header, &key.name);
        let path = join(path, &key.name);
        let doc = format!("{}{}", key.doc, if key.required { " Required." } else { "" });
        match &key.shape {
            Shape::List(element) => {
                self.section(&format!("`[[{header}]]`"), &doc, element.keys(), &header, &join(&path, "0"));
            }
            Shape::Tagged(variants) => {
                self.line(&format!("\n## `[{header}]`\n\n{doc} The key `type` selects it."));
                for variant in variants {
                    let title = format!("`[{header}]` with `type = \"{}\"`", variant.tag);
                    self.section(&title, &variant.doc, &variant.keys, &header, &path);
                }
            }
            shape => self.section(&format!("`[{header}]`"), &doc, shape.keys(), &header, &path),
        }
    }

    fn row(&mut self, key: &Key, path: &str) {
        let default = if key.required {
            "required".to_owned()
        } else if key.doc.contains("default is") {
            "computed".to_owned()
        } else {
            self.look_up(&join(path, &key.name))
                .map_or_else(|| "none".to_owned(), |value| format!("`{}`", short(value)))
        };
        let (value, words) = value_of(&key.shape);
        let meaning = format!("{}{words}", key.doc).replace('|', "\\|");
        self.line(&format!("| `{}` | {value} | {default} | {meaning} |", key.name));
    }

    fn look_up(&self, path: &str) -> Option<&toml::Value> {
        path.split('.').try_fold(&self.resolved, |value, part| match value {
            toml::Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => value.get(part),
        })
    }

    fn line(&mut self, text: &str) {
        writeln!(self.text, "{text}").expect("writing to a String cannot fail");
    }
}

/// TOML writes 1e-8 as 0.00000001.
fn short(value: &toml::Value) -> String {
    match value {
        toml::Value::Float(number) if *number != 0.0 && number.abs() < 1e-4 => format!("{number:e}"),
        _ => value.to_string(),
    }
}

/// The kind of value, and what its words mean.
fn value_of(shape: &Shape) -> (String, String) {
    match shape {
        Shape::Choice(words) => {
            let meanings: Vec<_> = words
                .iter()
                .map(|(word, meaning)| format!("`\"{word}\"`: {}", lower_first(meaning)))
                .collect();
            let separator = if words.len() > MAX_IN_LINE { "<br>" } else { " " };
            ("word".to_owned(), format!("{separator}{}", meanings.join(separator)))
        }
        Shape::List(inner) => match inner.as_ref() {
            Shape::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect();
                ("list of words".to_owned(), format!(" Known are {}.", words.join(", ")))
            }
            Shape::Unsigned => ("list of whole numbers".to_owned(), String::new()),
            _ => ("list of strings".to_owned(), String::new()),
        },
        Shape::Unsigned => ("whole number".to_owned(), String::new()),
        Shape::Number => ("number".to_owned(), String::new()),
        Shape::Bool => ("true or false".to_owned(), String::new()),
        _ => ("string".to_owned(), String::new()),
    }
}

/// More words than this stand on lines of their own.
const MAX_IN_LINE: usize = 4;

/// Names and abbreviations keep their letters.
fn lower_first(text: &str) -> String {
    let word = text.split_whitespace().next().unwrap_or_default();
    if word.ends_with('.') || word.chars().skip(1).any(char::is_uppercase) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::reference_markdown;

    /// Set `UPDATE_DOCS=1` to write the page instead of comparing it.
    #[test]
    fn config_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/config-reference.md");
        let expected = reference_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == expected,
            "docs/config-reference.md is stale: run UPDATE_DOCS=1 cargo test -p medgrpo config_reference"
        );
    }

    #[test]
    fn defaults_are_those_of_a_resolved_experiment() {
        let page = reference_markdown();
        assert!(page.contains("| `num_generations` | whole number | `8` |"), "{page}");
        assert!(page.contains("| `max_steps` | whole number | required |"), "{page}");
        assert!(page.contains("| `fps` | number | none |"), "{page}");
        assert!(page.contains("| `max_grad_norm` | number | `1.0` |"), "{page}");
    }
}
