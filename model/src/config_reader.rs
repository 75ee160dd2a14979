//! Typed access to a JSON object of a configuration file with errors that name the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::ModelError;

/// Fields of the Hugging Face base class that do not change a forward pass.
const BOOKKEEPING: &[&str] = &[
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
    "tokenizer_class",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// The object that is the whole of a JSON file.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
    serde_json::from_str(&text).map_err(|error| ModelError::file(path, format!("not a JSON object: {error}")))
}

/// One object of the file.
pub(crate) struct Reader<'a> {
    object: &'a Map<String, Value>,
    path: &'a Path,
    prefix: String,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(object: &'a Map<String, Value>, path: &'a Path, prefix: &str) -> Self {
        Self { object, path, prefix: prefix.to_owned() }
    }

    pub(crate) fn error(&self, key: &str, message: impl Into<String>) -> ModelError {
        ModelError::Config {
            path: self.path.to_owned(),
            key: format!("{}{key}", self.prefix),
            message: message.into(),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        self.get(key)
            .map(|value| {
                convert(value).ok_or_else(|| self.error(key, format!("must be {wanted}, not {value}")))
            })
            .transpose()
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, ModelError> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Reader<'a>>, ModelError> {
        let object = self.typed(key, "an object", Value::as_object)?;
        Ok(object.map(|object| Reader::new(object, self.path, &format!("{}{key}.", self.prefix))))
    }

    pub(crate) fn opt_str(&self, key: &str) -> Result<Option<&'a str>, ModelError> {
        self.typed(key, "text", Value::as_str)
    }

    /// Refuses a value other than `wanted`; an absent key is fine.
    pub(crate) fn expect_str(&self, key: &str, wanted: &str, why: &str) -> Result<(), ModelError> {
        match self.opt_str(key)? {
            Some(found) if found != wanted => Err(self.error(key, format!("is `{found}`: {why}"))),
            _ => Ok(()),
        }
    }

    pub(crate) fn opt_bool(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn opt_f64(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.typed(key, "a number", Value::as_f64)
    }

    pub(crate) fn f64(&self, key: &str) -> Result<f64, ModelError> {
        self.opt_f64(key).and_then(|value| self.required(key, value))
    }

    pub(crate) fn f64_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        Ok(self.opt_f64(key)?.unwrap_or(default))
    }

    pub(crate) fn opt_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        // Sizes multiply into allocations: the bound keeps a hostile file from overflowing them.
        self.typed(key, "a whole number from 1 to 16777216", |value| {
            value.as_u64().filter(|size| (1..=1 << 24).contains(size)).map(|size| size as usize)
        })
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.opt_size(key).and_then(|value| self.required(key, value))
    }

    pub(crate) fn u32_or(&self, key: &str, default: u32) -> Result<u32, ModelError> {
        let id =
            self.typed(key, "a token id", |value| value.as_u64().and_then(|id| u32::try_from(id).ok()))?;
        Ok(id.unwrap_or(default))
    }

    pub(crate) fn opt_sizes(&self, key: &str) -> Result<Option<Vec<usize>>, ModelError> {
        self.typed(key, "a list of whole numbers", |value| {
            value.as_array()?.iter().map(|item| item.as_u64().map(|size| size as usize)).collect()
        })
    }

    pub(crate) fn sizes(&self, key: &str) -> Result<Vec<usize>, ModelError> {
        self.opt_sizes(key).and_then(|value| self.required(key, value))
    }

    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<String>>, ModelError> {
        self.typed(key, "a list of texts", |value| {
            value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        })
    }

    /// Refuses the first key that is neither in `known` nor bookkeeping.
    pub(crate) fn refuse_unknown(&self, known: &[&[&str]]) -> Result<(), ModelError> {
        let known = |key: &str| known.iter().any(|keys| keys.contains(&key)) || BOOKKEEPING.contains(&key);
        match self.object.keys().find(|key| !known(key)) {
            Some(key) => Err(self.error(
                key,
                "is not a field this implementation knows; it may change the numbers, so it is refused",
            )),
            None => Ok(()),
        }
    }
}
