//! The part of `generation_config.json` that says when an answer ends.

use std::path::Path;

use serde::Deserialize;

use crate::ModelError;

/// Name of the file.
pub(crate) const GENERATION_CONFIG_FILE: &str = "generation_config.json";

#[derive(Deserialize)]
struct GenerationFile {
    eos_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// Ids that end an answer by the checkpoint's `generation_config.json`; `None` if it has none or names none.
///
/// Its sampling settings are not read: commands and configs name theirs.
pub fn read_stop_ids(dir: &Path) -> Result<Option<Vec<u32>>, ModelError> {
    let path = dir.join(GENERATION_CONFIG_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(ModelError::io(&path))?;
    let file: GenerationFile = serde_json::from_str(&text)
        .map_err(|error| ModelError::file(&path, format!("`eos_token_id` cannot be read: {error}")))?;
    Ok(file.eos_token_id.map(|ids| match ids {
        OneOrMany::One(id) => vec![id],
        OneOrMany::Many(ids) => ids,
    }))
}
