//! What a server sent back: an answer, a refusal, or something to try again for.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{ChatReply, ChatRequest, estimate_tokens, retry::retry_after};

/// One try that gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No request of this client can succeed.
    Fatal(String),
    /// This request cannot, another may.
    Refused(String),
    /// It may succeed later, not before the pause that the server asks for.
    Passing { message: String, retry_after: Option<Duration> },
}

impl Fault {
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self::Passing { message: message.into(), retry_after: None }
    }
}

/// Longer messages of a server are cut.
const LONGEST_MESSAGE: usize = 300;

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

#[derive(Clone, Copy, Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    completion_tokens: Option<u64>,
}

/// The first choice of a body that was answered with success.
pub(super) fn read_completion(body: &[u8], request: &ChatRequest) -> Result<ChatReply, Fault> {
    let completion: Completion = match serde_json::from_slice(body) {
        Ok(completion) => completion,
        Err(error) => {
            // Gateways report the failure of what is behind them with success.
            let told = serde_json::from_slice(body).ok().and_then(|body: Value| told(&body));
            let what = told.unwrap_or_else(|| error.to_string());
            return Err(Fault::passing(format!("the reply is no chat completion: {what}")));
        }
    };
    let Some(choice) = completion.choices.into_iter().next() else {
        return Err(Fault::passing("the reply is no chat completion: it holds no choice"));
    };
    let text = match choice.message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
    };
    let (prompt, reply) = completion.usage.map_or((None, None), |u| (u.prompt_tokens, u.completion_tokens));
    Ok(ChatReply {
        finish_reason: choice.finish_reason,
        prompt_tokens: prompt
            .unwrap_or_else(|| request.estimated_tokens() - request.max_tokens.unwrap_or(0) as u64),
        completion_tokens: reply.unwrap_or_else(|| estimate_tokens(&text)),
        text,
    })
}

/// What an answer without success means.
pub(super) fn read_refusal(status: StatusCode, wait: Option<&str>, body: &[u8]) -> Fault {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message =
        parsed.as_ref().and_then(told).unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let message = match shorten(&message) {
        message if message.is_empty() => format!("the server answered {status}"),
        message => format!("the server answered {status}: {message}"),
    };
    let code = parsed.as_ref().and_then(|body| body["error"]["code"].as_str()).unwrap_or_default();
    match status.as_u16() {
        429 if code == "insufficient_quota" => Fault::Fatal(message),
        408 | 409 | 425 | 429 | 500.. => Fault::Passing {
            message,
            retry_after: wait.and_then(|wait| retry_after(wait, SystemTime::now())),
        },
        300..=399 => {
            Fault::Fatal(format!("{message}; redirections are not followed: give the final address"))
        }
        401..=405 => Fault::Fatal(message),
        _ => Fault::Refused(message),
    }
}

/// The message in the bodies that servers write: `{"error": {"message"}}`, `{"error": text}`, `{"message"}`, `{"detail"}`.
fn told(body: &Value) -> Option<String> {
    let error = &body["error"];
    let text = [&error["message"], error, &body["message"], &body["detail"]]
        .into_iter()
        .find_map(|value| value.as_str().map(str::to_owned));
    text.or_else(|| (!body["detail"].is_null()).then(|| body["detail"].to_string()))
}

/// A message on one line, cut where it is long.
fn shorten(message: &str) -> String {
    let line = message.split(|c: char| c.is_whitespace() || c.is_control());
    let line = line.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ChatReply, Fault> {
        read_completion(
            body.as_bytes(),
            &ChatRequest { max_tokens: Some(9), ..ChatRequest::user("12345678") },
        )
    }

    #[test]
    fn answers_of_several_servers() {
        let reply = read(
            r#"{"choices": [{"message": {"content": "R2: 4"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "more": {}}, "model": "m"}"#,
        );
        let expected = ChatReply {
            text: "R2: 4".into(),
            finish_reason: Some("stop".into()),
            prompt_tokens: 7,
            completion_tokens: 3,
        };
        assert_eq!(reply, Ok(expected));
        let reply =
            read(r#"{"choices": [{"message": {"content": [{"text": "a"}, {}, {"text": "b"}]}}]}"#).unwrap();
        assert_eq!((reply.text.as_str(), reply.prompt_tokens, reply.completion_tokens), ("ab", 2, 1));
        let reply = read(r#"{"choices": [{"message": {"content": null}}], "usage": null}"#).unwrap();
        assert_eq!(reply.text, "");
    }

    #[test]
    fn anything_else_is_tried_again() {
        for body in
            ["", "<html>", "{}", r#"{"choices": []}"#, r#"{"choices": [{"message": {"content": 4}}]}"#, "[[["]
        {
            assert!(matches!(read(body), Err(Fault::Passing { .. })), "{body}");
        }
        let fault = read(r#"{"error": {"message": "upstream is down"}}"#).unwrap_err();
        assert!(
            matches!(&fault, Fault::Passing { message, .. } if message.contains("upstream is down")),
            "{fault:?}"
        );
    }

    #[test]
    fn refusals_by_kind() {
        let fault = |status: u16, body: &str| {
            read_refusal(StatusCode::from_u16(status).unwrap(), Some("7"), body.as_bytes())
        };
        for status in [408, 409, 429, 500, 502, 503, 529] {
            let Fault::Passing { retry_after, .. } = fault(status, "") else { panic!("{status}") };
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        for status in [301, 401, 402, 403, 404] {
            assert!(matches!(fault(status, ""), Fault::Fatal(_)), "{status}");
        }
        for status in [400, 413, 422] {
            assert!(matches!(fault(status, ""), Fault::Refused(_)), "{status}");
        }
        let quota = r#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#;
        assert_eq!(fault(429, quota), Fault::Fatal("the server answered 429 Too Many Requests: pay".into()));
        let long = format!(r#"{{"detail": "a\n\u0007 {}"}}"#, "ü".repeat(999));
        let Fault::Refused(message) = fault(400, &long) else { panic!() };
        assert!(message.starts_with("the server answered 400 Bad Request: a üü"), "{message}");
        assert!(message.chars().count() < 400);
    }
}
