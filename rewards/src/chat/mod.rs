//! A client for OpenAI-compatible chat endpoints: closed models, vLLM, `SGLang`, anything that serves `/chat/completions`.
//!
//! Many requests are in flight at once, within limits of concurrency, requests and tokens per minute; passing faults are
//! tried again until a deadline. The key comes from the environment and is shown to nobody. What is asked, and what the
//! replies mean, is the business of [`judge`](crate::judge) and of whoever evaluates an external model.

mod address;
mod client;
mod key;
mod limits;
mod reply;
mod retry;

#[cfg(test)]
pub(crate) mod test_server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde_json::{Map, Value};

pub use client::ChatClient;

/// Where to ask, and how hard to try.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatConfig {
    /// The address up to and with the version, such as `https://api.openai.com/v1`; `/chat/completions` is appended.
    pub base_url: String,
    /// The model's name at that address.
    pub model: String,
    /// The environment variable that holds the key; `None` where no key is asked for.
    pub api_key_env: Option<String>,
    /// Requests in flight at once, at least 1.
    pub max_concurrency: usize,
    /// No more requests than this start in any minute, tries counted.
    pub requests_per_minute: Option<u32>,
    /// No more tokens than this, prompt and completion, in any minute: estimated before a request, corrected after it.
    pub tokens_per_minute: Option<u32>,
    /// How long one try may take, from connecting to the last byte.
    pub timeout: Duration,
    /// How long one request may take with all its tries and pauses; waiting for our own limits is not counted.
    pub deadline: Duration,
    /// Tries after the first.
    pub max_retries: usize,
    /// The longest first pause between two tries; it doubles with every try, and the pause is drawn from 0 to it.
    pub backoff: Duration,
    /// Keys added to the body of every request, replacing ours; null takes a key out. For servers with names of their
    /// own, such as `{"max_tokens": null, "max_completion_tokens": 64}`.
    pub extra_body: Map<String, Value>,
}

impl ChatConfig {
    /// Eight requests in flight, six tries of a minute each within five minutes, no key and no limits.
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            api_key_env: None,
            max_concurrency: 8,
            requests_per_minute: None,
            tokens_per_minute: None,
            timeout: Duration::from_secs(60),
            deadline: Duration::from_secs(300),
            max_retries: 5,
            backoff: Duration::from_millis(500),
            extra_body: Map::new(),
        }
    }
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// Messages as the API wants them: `{"role", "content"}`, content text or a list of text and image parts.
    pub messages: Vec<Value>,
    /// The longest reply in tokens; `None` leaves it to the server.
    pub max_tokens: Option<usize>,
    /// 0 for the likeliest reply.
    pub temperature: f64,
    /// For servers that repeat their draws.
    pub seed: Option<u64>,
}

impl ChatRequest {
    /// A single message of the user, answered greedily.
    pub fn user(text: &str) -> Self {
        let message = serde_json::json!({ "role": "user", "content": text });
        Self { messages: vec![message], max_tokens: None, temperature: 0.0, seed: None }
    }

    /// Tokens that the request is expected to take, prompt and reply: what the limit per minute reckons with beforehand.
    ///
    /// A text counts as [`estimate_tokens`] says, a picture or any other part as [`TOKENS_PER_PICTURE`].
    pub fn estimated_tokens(&self) -> u64 {
        let part = |part: &Value| match part["text"].as_str() {
            Some(text) => estimate_tokens(text),
            None => TOKENS_PER_PICTURE,
        };
        let message = |message: &Value| match &message["content"] {
            Value::String(text) => estimate_tokens(text),
            Value::Array(parts) => parts.iter().map(part).sum(),
            _ => 0,
        };
        self.messages.iter().map(message).sum::<u64>() + self.max_tokens.unwrap_or(0) as u64
    }
}

/// What a picture is taken to cost before the server has told; its servers differ by a factor of ten either way.
pub const TOKENS_PER_PICTURE: u64 = 500;

/// Tokens of an English text, at four bytes each: within a fifth of what common tokenizers make of a caption.
pub fn estimate_tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatReply {
    /// What the model wrote; empty where it wrote nothing.
    pub text: String,
    /// Why it ended: `stop`, `length`, or whatever the server says.
    pub finish_reason: Option<String>,
    /// Tokens of the prompt: the server's count, or the estimate where it gives none.
    pub prompt_tokens: u64,
    /// Tokens of the reply, likewise.
    pub completion_tokens: u64,
}

/// Why there is no answer. The texts hold no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// Whatever is asked, the answer will be no: a refused key, no such model, a bad address, a used-up account.
    #[error("{0}")]
    Fatal(String),
    /// This request is refused for what it holds: a filter, a prompt that is too long.
    #[error("{0}")]
    Refused(String),
    /// This request was given up after all tries; later it may be answered.
    #[error("{0}")]
    Failed(String),
}
