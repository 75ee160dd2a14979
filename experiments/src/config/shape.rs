//! The keys an experiment file may hold, as data: read once from the wire structs' own JSON schema.
//!
//! One source for three uses: telling unknown keys and wrong types with their line, writing the config reference, and
//! the test that no key is dead.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::wire::ExperimentWire;

/// What may stand behind a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A table with fixed keys.
    Table(Vec<Key>),
    /// A table whose key `type` selects which other keys it may hold.
    Tagged(Vec<Variant>),
    /// A list.
    List(Box<Shape>),
    /// One of some words, each with its meaning.
    Choice(Vec<(String, String)>),
    /// A whole number, at least 0.
    Unsigned,
    /// A number.
    Number,
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
}

/// A key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) required: bool,
    pub(super) shape: Shape,
}

/// One value of `type`, and the keys that go with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    pub(super) tag: String,
    pub(super) doc: String,
    pub(super) keys: Vec<Key>,
}

impl Shape {
    /// The whole experiment file.
    pub(super) fn experiment() -> Self {
        let generator = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = generator.into_generator().into_root_schema_for::<ExperimentWire>();
        Self::read(schema.as_value())
    }

    /// What kind of value is meant, for messages.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Table(_) | Self::Tagged(_) => "a table".to_owned(),
            Self::List(inner) => match inner.as_ref() {
                Self::Table(_) => "a list of tables".to_owned(),
                Self::Unsigned => "a list of whole numbers".to_owned(),
                _ => "a list of strings".to_owned(),
            },
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("one of {}", words.join(", "))
            }
            Self::Unsigned => "a whole number, 0 or more".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Bool => "true or false".to_owned(),
        }
    }

    /// The keys of a table with fixed keys; empty for anything else.
    pub(super) fn keys(&self) -> &[Key] {
        match self {
            Self::Table(keys) => keys,
            _ => &[],
        }
    }

    fn read(schema: &Value) -> Self {
        let object = schema.as_object().expect("the wire structs hold no free-form value");
        if let Some(inner) = without_null(object) {
            return Self::read(inner);
        }
        if let Some(alternatives) = object.get("oneOf").and_then(Value::as_array) {
            let is_tagged = alternatives.iter().all(|alternative| alternative.get("properties").is_some());
            return if is_tagged {
                Self::Tagged(alternatives.iter().map(Variant::read).collect())
            } else {
                Self::Choice(alternatives.iter().flat_map(words).collect())
            };
        }
        if object.contains_key("enum") || object.contains_key("const") {
            return Self::Choice(words(schema));
        }
        match type_of(object) {
            "object" => Self::Table(Key::read_all(object)),
            "array" => Self::List(Box::new(Self::read(&object["items"]))),
            "integer" => Self::Unsigned,
            "number" => Self::Number,
            "boolean" => Self::Bool,
            _ => Self::Text,
        }
    }
}

impl Key {
    fn read_all(object: &Map<String, Value>) -> Vec<Self> {
        let required: Vec<_> = object
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = object.get("properties").and_then(Value::as_object);
        let read = |(name, schema): (&String, &Value)| Self {
            name: name.clone(),
            doc: doc(schema),
            required: required.contains(&name.as_str()),
            shape: Shape::read(schema),
        };
        properties.into_iter().flatten().map(read).collect()
    }
}

impl Variant {
    fn read(schema: &Value) -> Self {
        let object = schema.as_object().expect("a variant is an object");
        let keys = Key::read_all(object);
        let tag = schema["properties"]["type"]["const"].as_str().unwrap_or_default().to_owned();
        Self { tag, doc: doc(schema), keys: keys.into_iter().filter(|key| key.name != "type").collect() }
    }
}

/// The schema inside `anyOf: [schema, null]`, which is how an `Option` of a named type is written.
fn without_null(object: &Map<String, Value>) -> Option<&Value> {
    let alternatives = object.get("anyOf")?.as_array()?;
    alternatives.iter().find(|alternative| alternative.get("type").and_then(Value::as_str) != Some("null"))
}

/// `integer` of `"integer"` or of `["integer", "null"]`.
fn type_of(object: &Map<String, Value>) -> &str {
    match object.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|&name| name != "null").unwrap_or("")
        }
        _ => "",
    }
}

fn words(schema: &Value) -> Vec<(String, String)> {
    let meaning = doc(schema);
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return vec![(word.to_owned(), meaning)];
    }
    let list = schema.get("enum").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|word| (word.to_owned(), meaning.clone()))
        .collect()
}

fn doc(schema: &Value) -> String {
    schema.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undocumented(shape: &Shape, path: &str, found: &mut Vec<String>) {
        let mut visit = |keys: &[Key], path: &str| {
            for key in keys {
                let path = format!("{path}.{}", key.name);
                if key.doc.is_empty() {
                    found.push(path.clone());
                }
                undocumented(&key.shape, &path, found);
            }
        };
        match shape {
            Shape::Table(keys) => visit(keys, path),
            Shape::Tagged(variants) => {
                for variant in variants {
                    visit(&variant.keys, &format!("{path}({})", variant.tag));
                }
            }
            Shape::List(inner) => undocumented(inner, path, found),
            _ => {}
        }
    }

    #[test]
    fn every_key_is_documented() {
        let mut found = Vec::new();
        undocumented(&Shape::experiment(), "", &mut found);
        assert!(found.is_empty(), "keys without a doc comment: {found:?}");
    }

    #[test]
    fn the_schema_is_read_whole() {
        let shape = Shape::experiment();
        let names: Vec<_> = shape.keys().iter().map(|key| key.name.as_str()).collect();
        assert_eq!(
            names,
            ["seed", "out", "bf16", "practice", "model", "data", "video", "stage", "evaluate", "alarms"]
        );
        let stage = &shape.keys()[7].shape;
        let Shape::List(stage) = stage else { panic!("stage is {stage:?}") };
        let recipe = &stage.keys()[1];
        assert!(recipe.required);
        let Shape::Table(keys) = &recipe.shape else { panic!("recipe is {recipe:?}") };
        let key = |name: &str| keys.iter().find(|key| key.name == name).unwrap();
        assert!(key("type").required);
        assert_eq!(key("beta").shape, Shape::Number);
        let normalization =
            key("rewards").shape.keys().iter().find(|key| key.name == "normalization").unwrap();
        let Shape::Tagged(variants) = &normalization.shape else { panic!("{normalization:?}") };
        assert_eq!(variants[0].tag, "none");
        assert_eq!(variants[0].keys, []);
        let loss_type = key("loss_type");
        let Shape::Choice(words) = &loss_type.shape else { panic!("{loss_type:?}") };
        assert_eq!(
            words.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>(),
            ["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"]
        );
    }
}
