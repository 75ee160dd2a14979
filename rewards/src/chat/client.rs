//! The client: bounded concurrency, limits, tries and deadlines, behind blocking calls.

use std::{
    error::Error as _,
    future::poll_fn,
    ops::ControlFlow,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    task::Poll,
    time::{Duration, Instant},
};

use reqwest::{
    Url,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use serde_json::{Map, Value, json};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, oneshot, watch},
    time,
};

use super::{
    ChatConfig, ChatError, ChatReply, ChatRequest,
    address::{completions_url, is_this_machine},
    key::ApiKey,
    limits::Window,
    reply::{Fault, read_completion, read_refusal},
    retry::Backoff,
};

/// Longer bodies are cut off and count as malformed: an answer of a chat model has kilobytes.
const LARGEST_BODY: usize = 8 << 20;

/// One request's wish to wait holds up the others no longer than this.
const LONGEST_COMMON_PAUSE: Duration = Duration::from_secs(60);

const MINUTE: Duration = Duration::from_secs(60);

/// Asks chat models. Calls block the calling thread; the network runs on threads of its own.
#[derive(Debug)]
pub struct ChatClient {
    shared: Arc<Shared>,
    /// `None` only while dropped.
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    config: ChatConfig,
    url: Url,
    key: Option<ApiKey>,
    http: reqwest::Client,
    permits: Semaphore,
    requests: Option<Window>,
    tokens: Option<Window>,
    backoff: Backoff,
    /// Nothing is sent before this: the server asked us to wait.
    paused_until: Mutex<Option<Instant>>,
    num_tries: AtomicU64,
}

impl ChatClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the address, a limit or the key's variable is wrong: always [`ChatError::Fatal`].
    pub fn new(config: ChatConfig) -> Result<Self, ChatError> {
        let fatal = |message: String| ChatError::Fatal(message);
        let url = completions_url(&config.base_url)?;
        if config.max_concurrency == 0 {
            return Err(fatal(
                "max_concurrency is 0: nothing would ever be asked; 1 asks one at a time".into(),
            ));
        }
        if config.requests_per_minute == Some(0) || config.tokens_per_minute == Some(0) {
            return Err(fatal(
                "a limit of 0 a minute: nothing would ever be asked; leave it out for none".into(),
            ));
        }
        let key = config.api_key_env.as_deref().map(ApiKey::from_env).transpose()?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("medgrpo/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false);
        if is_this_machine(&url) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| fatal(format!("no HTTP client: {}", chain(&error))))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("chat")
            .enable_all()
            .build()
            .map_err(|error| fatal(format!("no threads for the network: {error}")))?;
        let window = |limit: Option<u32>| limit.map(|limit| Window::new(limit.into(), MINUTE));
        let shared = Shared {
            url,
            key,
            http,
            permits: Semaphore::new(config.max_concurrency.min(Semaphore::MAX_PERMITS)),
            requests: window(config.requests_per_minute),
            tokens: window(config.tokens_per_minute),
            backoff: Backoff::new(config.backoff),
            paused_until: Mutex::new(None),
            num_tries: AtomicU64::new(0),
            config,
        };
        Ok(Self { shared: Arc::new(shared), runtime: Some(runtime) })
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.shared.config.model
    }

    /// The server's name and port, for reports.
    pub fn host(&self) -> String {
        let name = self.shared.url.host_str().unwrap_or_default();
        self.shared.url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
    }

    /// HTTP requests sent so far, every try counted.
    pub fn num_tries(&self) -> u64 {
        self.shared.num_tries.load(Ordering::Relaxed)
    }

    /// Asks all requests, at once within the limits; results in their order.
    ///
    /// After a [`ChatError::Fatal`] nothing more is sent, and all that was not sent has the same error.
    pub fn complete_all(&self, requests: Vec<ChatRequest>) -> Vec<Result<ChatReply, ChatError>> {
        let mut results: Vec<_> = requests.iter().map(|_| None).collect();
        let mut fatal = None;
        self.complete_each(requests, |index, result| {
            if let Err(error @ ChatError::Fatal(_)) = &result {
                fatal = Some(error.clone());
            }
            results[index] = Some(result);
            ControlFlow::Continue(())
        });
        let error = fatal.unwrap_or_else(|| ChatError::Failed("the request was lost".into()));
        results.into_iter().map(|result| result.unwrap_or_else(|| Err(error.clone()))).collect()
    }

    /// Asks all requests, at once within the limits, and hands over each result as it comes, with the request's index.
    ///
    /// After a [`ChatError::Fatal`] or a `Break` nothing more is sent; what is on its way is still handed over, what was
    /// not sent is not.
    pub fn complete_each(
        &self,
        requests: Vec<ChatRequest>,
        mut on_result: impl FnMut(usize, Result<ChatReply, ChatError>) -> ControlFlow<()>,
    ) {
        let Some(runtime) = &self.runtime else { return };
        let stop = Stop::default();
        let _stop_at_the_end = StopOnDrop(stop.clone());
        let (sender, results) = mpsc::channel();
        for (index, request) in requests.into_iter().enumerate() {
            let (shared, stop, sender) = (Arc::clone(&self.shared), stop.clone(), sender.clone());
            runtime.spawn(async move {
                // Held through pauses too: a server that is in trouble gets fewer requests. And until the result is
                // taken: a receiver that says stop has not been overtaken by requests it did not want.
                let Ok(_permit) = shared.permits.acquire().await else { return };
                if let Some(result) = shared.complete(&request, &stop).await {
                    let (taken, is_taken) = oneshot::channel();
                    // The receiver is gone only after a panic of its own.
                    if sender.send((index, result, taken)).is_ok() {
                        let _ = is_taken.await;
                    }
                }
            });
        }
        drop(sender);
        for (index, result, taken) in results {
            if on_result(index, result).is_break() {
                stop.tell();
            }
            let _ = taken.send(());
        }
    }
}

