//! TOML with a memory: every value knows the file and line, or the `--set`, that it came from.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

/// Where a value was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// The file as named on the command line or by `base`.
        path: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
    },
    /// On the command line: the text behind `--set`.
    Set(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "line {line} of {}", path.display()),
            Self::Set(text) => write!(f, "--set {text}"),
        }
    }
}

/// A value and where it was typed.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Tree,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Table(BTreeMap<String, Node>),
    List(Vec<Node>),
    Leaf(toml::Value),
}

/// What is not TOML, and on which line.
pub(super) struct SyntaxError {
    pub(super) message: String,
    pub(super) line: usize,
}

/// Parses a document; `origin` makes a value's origin from its line.
pub(super) fn parse(text: &str, origin: &dyn Fn(usize) -> Origin) -> Result<Node, SyntaxError> {
    let lines = LineIndex::new(text);
    let failure = |error: &toml::de::Error| SyntaxError {
        message: error.message().to_owned(),
        line: lines.line_of(error.span().map_or(0, |span| span.start)),
    };
    let table = DeTable::parse(text).map_err(|error| failure(&error))?;
    let reader = Reader { lines: &lines, origin };
    Ok(Node { origin: origin(1), value: reader.table(table.into_inner()).map_err(|error| failure(&error))? })
}

struct Reader<'a> {
    lines: &'a LineIndex,
    origin: &'a dyn Fn(usize) -> Origin,
}

impl Reader<'_> {
    fn table(&self, table: DeTable<'_>) -> Result<Tree, toml::de::Error> {
        let entry = |(key, value): (Spanned<_>, _)| {
            let start = key.span().start;
            let name: std::borrow::Cow<'_, str> = key.into_inner();
            Ok((name.into_owned(), self.node(start, value)?))
        };
        Ok(Tree::Table(table.into_iter().map(entry).collect::<Result<_, toml::de::Error>>()?))
    }

    fn node(&self, start: usize, value: Spanned<DeValue<'_>>) -> Result<Node, toml::de::Error> {
        let origin = (self.origin)(self.lines.line_of(start));
        let value = match value.get_ref() {
            DeValue::Table(_) => {
                let DeValue::Table(table) = value.into_inner() else { unreachable!("matched above") };
                self.table(table)?
            }
            DeValue::Array(_) => {
                let DeValue::Array(array) = value.into_inner() else { unreachable!("matched above") };
                let element = |item: Spanned<DeValue<'_>>| self.node(item.span().start, item);
                Tree::List(array.into_iter().map(element).collect::<Result<_, _>>()?)
            }
            _ => Tree::Leaf(toml::Value::deserialize(ValueDeserializer::from(value))?),
        };
        Ok(Node { origin, value })
    }
}

/// Byte offset to line number.
struct LineIndex {
    newlines: Vec<usize>,
}

impl LineIndex {
    fn new(text: &str) -> Self {
        Self {
            newlines: text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at).collect(),
        }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.newlines.partition_point(|&newline| newline < offset) + 1
    }
}

impl Node {
    /// Lays `over` on top: tables merge key by key, everything else is replaced.
    pub(super) fn overlay(&mut self, over: Self) {
        match (&mut self.value, over.value) {
            (Tree::Table(under), Tree::Table(table)) => {
                self.origin = over.origin;
                for (key, node) in table {
                    match under.get_mut(&key) {
                        Some(existing) => existing.overlay(node),
                        None => {
                            under.insert(key, node);
                        }
                    }
                }
            }
            (_, value) => *self = Self { origin: over.origin, value },
        }
    }

    /// Puts `node` at `path` (`stage.1.trainer.max_steps`), making tables on the way.
    ///
    /// An element of a list of tables is addressed by its number from 0, or by its `name`.
    ///
    /// # Errors
    ///
    /// What is wrong with the path.
    pub(super) fn set(&mut self, path: &[&str], node: Self) -> Result<(), String> {
        let Some((&head, rest)) = path.split_first() else {
            *self = node;
            return Ok(());
        };
        match &mut self.value {
            Tree::Table(table) => {
                let origin = node.origin.clone();
                let empty = || Self { origin, value: Tree::Table(BTreeMap::new()) };
                table.entry(head.to_owned()).or_insert_with(empty).set(rest, node)
            }
            Tree::List(items) => {
                let index =
                    head.parse().ok().or_else(|| items.iter().position(|item| item.name() == Some(head)));
                let known: Vec<_> = items.iter().map(|item| item.name().map(str::to_owned)).collect();
                match index.and_then(|index: usize| items.get_mut(index)) {
                    Some(item) => item.set(rest, node),
                    None => Err(format!("the list has no element `{head}`; {}", list_of_elements(&known))),
                }
            }
            Tree::Leaf(_) => Err(format!("`{head}` stands below a key that holds a plain value")),
        }
    }

    /// Takes the key at a dotted path out of its table; whether it was there.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let mut node = self;
        let (above, name) = path.rsplit_once('.').unwrap_or(("", path));
        for part in above.split('.').filter(|part| !part.is_empty()) {
            let next = match &mut node.value {
                Tree::Table(table) => table.get_mut(part),
                Tree::List(items) => part.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
                Tree::Leaf(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => return false,
            }
        }
        match &mut node.value {
            Tree::Table(table) => table.remove(name).is_some(),
            _ => false,
        }
    }

    /// The node at a dotted path, or the deepest one above it.
    pub(super) fn nearest(&self, path: &str) -> &Self {
        let mut node = self;
        for part in path.split('.') {
            let next = match &node.value {
                Tree::Table(table) => table.get(part),
                Tree::List(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                Tree::Leaf(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }

    /// The plain TOML value.
    pub(super) fn to_toml(&self) -> toml::Value {
        match &self.value {
            Tree::Table(table) => {
                toml::Value::Table(table.iter().map(|(key, node)| (key.clone(), node.to_toml())).collect())
            }
            Tree::List(items) => toml::Value::Array(items.iter().map(Self::to_toml).collect()),
            Tree::Leaf(value) => value.clone(),
        }
    }

    fn name(&self) -> Option<&str> {
        let Tree::Table(table) = &self.value else {
            return None;
        };
        match &table.get("name")?.value {
            Tree::Leaf(toml::Value::String(name)) => Some(name),
            _ => None,
        }
    }
}

fn list_of_elements(names: &[Option<String>]) -> String {
    if names.is_empty() {
        return "it is empty".to_owned();
    }
    let element = |(index, name): (usize, &Option<String>)| match name {
        Some(name) => format!("{index} (\"{name}\")"),
        None => index.to_string(),
    };
    format!("it has {}", names.iter().enumerate().map(element).collect::<Vec<_>>().join(", "))
}
