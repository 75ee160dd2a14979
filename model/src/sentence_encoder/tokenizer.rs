//! Text to token ids as transformers' fast BERT tokenizer gives them: special tokens around, cut at the longest text.

use std::path::Path;

use serde_json::Map;
use tokenizers::{NormalizerWrapper, Tokenizer, TruncationDirection, TruncationParams};

use super::BertConfig;
use crate::{
    ModelError,
    config_reader::{Reader, read_object},
};

const TOKENIZER_FILE: &str = "tokenizer.json";
const TOKENIZER_CONFIG_FILE: &str = "tokenizer_config.json";

/// `tokenizer.json` with what `tokenizer_config.json` changes in it.
#[derive(Debug)]
pub(super) struct SentenceTokenizer {
    inner: Tokenizer,
}

impl SentenceTokenizer {
    /// Reads both files; `max_seq_length` is the directory's own, before the tokenizer's and the network's.
    pub(super) fn from_dir(
        dir: &Path,
        max_seq_length: Option<usize>,
        config: &BertConfig,
    ) -> Result<Self, ModelError> {
        let path = dir.join(TOKENIZER_FILE);
        let bytes = std::fs::read(&path).map_err(ModelError::io(&path))?;
        let mut inner = Tokenizer::from_bytes(&bytes)
            .map_err(|error| ModelError::file(&path, format!("not a tokenizer: {error}")))?;
        let broken =
            |error: Box<dyn std::error::Error + Send + Sync>| ModelError::file(&path, error.to_string());
        if let Some(id) = inner.get_vocab(true).into_values().find(|id| *id as usize >= config.vocab_size) {
            let message =
                format!("holds token id {id}, but config.json's vocab_size is {}", config.vocab_size);
            return Err(ModelError::file(&path, message));
        }
        let stored_direction = inner.get_truncation().map(|truncation| truncation.direction);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(broken)?;
        let options = Options::from_dir(dir)?;
        options.apply_to_normalizer(&mut inner);

        let num_special = inner.encode_fast("", true).map_err(broken)?.len();
        if num_special == 0 {
            return Err(ModelError::file(&path, "puts no special token around a text: not a BERT tokenizer"));
        }
        let max_positions = config.max_position_embeddings;
        let max_length = max_seq_length
            .unwrap_or_else(|| options.model_max_length.unwrap_or(usize::MAX).min(max_positions));
        if max_length > max_positions || max_length <= num_special {
            let message = format!(
                "texts are cut after {max_length} tokens (max_seq_length), which must be more than the {num_special} special \
                 tokens and at most max_position_embeddings, {max_positions}"
            );
            return Err(ModelError::file(dir, message));
        }
        let direction = options.direction.or(stored_direction).unwrap_or_default();
        let truncation = TruncationParams { max_length, direction, ..TruncationParams::default() };
        inner.with_truncation(Some(truncation)).map_err(broken)?;
        Ok(Self { inner })
    }

    /// Token ids of `text`, at least one and at most as many as the directory allows.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<i32>, ModelError> {
        let encoding = self
            .inner
            .encode_fast(text, true)
            .map_err(|error| ModelError::Input(format!("the tokenizer cannot encode the text: {error}")))?;
        Ok(encoding.get_ids().iter().map(|id| *id as i32).collect())
    }
}

/// What `tokenizer_config.json` changes.
struct Options {
    model_max_length: Option<usize>,
    direction: Option<TruncationDirection>,
    /// The reference's BERT tokenizer sets these even where they are absent.
    bert: Option<BertOptions>,
}

struct BertOptions {
    lowercase: bool,
    strip_accents: Option<bool>,
    handle_chinese_chars: bool,
}

impl Options {
    fn from_dir(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(TOKENIZER_CONFIG_FILE);
        let object = if path.exists() { read_object(&path)? } else { Map::new() };
        let reader = Reader::new(&object, &path, "");
        let is_bert =
            reader.opt_str("tokenizer_class")?.is_none_or(|class| class.starts_with("BertTokenizer"));
        let bert = BertOptions {
            lowercase: reader.opt_bool("do_lower_case")?.unwrap_or(true),
            strip_accents: reader.opt_bool("strip_accents")?,
            handle_chinese_chars: reader.opt_bool("tokenize_chinese_chars")?.unwrap_or(true),
        };
        let direction = match reader.opt_str("truncation_side")? {
            None => None,
            Some("right") => Some(TruncationDirection::Right),
            Some("left") => Some(TruncationDirection::Left),
            Some(other) => {
                return Err(reader.error("truncation_side", format!("`{other}` is neither right nor left")));
            }
        };
        // Tokenizers without a limit store 1e30.
        let model_max_length = reader.opt_f64("model_max_length")?.filter(|limit| *limit < 1e9);
        Ok(Self {
            model_max_length: model_max_length.map(|limit| limit as usize),
            direction,
            bert: is_bert.then_some(bert),
        })
    }

    fn apply_to_normalizer(&self, tokenizer: &mut Tokenizer) {
        let Some(options) = &self.bert else { return };
        let Some(NormalizerWrapper::BertNormalizer(stored)) = tokenizer.get_normalizer() else { return };
        let mut normalizer = *stored;
        normalizer.lowercase = options.lowercase;
        normalizer.strip_accents = options.strip_accents;
        normalizer.handle_chinese_chars = options.handle_chinese_chars;
        tokenizer.with_normalizer(Some(normalizer));
    }
}