impl Drop for ChatClient {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for threads is not allowed inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Whether to send nothing more.
#[derive(Clone, Default)]
struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    fn tell(&self) {
        self.0.send_replace(true);
    }

    /// The result of the work; `None` if it is stopped before.
    async fn or(&self, work: impl Future<Output = ()>) -> Option<()> {
        let mut receiver = self.0.subscribe();
        let (mut work, mut told) = (pin!(work), pin!(receiver.wait_for(|&told| told)));
        poll_fn(|context| match (told.as_mut().poll(context), work.as_mut().poll(context)) {
            (Poll::Ready(_), _) => Poll::Ready(None),
            (_, Poll::Ready(())) => Poll::Ready(Some(())),
            _ => Poll::Pending,
        })
        .await
    }
}

/// Stops also where the receiver of results panics.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.tell();
    }
}

impl Shared {
    /// One request with all its tries; `None` if it was not sent because everything stopped.
    async fn complete(&self, request: &ChatRequest, stop: &Stop) -> Option<Result<ChatReply, ChatError>> {
        let body = self.body(request);
        let estimate = request.estimated_tokens();
        let (mut taken, mut failure) = (Duration::ZERO, None);
        for try_number in 0..=self.config.max_retries {
            let mut ticket = None;
            let may_be_sent = async {
                self.wait_for_the_server().await;
                if let Some(requests) = &self.requests {
                    requests.acquire(1).await;
                }
                if let Some(tokens) = &self.tokens {
                    ticket = Some((tokens, tokens.acquire(estimate).await));
                }
            };
            if stop.or(may_be_sent).await.is_none() {
                return failure.map(|failure| Err(ChatError::Failed(failure)));
            }
            let start = Instant::now();
            let limit = self.config.timeout.min(self.config.deadline.saturating_sub(taken));
            let result = match time::timeout(limit, self.try_once(request, body.clone())).await {
                Ok(result) => result,
                Err(_) => Err(Fault::passing(format!("no whole answer within {limit:.1?}"))),
            };
            taken += start.elapsed();
            let (message, wait) = match result {
                Ok(reply) => {
                    if let Some((tokens, ticket)) = ticket {
                        tokens.correct(ticket, reply.prompt_tokens + reply.completion_tokens);
                    }
                    return Some(Ok(reply));
                }
                Err(Fault::Fatal(message)) => {
                    stop.tell();
                    return Some(Err(ChatError::Fatal(self.blame(&message))));
                }
                Err(Fault::Refused(message)) => {
                    return Some(Err(ChatError::Refused(format!("{}: {message}", self.place()))));
                }
                Err(Fault::Passing { message, retry_after }) => (message, retry_after),
            };
            let pause = wait.unwrap_or(Duration::ZERO) + self.backoff.pause(try_number);
            self.pause_all(wait);
            let tries = try_number + 1;
            let given_up = format!("{}: {message}; given up after {tries} tries", self.place());
            if taken + pause >= self.config.deadline {
                let deadline = self.config.deadline;
                let next = wait.map_or_else(String::new, |wait| format!(", asked to wait {wait:.1?}"));
                return Some(Err(ChatError::Failed(format!(
                    "{given_up}{next}: the deadline is {deadline:.1?}"
                ))));
            }
            failure = Some(given_up);
            if try_number < self.config.max_retries {
                // Whether it was stopped is asked before the next try.
                stop.or(time::sleep(pause)).await;
                taken += pause;
            }
        }
        failure.map(|failure| Err(ChatError::Failed(failure)))
    }

