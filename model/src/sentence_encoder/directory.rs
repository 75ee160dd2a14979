//! What a sentence-transformers directory is made of: `modules.json`, prompts and the longest text.
//!
//! Source: `Transformer.load` and `SentenceTransformer` of sentence-transformers 5.7, whose files and those of versions
//! back to 2 are read.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    ModelError,
    config_reader::{Reader, read_object},
};

const MODULES_FILE: &str = "modules.json";
const PROMPTS_FILE: &str = "config_sentence_transformers.json";
const TRANSFORMER_FILE: &str = "sentence_bert_config.json";

/// One entry of `modules.json`.
#[derive(Deserialize)]
struct ModuleEntry {
    path: String,
    r#type: String,
}

/// Where the parts lie, and what stands in no part.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    /// Folder of the network and its tokenizer.
    pub(super) transformer: PathBuf,
    /// Folder of the pooling's configuration.
    pub(super) pooling: PathBuf,
    /// Whether vectors are brought to length one.
    pub(super) normalize: bool,
    /// Tokens after which a text is cut, special ones included, where the directory says so.
    pub(super) max_seq_length: Option<usize>,
}

impl Directory {
    /// Reads the directory's own files, not those of its parts.
    pub(super) fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(MODULES_FILE);
        if !path.exists() {
            let message =
                format!("holds no {MODULES_FILE}: not a sentence encoder as sentence-transformers saves it");
            return Err(ModelError::file(dir, message));
        }
        let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
        let modules: Vec<ModuleEntry> = serde_json::from_str(&text)
            .map_err(|error| ModelError::file(&path, format!("not a list of modules: {error}")))?;
        let kinds: Vec<&str> = modules.iter().map(|module| kind(&module.r#type)).collect();
        let normalize = match kinds.as_slice() {
            ["Transformer", "Pooling"] => false,
            ["Transformer", "Pooling", "Normalize"] => true,
            _ => {
                let message = format!(
                    "lists the modules [{}]; a Transformer, a Pooling and perhaps a Normalize are implemented",
                    kinds.join(", ")
                );
                return Err(ModelError::file(&path, message));
            }
        };
        let folder = |module: &ModuleEntry| {
            let inside =
                Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_)));
            let outside = || ModelError::file(&path, format!("`{}` is not a folder in here", module.path));
            inside.then(|| dir.join(&module.path)).ok_or_else(outside)
        };
        let transformer = folder(&modules[0])?;
        refuse_prompts(dir)?;
        Ok(Self {
            max_seq_length: read_max_seq_length(&transformer)?,
            pooling: folder(&modules[1])?,
            transformer,
            normalize,
        })
    }
}

/// The class of one of the library's own modules; its path changed between versions.
fn kind(class: &str) -> &str {
    match class.rsplit_once('.') {
        Some((package, name)) if package.starts_with("sentence_transformers.") => name,
        _ => class,
    }
}

fn refuse_prompts(dir: &Path) -> Result<(), ModelError> {
    let path = dir.join(PROMPTS_FILE);
    if !path.exists() {
        return Ok(());
    }
    let object = read_object(&path)?;
    let reader = Reader::new(&object, &path, "");
    match reader.opt_str("default_prompt_name")? {
        Some(name) => Err(reader.error(
            "default_prompt_name",
            format!("puts the prompt `{name}` before every text, which is not implemented"),
        )),
        None => Ok(()),
    }
}

fn read_max_seq_length(transformer: &Path) -> Result<Option<usize>, ModelError> {
    let path = transformer.join(TRANSFORMER_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let object = read_object(&path)?;
    let reader = Reader::new(&object, &path, "");
    if reader.opt_bool("do_lower_case")?.unwrap_or(false) {
        let message = "is true: only lower-casing by the tokenizer itself is implemented";
        return Err(reader.error("do_lower_case", message));
    }
    let why = "only vectors pooled from hidden states are implemented";
    reader.expect_str("transformer_task", "feature-extraction", why)?;
    reader.expect_str("module_output_name", "token_embeddings", why)?;
    if let Some(modalities) = reader.object("modality_config")?
        && let Some(text) = modalities.object("text")?
    {
        text.expect_str("method", "forward", why)?;
        text.expect_str("method_output_name", "last_hidden_state", why)?;
    }
    let options = ["model_args", "tokenizer_args", "config_args", "processing_kwargs"];
    let is_set =
        |value: &Value| !value.is_null() && value.as_object().is_none_or(|options| !options.is_empty());
    if let Some(key) = options.into_iter().find(|key| object.get(*key).is_some_and(is_set)) {
        return Err(reader.error(key, "is set; such options are not implemented"));
    }
    reader.refuse_unknown(&[KEYS, &options])?;
    reader.opt_size("max_seq_length")
}

/// `unpad_inputs` changes the reference's speed alone.
const KEYS: &[&str] = &[
    "max_seq_length",
    "do_lower_case",
    "transformer_task",
    "module_output_name",
    "modality_config",
    "unpad_inputs",
];
