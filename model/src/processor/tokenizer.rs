//! `tokenizer.json` as transformers' fast tokenizer uses it: special tokens parsed in any text, nothing added around
//! it, nothing truncated or padded.

use std::{ops::Range, path::Path};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::ProcessorError;

/// Name of the tokenizer's file.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
/// Name of the file with added tokens and the roles of special ones.
pub(super) const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// Ids of the tokens that structure a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<|im_start|>`.
    pub im_start: u32,
    /// `<|im_end|>`, which ends an answer.
    pub im_end: u32,
    /// `<|endoftext|>`, which pads.
    pub endoftext: u32,
    /// `<|vision_start|>`.
    pub vision_start: u32,
    /// `<|vision_end|>`.
    pub vision_end: u32,
    /// `<|image_pad|>`, one for every merged patch of an image.
    pub image_pad: u32,
    /// `<|video_pad|>`, one for every merged patch of a video.
    pub video_pad: u32,
}

/// Text to token ids and back.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    roles: Map<String, Value>,
}

/// Token ids with the bytes of the text each one covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    pub(super) bytes: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, and the added tokens of `tokenizer_config.json` where there is one.
    ///
    /// # Errors
    /// When a file is missing or broken, or one of Qwen's special tokens is not in the vocabulary.
    pub fn from_dir(dir: &Path) -> Result<Self, ProcessorError> {
        let path = dir.join(TOKENIZER_FILE);
        let bytes = std::fs::read(&path).map_err(ProcessorError::io(&path))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| ProcessorError::file(&path, format!("not a tokenizer: {error}")))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| ProcessorError::file(&path, error.to_string()))?;

        let config_path = dir.join(TOKENIZER_CONFIG_FILE);
        let mut roles = Map::new();
        if config_path.exists() {
            let config = read_object(&config_path)?;
            add_tokens(&mut inner, &config, &config_path)?;
            roles = token_roles(&config);
        }
        let special = SpecialTokens::find(&inner, &path)?;
        Ok(Self { inner, special, roles })
    }

    /// Token ids of `text`; special tokens in it become their ids, as in the reference.
    ///
    /// # Errors
    /// When the tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ProcessorError> {
        let encoding = self.inner.encode_fast(text, false).map_err(|error| cannot_encode(&*error))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(super) fn encode_with_bytes(&self, text: &str) -> Result<Tokens, ProcessorError> {
        let encoding = self.inner.encode(text, false).map_err(|error| cannot_encode(&*error))?;
        let bytes = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok(Tokens { ids: encoding.get_ids().to_vec(), bytes })
    }

    /// Text of `ids`; ids beyond the vocabulary give nothing, bytes that are no UTF-8 give U+FFFD.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, ProcessorError> {
        let text = self.inner.decode(ids, skip_special_tokens);
        text.map_err(|error| {
            ProcessorError::Conversation(format!("cannot decode {} tokens: {error}", ids.len()))
        })
    }

    /// Ids of the tokens that structure a conversation.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Id of one token of the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Number of tokens, added ones included. A model may have more rows.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// `bos_token`, `eos_token` and the like by name, which chat templates may use.
    pub(super) fn roles(&self) -> &Map<String, Value> {
        &self.roles
    }
}

impl SpecialTokens {
    fn find(tokenizer: &tokenizers::Tokenizer, path: &Path) -> Result<Self, ProcessorError> {
        let id = |token: &str| {
            let missing = || {
                ProcessorError::key(path, token, "this special token is missing: not a Qwen2-VL tokenizer")
            };
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        Ok(Self {
            im_start: id("<|im_start|>")?,
            im_end: id("<|im_end|>")?,
            endoftext: id("<|endoftext|>")?,
            vision_start: id("<|vision_start|>")?,
            vision_end: id("<|vision_end|>")?,
            image_pad: id("<|image_pad|>")?,
            video_pad: id("<|video_pad|>")?,
        })
    }
}

fn cannot_encode(error: &(dyn std::error::Error + Send + Sync)) -> ProcessorError {
    ProcessorError::Conversation(format!("the tokenizer cannot encode the text: {error}"))
}

pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>, ProcessorError> {
    let text = std::fs::read_to_string(path).map_err(ProcessorError::io(path))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ProcessorError::file(path, "must hold a JSON object")),
        Err(error) => Err(ProcessorError::file(path, error.to_string())),
    }
}

