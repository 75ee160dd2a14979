//! The API key: read from the environment, put into one header, and into nothing else.

use std::{borrow::Cow, fmt};

use reqwest::header::HeaderValue;

use super::ChatError;

/// Shorter keys are no secret: local servers take `EMPTY` and the like, and hiding such a word would spoil texts.
const SHORTEST_SECRET: usize = 8;

/// A key that prints as nothing.
#[derive(Clone)]
pub(super) struct ApiKey {
    secret: String,
    variable: String,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

impl ApiKey {
    /// The key in an environment variable, blanks around it taken off.
    pub(super) fn from_env(variable: &str) -> Result<Self, ChatError> {
        let fatal = |what: &str| {
            ChatError::Fatal(format!(
                "the environment variable {variable} {what}: set it to the API key, or take the variable's name out \
                 of the configuration if the server asks for none"
            ))
        };
        // Before the variable is looked up, so that a key given in the place of a name is not told.
        if variable.is_empty() || !variable.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(ChatError::Fatal(
                "the key is named by the environment variable that holds it, in letters, digits and underscores: \
                 keys themselves stand in no file"
                    .to_owned(),
            ));
        }
        let Some(secret) = std::env::var_os(variable) else {
            return Err(fatal("is not set"));
        };
        let key = match secret.to_str().map(str::trim) {
            Some("") => return Err(fatal("is empty")),
            Some(secret) => Self { secret: secret.to_owned(), variable: variable.to_owned() },
            None => return Err(fatal("is not UTF-8")),
        };
        match key.header() {
            Some(_) => Ok(key),
            None => Err(fatal("holds characters that no HTTP header may hold")),
        }
    }

    /// The variable that the key came from.
    pub(super) fn variable(&self) -> &str {
        &self.variable
    }

    /// `Bearer …`, marked so that no library prints it.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.secret)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The text without the key, and without words that show its ends around asterisks, as servers like to echo it.
    pub(super) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.secret.len() < SHORTEST_SECRET {
            return Cow::Borrowed(text);
        }
        let text = match text.contains(&self.secret) {
            true => Cow::Owned(text.replace(&self.secret, "[key]")),
            false => Cow::Borrowed(text),
        };
        let ends = |word: &str| {
            let starts = self.secret.get(..4).is_some_and(|start| word.starts_with(start));
            starts || self.secret.get(self.secret.len() - 4..).is_some_and(|end| word.ends_with(end))
        };
        let is_mask = |word: &str| word.contains("**") && ends(word);
        let is_edge = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '*' | '-' | '_'));
        if !text.split(is_edge).any(is_mask) {
            return text;
        }
        let words = text.split_inclusive(is_edge).map(|piece| {
            let word = piece.trim_end_matches(is_edge);
            if is_mask(word) { format!("[key]{}", &piece[word.len()..]) } else { piece.to_owned() }
        });
        Cow::Owned(words.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> ApiKey {
        ApiKey { secret: secret.into(), variable: "V".into() }
    }

    #[test]
    fn the_key_is_in_no_text() {
        let key = key("sk-proj-abcdefgh12345678");
        assert_eq!(format!("{key:?} {:?}", key.header()), "ApiKey Some(Sensitive)");
        for (text, expected) in [
            ("wrong key 'sk-proj-abcdefgh12345678'.", "wrong key '[key]'."),
            ("wrong key: sk-pr***************5678. See x.", "wrong key: [key]. See x."),
            ("**bold** words and sk- stay", "**bold** words and sk- stay"),
            ("", ""),
        ] {
            assert_eq!(key.redact(text), expected);
        }
    }

    #[test]
    fn a_short_word_is_no_secret() {
        assert_eq!(key("EMPTY").redact("the EMPTY box"), "the EMPTY box");
    }

    #[test]
    fn a_key_in_the_place_of_a_name_is_not_told() {
        let error = ApiKey::from_env("sk-proj-abcdefgh12345678").unwrap_err().to_string();
        assert!(!error.contains("abcdefgh") && error.contains("environment variable"), "{error}");
        let error = ApiKey::from_env("MEDGRPO_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert!(error.contains("MEDGRPO_NO_SUCH_VARIABLE is not set"), "{error}");
    }
}
