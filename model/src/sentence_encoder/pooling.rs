//! From the hidden states of a text's tokens to one vector.
//!
//! Source: `Pooling` of sentence-transformers 5.7. Several modes give their vectors one after the other.

use std::path::Path;

use burn::tensor::{Tensor, backend::Backend};
use serde_json::Value;

use crate::{
    ModelError,
    config_reader::{Reader, read_object},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cls,
    Max,
    Mean,
    /// The sum over the square root of the number of tokens.
    MeanSqrtLen,
}

/// Modes by their name, and by the older key that is true where they are wanted, in the order of the vectors.
const MODES: [(&str, &str, Option<Mode>); 6] = [
    ("cls", "pooling_mode_cls_token", Some(Mode::Cls)),
    ("max", "pooling_mode_max_tokens", Some(Mode::Max)),
    ("mean", "pooling_mode_mean_tokens", Some(Mode::Mean)),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Some(Mode::MeanSqrtLen)),
    ("weightedmean", "pooling_mode_weightedmean_tokens", None),
    ("lasttoken", "pooling_mode_lasttoken", None),
];

/// Which summaries of a text's tokens make up its vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pooling {
    modes: Vec<Mode>,
}

impl Pooling {
    /// Reads `config.json` of the pooling module's folder for tokens of `hidden_size` numbers.
    pub(super) fn from_dir(dir: &Path, hidden_size: usize) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let object = read_object(&path)?;
        let reader = Reader::new(&object, &path, "");
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            if let Some(width) = reader.opt_size(key)?
                && width != hidden_size
            {
                let message = format!("is {width}, but the network gives tokens of {hidden_size} numbers");
                return Err(reader.error(key, message));
            }
        }
        // `include_prompt` is about prompts, which are refused elsewhere.
        reader.opt_bool("include_prompt")?;
        let mut known =
            vec!["embedding_dimension", "word_embedding_dimension", "include_prompt", "pooling_mode"];
        known.extend(MODES.iter().map(|(_, key, _)| *key));
        reader.refuse_unknown(&[&known])?;
        Ok(Self { modes: read_modes(&reader, object.get("pooling_mode"))? })
    }

    /// Hidden states `[batch, tokens, hidden]` to vectors `[batch, hidden * modes]`.
    pub(super) fn forward<B: Backend>(&self, hidden: &Tensor<B, 3>) -> Tensor<B, 2> {
        let num_tokens = hidden.dims()[1];
        let pooled = self.modes.iter().map(|mode| {
            let hidden = hidden.clone();
            let pooled = match mode {
                Mode::Cls => hidden.narrow(1, 0, 1),
                Mode::Max => hidden.max_dim(1),
                Mode::Mean => hidden.mean_dim(1),
                Mode::MeanSqrtLen => hidden.sum_dim(1).div_scalar((num_tokens as f64).sqrt()),
            };
            pooled.squeeze_dim::<2>(1)
        });
        Tensor::cat(pooled.collect(), 1)
    }
}

fn read_modes(reader: &Reader<'_>, named: Option<&Value>) -> Result<Vec<Mode>, ModelError> {
    const KEY: &str = "pooling_mode";
    let implemented = |key: &str, name: &str| {
        let mode = MODES.iter().find(|(known, _, _)| *known == name).and_then(|(_, _, mode)| *mode);
        mode.ok_or_else(|| {
            let message = format!("`{name}` is not implemented; cls, max, mean and mean_sqrt_len_tokens are");
            reader.error(key, message)
        })
    };
    let wrong = || reader.error(KEY, "must be the name of a mode or a list of names");
    match named {
        Some(Value::String(name)) => Ok(vec![implemented(KEY, name)?]),
        Some(Value::Array(names)) if !names.is_empty() => {
            names.iter().map(|name| implemented(KEY, name.as_str().ok_or_else(wrong)?)).collect()
        }
        None | Some(Value::Null) => {
            let mut modes = Vec::new();
            for (name, key, _) in MODES {
                if reader.opt_bool(key)?.unwrap_or(false) {
                    modes.push(implemented(key, name)?);
                }
            }
            Ok(if modes.is_empty() { vec![Mode::Mean] } else { modes })
        }
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use burn_flex::Flex;
    use serde_json::json;

    use super::*;

    fn read(config: &Value) -> Result<Pooling, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        Pooling::from_dir(dir.path(), 2)
    }

    #[test]
    fn modes_by_hand() {
        let hidden = Tensor::<Flex, 3>::from_floats(
            [[[1.0, -2.0], [3.0, 0.0], [5.0, 8.0], [-1.0, 6.0]]],
            &Default::default(),
        );
        let pooling = read(&json!({"pooling_mode": ["max", "cls", "mean", "mean_sqrt_len_tokens"]})).unwrap();
        let vector: Vec<f32> = pooling.forward(&hidden).into_data().into_vec().unwrap();
        assert_eq!(vector, [5.0, 8.0, 1.0, -2.0, 2.0, 3.0, 4.0, 6.0]);
    }

    #[test]
    fn both_forms_of_the_file_are_read() {
        let old = json!({"word_embedding_dimension": 2, "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true});
        let new = json!({"embedding_dimension": 2, "pooling_mode": ["cls", "mean"], "include_prompt": true});
        assert_eq!(read(&old).unwrap(), read(&new).unwrap());
        assert_eq!(read(&json!({})).unwrap(), read(&json!({"pooling_mode": "mean"})).unwrap());
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_key() {
        for (config, wanted) in [
            (json!({"pooling_mode": "lasttoken"}), "`pooling_mode`: `lasttoken` is not implemented"),
            (json!({"pooling_mode": []}), "`pooling_mode`: must be"),
            (json!({"pooling_mode": [1]}), "`pooling_mode`: must be"),
            (json!({"pooling_mode_weightedmean_tokens": true}), "`pooling_mode_weightedmean_tokens`"),
            (json!({"pooling_mode_cls_token": "yes"}), "`pooling_mode_cls_token`: must be true or false"),
            (json!({"embedding_dimension": 3}), "`embedding_dimension`: is 3"),
            (json!({"whiten": true}), "`whiten`"),
        ] {
            let error = read(&config).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("config.json"), "{error}");
        }
    }
}