/// Adds the tokens of `added_tokens_decoder` in the order of their ids and checks that they get those ids.
fn add_tokens(
    tokenizer: &mut tokenizers::Tokenizer,
    config: &Map<String, Value>,
    path: &Path,
) -> Result<(), ProcessorError> {
    const KEY: &str = "added_tokens_decoder";
    let Some(value) = config.get(KEY).filter(|value| !value.is_null()) else {
        return Ok(());
    };
    let Value::Object(entries) = value else {
        return Err(ProcessorError::key(path, KEY, "must be an object from id to token"));
    };
    let mut tokens = Vec::with_capacity(entries.len());
    for (key, entry) in entries {
        let error = |message: &str| ProcessorError::key(path, &format!("{KEY}.{key}"), message);
        let id: u32 = key.parse().map_err(|_| error("the key is not a token id"))?;
        let content =
            entry.get("content").and_then(Value::as_str).ok_or_else(|| error("`content` is missing"))?;
        let flag = |name: &str| entry.get(name).and_then(Value::as_bool);
        let special = flag("special").unwrap_or(false);
        let token = AddedToken::from(content, special)
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .single_word(flag("single_word").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special));
        tokens.push((id, token));
    }
    tokens.sort_by_key(|(id, _)| *id);
    for (id, token) in tokens {
        let content = token.content.clone();
        if token.special {
            tokenizer.add_special_tokens(&[token]);
        } else {
            tokenizer.add_tokens(&[token]);
        }
        let got = tokenizer.token_to_id(&content);
        if got != Some(id) {
            let message = format!(
                "`{content}` has id {got:?} in {TOKENIZER_FILE}; the two files do not belong together"
            );
            return Err(ProcessorError::key(path, &format!("{KEY}.{id}"), message));
        }
    }
    Ok(())
}

/// Keys such as `eos_token`, whose values are a token or an object with its `content`.
fn token_roles(config: &Map<String, Value>) -> Map<String, Value> {
    let text = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()).map(Value::from);
    let roles = config.iter().filter(|(key, _)| key.ends_with("_token") && !key.starts_with("add_"));
    roles.filter_map(|(key, value)| Some((key.clone(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::golden, *};

    /// The fixture's tokenizer with another `tokenizer_config.json`.
    fn with_config(config: &str) -> Result<Tokenizer, ProcessorError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(
            golden::data().join("checkpoint").join(TOKENIZER_FILE),
            dir.path().join(TOKENIZER_FILE),
        )
        .unwrap();
        std::fs::write(dir.path().join(TOKENIZER_CONFIG_FILE), config).unwrap();
        Tokenizer::from_dir(dir.path())
    }

    #[test]
    fn ids_beyond_the_vocabulary_decode_to_nothing() {
        let tokenizer = golden::processor().tokenizer().clone();
        let mut ids = tokenizer.encode("hook").unwrap();
        ids.extend([tokenizer.vocab_size() as u32, 151_936, u32::MAX, tokenizer.special().im_end]);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "hook");
        assert_eq!(tokenizer.decode(&ids, false).unwrap(), "hook<|im_end|>");
        // Half of a two-byte letter.
        let half = &tokenizer.encode("é").unwrap()[..1];
        assert_eq!(tokenizer.decode(half, true).unwrap(), "\u{fffd}");
    }

    #[test]
    fn tokens_of_the_config_are_added_behind_those_of_the_tokenizer() {
        let size = golden::processor().tokenizer().vocab_size();
        let config =
            format!(r#"{{"added_tokens_decoder": {{"{size}": {{"content": "<|new|>", "special": true}}}}}}"#);
        let tokenizer = with_config(&config).unwrap();
        assert_eq!(tokenizer.encode("a<|new|>").unwrap()[1], size as u32);
        assert_eq!(tokenizer.vocab_size(), size + 1);
        // The same token under another id: the files do not belong together.
        let error = with_config(&config.replace(&format!("\"{size}\""), "\"99999\"")).unwrap_err();
        assert!(error.to_string().contains("added_tokens_decoder.99999"), "{error}");
    }

    #[test]
    fn nothing_is_truncated_or_padded_whatever_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = golden::data().join("checkpoint").join(TOKENIZER_FILE);
        let mut file = read_object(&path).unwrap();
        let truncation =
            r#"{"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}"#;
        file.insert("truncation".into(), serde_json::from_str(truncation).unwrap());
        std::fs::write(dir.path().join(TOKENIZER_FILE), Value::Object(file).to_string()).unwrap();
        let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
        assert_eq!(tokenizer.encode("1234567").unwrap().len(), 7);
    }

    #[test]
    fn broken_files_are_named() {
        assert!(matches!(with_config("{").unwrap_err(), ProcessorError::File { .. }));
        for config in [
            r#"{"added_tokens_decoder": []}"#,
            r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#,
            r#"{"added_tokens_decoder": {"1": {}}}"#,
        ] {
            assert!(matches!(with_config(config).unwrap_err(), ProcessorError::Key { .. }), "{config}");
        }
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Tokenizer::from_dir(dir.path()).unwrap_err(), ProcessorError::Io { .. }));
        for text in ["", "{}", "\u{1}", r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#] {
            std::fs::write(dir.path().join(TOKENIZER_FILE), text).unwrap();
            let error = Tokenizer::from_dir(dir.path()).unwrap_err().to_string();
            assert!(error.contains(TOKENIZER_FILE), "{error}");
        }
    }
}
