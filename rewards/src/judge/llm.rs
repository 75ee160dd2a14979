//! A chat model as judge.
//!
//! All pairs of a call are in flight at once. A judgement counts only if its reply holds all five scores; another reply is
//! asked for, with other random numbers, a few times. What was judged is kept on disk at once, so that a run that is
//! killed, or stops for money or failures, pays for nothing twice.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;

use super::{
    Judge, JudgeError, Judgement, Pair, Unjudged,
    budget::Budget,
    cache::{Key, Lookup, ScoreCache},
    flight::{Flights, Lead, Outcome, Turn},
    ledger::{FailureLimit, JudgeStats, Ledger},
    reply::parse_strict,
    rubric::Wording,
    transcript::{Exchange, Transcript},
};
use crate::chat::{ChatClient, ChatConfig, ChatError, ChatReply, ChatRequest};

/// Part of every key: judgements read by an older rule are not found.
const READING: u32 = 1;

/// Temperature of the second question: a greedy model would repeat what could not be read.
const SECOND_TEMPERATURE: f64 = 0.7;

/// How to ask a chat model for judgements.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmJudgeConfig {
    /// Whom to ask, and how hard.
    pub chat: ChatConfig,
    /// How the question is put.
    pub wording: Wording,
    /// Of the first question about a pair; later ones are asked at 0.7 at least.
    pub temperature: f64,
    /// Of the first question about a pair; later ones count on.
    pub seed: u64,
    /// The longest reply; five lines take 40. Models that think need thousands.
    pub max_reply_tokens: usize,
    /// How often a pair is asked about while its replies hold no judgement, at least 1.
    pub max_asks: usize,
    /// Longer captions are cut and marked as such: what is padded costs money.
    pub max_caption_chars: usize,
    /// The folder where judgements are kept; processes may share it.
    pub cache: Option<PathBuf>,
    /// The file to which every exchange is added.
    pub transcript: Option<PathBuf>,
    /// When failures are too many.
    pub failures: FailureLimit,
    /// What may be spent.
    pub budget: Budget,
}

impl LlmJudgeConfig {
    /// Greedy, three asks a pair, no cache, no transcript, no prices.
    pub fn new(chat: ChatConfig, wording: Wording) -> Self {
        Self {
            chat,
            wording,
            temperature: 0.0,
            seed: 0,
            max_reply_tokens: 128,
            max_asks: 3,
            max_caption_chars: 4000,
            cache: None,
            transcript: None,
            failures: FailureLimit::default(),
            budget: Budget::default(),
        }
    }
}

/// Judges by a chat model.
#[derive(Debug)]
pub struct LlmJudge {
    config: LlmJudgeConfig,
    client: ChatClient,
    name: String,
    cache: Option<ScoreCache>,
    transcript: Option<Transcript>,
    flights: Flights,
    ledger: Mutex<Ledger>,
}

/// A pair that this call asks about.
struct Question<'p, 'f> {
    pair: Pair<'p>,
    key: Key,
    prompt: String,
    /// `None` once the others were told.
    lead: Option<Lead<'f>>,
}

impl LlmJudge {
    /// A judge; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// If the configuration makes no sense, the key is not in the environment, or a folder cannot be made.
    pub fn new(config: LlmJudgeConfig) -> Result<Self, JudgeError> {
        if config.max_asks == 0 || config.max_reply_tokens == 0 || config.max_caption_chars == 0 {
            return Err(JudgeError(
                "asks, tokens of a reply and characters of a caption are at least 1".into(),
            ));
        }
        if !(config.temperature >= 0.0 && config.temperature.is_finite()) {
            return Err(JudgeError(format!(
                "the judge's temperature is {}: it is at least 0",
                config.temperature
            )));
        }
        config.failures.check()?;
        config.budget.check()?;
        let client = ChatClient::new(config.chat.clone()).map_err(|error| JudgeError(error.to_string()))?;
        let (wording, host) = (config.wording, client.host());
        Ok(Self {
            name: format!("{} at {host}, {} wording {}", client.model(), wording.as_str(), wording.version()),
            cache: config.cache.as_deref().map(ScoreCache::open).transpose()?,
            transcript: config.transcript.as_deref().map(Transcript::open).transpose()?,
            flights: Flights::default(),
            ledger: Mutex::default(),
            client,
            config,
        })
    }