    /// One HTTP request. Nothing that comes back from here holds the key.
    async fn try_once(&self, request: &ChatRequest, body: Vec<u8>) -> Result<ChatReply, Fault> {
        self.num_tries.fetch_add(1, Ordering::Relaxed);
        let broken = |error: reqwest::Error| Fault::passing(self.redact(&chain(&error.without_url())));
        let mut post = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        if let Some(key) = self.key.as_ref().and_then(ApiKey::header) {
            post = post.header(AUTHORIZATION, key);
        }
        let mut response = post.send().await.map_err(broken)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if bytes.len() + chunk.len() > LARGEST_BODY {
                return Err(Fault::passing(format!("the reply is longer than {LARGEST_BODY} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        // Before anything is read from it or cut: half a key is a secret too.
        let text = String::from_utf8_lossy(&bytes);
        let text = self.redact(&text);
        if response.status().is_success() {
            read_completion(text.as_bytes(), request)
        } else {
            let wait = response.headers().get(RETRY_AFTER).and_then(|header| header.to_str().ok());
            Err(read_refusal(response.status(), wait, text.as_bytes()))
        }
    }

    fn body(&self, request: &ChatRequest) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("model".into(), json!(self.config.model));
        body.insert("messages".into(), json!(request.messages));
        body.insert("temperature".into(), json!(request.temperature));
        if let Some(max_tokens) = request.max_tokens {
            body.insert("max_tokens".into(), json!(max_tokens));
        }
        if let Some(seed) = request.seed {
            body.insert("seed".into(), json!(seed));
        }
        body.extend(self.config.extra_body.clone());
        body.retain(|_, value| !value.is_null());
        Value::Object(body).to_string().into_bytes()
    }

    async fn wait_for_the_server(&self) {
        loop {
            let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(wait) if !wait.is_zero() => time::sleep(wait).await,
                _ => return,
            }
        }
    }

    fn pause_all(&self, wait: Option<Duration>) {
        if let Some(wait) = wait {
            let until = Instant::now() + wait.min(LONGEST_COMMON_PAUSE);
            let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
            *paused = Some(paused.map_or(until, |before| before.max(until)));
        }
    }

    fn redact(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text).into_owned())
    }

    /// The model and the address without what may follow its path.
    fn place(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        format!("{} at {url}", self.config.model)
    }

    /// A fatal message with what the user can do.
    fn blame(&self, message: &str) -> String {
        let key = match &self.key {
            Some(key) => format!("the key in {}", key.variable()),
            None => "the name of the key's environment variable, of which there is none".to_owned(),
        };
        format!("{}: {message}. Check the address, the model and {key}", self.place())
    }
}

/// An error with its causes on one line.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_numbers_are_told() {
        let config = ChatConfig::new("http://localhost:1/v1", "m");
        for (config, what) in [
            (ChatConfig { max_concurrency: 0, ..config.clone() }, "max_concurrency"),
            (ChatConfig { requests_per_minute: Some(0), ..config.clone() }, "0 a minute"),
            (ChatConfig { api_key_env: Some("MEDGRPO_NO_SUCH_VARIABLE".into()), ..config }, "not set"),
        ] {
            let ChatError::Fatal(error) = ChatClient::new(config).unwrap_err() else { panic!("{what}") };
            assert!(error.contains(what), "{error}");
        }
    }
}
