//! A small byte-level BPE tokenizer in Qwen2's form, for checkpoints made from nothing.
//!
//! Same normalisation (NFC), splitting (words, single digits, punctuation), byte alphabet and special tokens as
//! Qwen2.5-VL's, so that transformers reads it with the same class; only the merges come from the given texts.

use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::{
    AddedToken, Model, TokenizerImpl,
    models::bpe::{BPE, BpeTrainer},
    normalizers::NFC,
    pre_tokenizers::{
        PreTokenizerWrapper, byte_level::ByteLevel, sequence::Sequence, split::Split, split::SplitPattern,
    },
    tokenizer::SplitDelimiterBehavior,
};

use super::{
    ProcessorError,
    files::write_atomically,
    tokenizer::{TOKENIZER_CONFIG_FILE, TOKENIZER_FILE},
};

/// How Qwen2 splits text before merging: contractions, words with one leading mark, single digits, punctuation runs,
/// line ends, white space. A fact of the published `tokenizer.json`: other splits give other tokens.
const SPLIT_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Special tokens of Qwen2.5-VL in the order of their ids.
const SPECIAL_TOKENS: [&str; 14] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// Added tokens of Qwen2.5-VL that decoding keeps.
const ADDED_TOKENS: [&str; 8] = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Smallest vocabulary: every byte and every special and added token.
pub const MIN_VOCAB_SIZE: usize = 256 + SPECIAL_TOKENS.len() + ADDED_TOKENS.len();

/// Trains a tokenizer on `texts` and writes `tokenizer.json`, `tokenizer_config.json`, `vocab.json` and `merges.txt`
/// into `dir`. Returns the number of tokens: `vocab_size`, or fewer when the texts offer too few merges.
///
/// # Errors
/// When `vocab_size` is below [`MIN_VOCAB_SIZE`] or a file cannot be written.
pub fn train_bpe<I, S>(texts: I, vocab_size: usize, dir: &Path) -> Result<usize, ProcessorError>
where
    I: IntoIterator<Item = S>,
    I::IntoIter: Send,
    S: AsRef<str> + Send,
{
    let path = dir.join(TOKENIZER_FILE);
    let broken = |error: &dyn std::fmt::Display| {
        ProcessorError::file(&path, format!("training the tokenizer: {error}"))
    };
    if vocab_size < MIN_VOCAB_SIZE {
        return Err(broken(&format!("a vocabulary of {vocab_size} is too small; at least {MIN_VOCAB_SIZE}")));
    }
    let split =
        Split::new(SplitPattern::Regex(SPLIT_PATTERN.to_owned()), SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| broken(&error))?;
    let byte_level = ByteLevel::new(false, false, false);
    let pre_tokenizer =
        Sequence::new(vec![PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(byte_level)]);

    let mut tokenizer: TokenizerImpl<BPE, NFC, Sequence, ByteLevel, ByteLevel> =
        TokenizerImpl::new(BPE::default());
    tokenizer
        .with_normalizer(Some(NFC))
        .with_pre_tokenizer(Some(pre_tokenizer))
        .with_post_processor(Some(byte_level))
        .with_decoder(Some(byte_level));
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size - SPECIAL_TOKENS.len() - ADDED_TOKENS.len())
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(|error| broken(&error))?;
    let special = SPECIAL_TOKENS.map(|token| AddedToken::from(token, true).normalized(false));
    let added = ADDED_TOKENS.map(|token| AddedToken::from(token, false).normalized(false));
    tokenizer.add_special_tokens(&special);
    tokenizer.add_tokens(&added);

    std::fs::create_dir_all(dir).map_err(ProcessorError::io(dir))?;
    tokenizer.get_model().save(dir, None).map_err(|error| broken(&error))?;
    write_atomically(&path, tokenizer.to_string(true).map_err(|error| broken(&error))?.as_bytes())?;
    let added: Map<String, Value> = [&special[..], &added[..]]
        .concat()
        .into_iter()
        .filter_map(|token| Some((tokenizer.token_to_id(&token.content)?.to_string(), added_entry(&token))))
        .collect();
    let config = json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": added,
        "additional_special_tokens": &SPECIAL_TOKENS[1..],
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131_072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    });
    write_atomically(&dir.join(TOKENIZER_CONFIG_FILE), format!("{config:#}\n").as_bytes())?;
    Ok(tokenizer.get_vocab_size(true))
}

fn added_entry(token: &AddedToken) -> Value {
    json!({
        "content": token.content,
        "lstrip": token.lstrip,
        "normalized": token.normalized,
        "rstrip": token.rstrip,
        "single_word": token.single_word,
        "special": token.special,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Tokenizer;

    #[test]
    fn any_text_survives_a_vocabulary_without_merges() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(train_bpe(["abc abc"], MIN_VOCAB_SIZE, dir.path()).unwrap(), MIN_VOCAB_SIZE);
        let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
        for text in ["", "plain", "é中🙂 \0\n\t 123", "'s"] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(ids.len(), text.len());
            assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
        }
        assert!(train_bpe(["a"], MIN_VOCAB_SIZE - 1, dir.path()).is_err());
    }

    #[test]
    fn digits_are_never_merged_and_training_twice_gives_the_same_file() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let texts = vec!["from 12.5 to 12.5 seconds, seconds and seconds"; 50];
        for dir in [&one, &two] {
            train_bpe(&texts, 300, dir.path()).unwrap();
        }
        let read = |dir: &tempfile::TempDir| std::fs::read(dir.path().join(TOKENIZER_FILE)).unwrap();
        assert_eq!(read(&one), read(&two));
        let tokenizer = Tokenizer::from_dir(one.path()).unwrap();
        assert_eq!(tokenizer.encode("12.5").unwrap().len(), 4);
        assert_eq!(tokenizer.encode(" seconds").unwrap().len(), 1);
    }
}