    /// What it did so far.
    pub fn stats(&self) -> JudgeStats {
        JudgeStats { tries: self.client.num_tries(), ..self.ledger().stats }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that a judgement depends on. Who serves the model is no part of it.
    fn key(&self, prompt: &str) -> Key {
        let config = &self.config;
        Key::of(&[
            json!(READING),
            json!(self.client.model()),
            json!(prompt),
            json!([config.temperature, config.seed, config.max_reply_tokens]),
            json!(config.chat.extra_body),
        ])
    }

    fn request(&self, prompt: &str, ask: usize) -> ChatRequest {
        let temperature = match ask {
            0 => self.config.temperature,
            _ => self.config.temperature.max(SECOND_TEMPERATURE),
        };
        ChatRequest {
            max_tokens: Some(self.config.max_reply_tokens),
            temperature,
            seed: Some(self.config.seed.wrapping_add(ask as u64)),
            ..ChatRequest::user(prompt)
        }
    }

    /// Asks until every question has landed.
    fn ask(
        &self,
        mut questions: Vec<Question<'_, '_>>,
        landed: &mut HashMap<Key, Outcome>,
    ) -> Result<(), JudgeError> {
        for ask in 0..self.config.max_asks {
            if questions.is_empty() {
                return Ok(());
            }
            let mut stop = self.ledger().verdict(&self.config.failures, &self.config.budget);
            if stop.is_none() {
                let requests = questions.iter().map(|question| self.request(&question.prompt, ask)).collect();
                self.client.complete_each(requests, |index, result| {
                    let question = &mut questions[index];
                    match self.read(question, ask, result) {
                        Ok(Some(outcome)) => {
                            if let Some(lead) = question.lead.take() {
                                lead.land(Ok(outcome.clone()));
                            }
                            landed.insert(question.key.clone(), Ok(outcome));
                        }
                        Ok(None) => {}
                        Err(error) => {
                            stop.get_or_insert(error);
                        }
                    }
                    if stop.is_none() {
                        stop = self.ledger().verdict(&self.config.failures, &self.config.budget);
                    }
                    if stop.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
            }
            questions.retain(|question| question.lead.is_some());
            if let Some(error) = stop {
                for lead in questions.into_iter().filter_map(|question| question.lead) {
                    lead.land(Err(error.clone()));
                }
                return Err(error);
            }
        }
        match questions.is_empty() {
            true => Ok(()),
            false => Err(JudgeError("requests to the judge were lost".into())),
        }
    }

    /// The outcome of a question after a reply; `None` where it is to be asked again.
    fn read(
        &self,
        question: &Question<'_, '_>,
        ask: usize,
        result: Result<ChatReply, ChatError>,
    ) -> Result<Option<Result<Judgement, Unjudged>>, JudgeError> {
        let is_last = ask + 1 == self.config.max_asks;
        let (reply, scores) = match result {
            Ok(reply) => {
                let scores =
                    parse_strict(&reply.text).map_err(|error| match reply.finish_reason.as_deref() {
                        Some("length") => {
                            format!("{error} (it was cut off at {} tokens)", self.config.max_reply_tokens)
                        }
                        _ => error.to_string(),
                    });
                (Some(reply), scores)
            }
            Err(ChatError::Failed(message) | ChatError::Refused(message)) => (None, Err(message)),
            Err(ChatError::Fatal(message)) => return Err(JudgeError(message)),
        };
        {
            let mut ledger = self.ledger();
            if let Some(reply) = &reply {
                ledger.charge(reply, &self.config.budget);
            }
            ledger.note(scores.as_ref().err().map(String::as_str), &self.config.failures);
            match (&reply, &scores) {
                (None, _) => ledger.stats.failures += 1,
                (Some(_), Err(_)) => ledger.stats.unparsable += 1,
                (Some(_), Ok(_)) => {}
            }
            if scores.is_err() && (is_last || reply.is_none()) {
                ledger.stats.unjudged += 1;
            }
        }
        if let (Some(cache), Ok(scores)) = (&self.cache, &scores) {
            cache.put(&question.key, &Judgement { scores: *scores }, &self.name)?;
        }
        if let Some(transcript) = &self.transcript {
            transcript.record(&Exchange {
                judge: &self.name,
                ask: ask + 1,
                captions: question.pair.into(),
                prompt: &question.prompt,
                reply: reply.as_ref().map(|reply| reply.text.as_str()),
                finish_reason: reply.as_ref().and_then(|reply| reply.finish_reason.as_deref()),
                scores: scores.as_ref().ok().copied(),
                error: scores.as_ref().err().cloned(),
            })?;
        }
        Ok(match scores {
            Ok(scores) => Some(Ok(Judgement { scores })),
            Err(reason) if reply.is_none() => Some(Err(Unjudged(reason))),
            Err(reason) if is_last => Some(Err(Unjudged(format!("{reason}; asked {} times", ask + 1)))),
            Err(_) => None,
        })
    }
}

impl Judge for LlmJudge {
    /// One result a pair. A description without a letter or digit gets the lowest scores unasked, and nothing can be
    /// compared with a reference of that kind.
    fn judge(&self, pairs: &[Pair<'_>]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
        let mut landed: HashMap<Key, Outcome> = HashMap::new();
        let (mut keys, mut questions, mut others) = (Vec::new(), Vec::new(), Vec::new());
        self.ledger().stats.pairs += pairs.len() as u64;
        for &pair in pairs {
            if let Some(outcome) = blank(pair) {
                self.ledger().stats.blank += 1;
                keys.push(Err(outcome));
                continue;
            }
            let prompt = self.config.wording.prompt(pair, self.config.max_caption_chars);
            let key = self.key(&prompt);
            keys.push(Ok(key.clone()));
            if landed.contains_key(&key) {
                self.ledger().stats.cache_hits += 1;
                continue;
            }
            // Asked about in this call already: its own flight.
            match self.flights.join(&key) {
                Turn::Follow(flight) => {
                    self.ledger().stats.shared += 1;
                    others.push((key, flight));
                }
                // Looked up only now: who led before has written it.
                Turn::Lead(lead) => match self.cache.as_ref().map_or(Lookup::Miss, |cache| cache.get(&key)) {
                    Lookup::Hit(judgement) => {
                        self.ledger().stats.cache_hits += 1;
                        lead.land(Ok(Ok(judgement)));
                        landed.insert(key, Ok(Ok(judgement)));
                    }
                    lookup => {
                        let mut ledger = self.ledger();
                        ledger.stats.cache_misses += 1;
                        ledger.stats.corrupt_entries += u64::from(lookup == Lookup::Corrupt);
                        questions.push(Question { pair, key, prompt, lead: Some(lead) });
                    }
                },
            }
        }
        self.ask(questions, &mut landed)?;
        // Only after our own questions landed: two calls that follow each other wait for nobody.
        for (key, flight) in others {
            landed.entry(key).or_insert_with(|| flight.wait());
        }
        keys.into_iter()
            .map(|key| match key {
                Err(outcome) => Ok(outcome),
                Ok(key) => landed[&key].clone(),
            })
            .collect()
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn stats(&self) -> Option<JudgeStats> {
        Some(self.stats())
    }
}

/// The outcome of a pair with nothing to read on one side.
fn blank(pair: Pair<'_>) -> Option<Result<Judgement, Unjudged>> {
    let is_blank = |text: &str| !text.chars().any(char::is_alphanumeric);
    match (is_blank(pair.reference), is_blank(pair.prediction)) {
        (true, _) => Some(Err(Unjudged("the reference has no words".into()))),
        (false, true) => Some(Ok(Judgement { scores: [1.0; 5] })),
        (false, false) => None,
    }
}
