//! Answers of a model behind an OpenAI-compatible API, asked the same questions.
//!
//! An answer is kept as soon as it comes. A request that failed after all tries gets none: the next run asks it again.

use std::{num::NonZeroUsize, ops::ControlFlow, path::PathBuf, sync::atomic::Ordering, time::Duration};

use anyhow::{Context, Result, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use medgrpo_datasets::{RowProblem, TaskSample};
use medgrpo_rewards::chat::{ChatClient, ChatConfig, ChatError, ChatReply, ChatRequest};
use rayon::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    ahead::one_ahead,
    ask::{self, Part, Turn},
    conclude, keep_unusable,
    ledger::Ledger,
    line::{Prediction, UNUSABLE},
    meta, pixels,
    rows::Rows,
    start_progress,
};
use crate::{
    cli::{GenerateArgs, OnBadRowArg},
    stop,
};

const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(8).expect("8 is not 0");
/// Requests made ready at a time, for each in flight: the slowest of them is waited for.
const ROWS_PER_PLACE: usize = 8;
/// A clip of many frames takes a busy server long.
const TIMEOUT: Duration = Duration::from_secs(300);
/// With all tries.
const DEADLINE: Duration = Duration::from_secs(900);

/// A row with its question, or why it has none.
type Asked = Result<(TaskSample, ChatRequest), RowProblem>;

/// Answers the records of `file` by the model at `url`.
pub(super) fn run(args: &GenerateArgs, url: &str, file: &PathBuf) -> Result<()> {
    let records = &args.records;
    if args.device.workers.is_some() {
        bail!(
            "--workers is for models of a checkpoint directory; --concurrency says how many requests are in flight"
        );
    }
    let Some(model) = &records.model_name else {
        bail!("--model-name is missing: the name of the model at {}", without_query(url));
    };
    let concurrency = records.concurrency.unwrap_or(DEFAULT_CONCURRENCY).get();
    let extra_body = match &records.api_body {
        Some(text) => serde_json::from_str(text).context("--api-body is no JSON object")?,
        None => Map::new(),
    };
    let client = ChatClient::new(ChatConfig {
        api_key_env: records.api_key_env.clone(),
        max_concurrency: concurrency,
        timeout: TIMEOUT,
        deadline: DEADLINE,
        extra_body: extra_body.clone(),
        ..ChatConfig::new(url, model)
    })?;
    let stop = stop::on_signal()?;
    let rows = Rows::open(file, records)?;
    let place = without_query(url);
    let settings = json!({ "url": place, "name": model, "body": extra_body });
    let meta = meta(args, file, &rows, &settings, &format!("{model} at {place}"))?;
    let mut ledger = Ledger::look(&args.out, &meta, &rows.numbers)?;
    let mut why = "stopped".to_owned();
    if ledger.num_left() > 0 {
        let (_, unusable) = rows.survey(|_| Ok(()))?;
        ledger.begin(&meta)?;
        keep_unusable(&mut ledger, &rows, &unusable)?;
        let progress = start_progress(&ledger, &rows);
        let left: Vec<usize> = rows.numbers.iter().copied().filter(|&row| !ledger.has(row)).collect();
        let chunks: Vec<&[usize]> = left.chunks(concurrency * ROWS_PER_PLACE).collect();
        let prepare =
            |chunk: &[usize]| -> Vec<Asked> { chunk.par_iter().map(|&row| ask(args, &rows, row)).collect() };
        let mut failures: Vec<(usize, String)> = Vec::new();
        one_ahead(chunks, prepare, |chunk| {
            let (mut samples, mut requests, mut problems) = (Vec::new(), Vec::new(), Vec::new());
            for asked in chunk {
                match asked {
                    Ok((sample, request)) => {
                        samples.push(sample);
                        requests.push(request);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
            let (num_asked, failed_before) = (samples.len(), failures.len());
            let (mut broken, mut refused) = (None, Vec::new());
            client.complete_each(requests, |index, reply| {
                let sample = &samples[index];
                match reply {
                    Ok(reply) => match ledger.add(vec![prediction(sample, reply)]) {
                        Ok(()) => progress.set(ledger.num_done()),
                        Err(error) => broken = Some(error),
                    },
                    Err(ChatError::Refused(message)) if records.on_bad_row == OnBadRowArg::Empty => {
                        refused.push((sample.row, message));
                    }
                    Err(ChatError::Failed(message) | ChatError::Refused(message)) => {
                        failures.push((sample.row, message));
                    }
                    Err(fatal @ ChatError::Fatal(_)) => broken = Some(fatal.into()),
                }
                if broken.is_some() || stop.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            if let Some(error) = broken {
                return Err(error);
            }
            // A server that refuses whatever it is asked says nothing of the rows.
            if let (Some((row, message)), true) =
                (refused.first(), ledger.num_done() == ledger.count(UNUSABLE))
            {
                bail!("{}: refused, as all requests so far: {message}", rows.origin(*row));
            }
            for (row, message) in &refused {
                tracing::warn!("{}: refused, and left empty: {message}", rows.origin(*row));
            }
            let num_refused = refused.len();
            ledger.add(refused.iter().map(|(row, _)| rows.unusable(*row)).collect())?;
            progress.set(ledger.num_done());
            if records.on_bad_row == OnBadRowArg::Empty {
                keep_unusable(&mut ledger, &rows, &problems)?;
            }
            rows.judge(&problems)?;
            // Where nothing at all is answered any more, the server is down, not the question hard.
            let num_failed = failures.len() - failed_before;
            let is_down = num_failed > 0 && num_failed + num_refused == num_asked;
            Ok(!is_down && !stop.load(Ordering::Relaxed))
        })?;
        if ledger.num_left() == 0 {
            progress.finish();
        }
        if let Some((row, message)) = failures.first() {
            why = format!(
                "{} requests failed, the first for {}: {message}\n",
                failures.len(),
                rows.origin(*row)
            );
        }
    }
    conclude(ledger, &rows, &args.out, why.as_str())
}

fn ask(args: &GenerateArgs, rows: &Rows, row: usize) -> Asked {
    let sample = rows.get(row)?;
    let turns = ask::turns(&sample, pixels(args)).map_err(|reason| RowProblem { row, reason })?;
    let request = ChatRequest {
        messages: turns.iter().map(message).collect(),
        max_tokens: Some(args.max_new_tokens.of_task(sample.task)),
        temperature: 0.0,
        seed: None,
    };
    Ok((sample, request))
}

/// A turn as the API wants it: plain text where there is nothing else, which every server takes.
fn message(turn: &Turn) -> Value {
    let content = match turn.parts.as_slice() {
        [Part::Text(text)] => json!(text),
        parts => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => json!({ "type": "text", "text": text }),
                Part::Jpeg(bytes) => {
                    let url = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(bytes));
                    json!({ "type": "image_url", "image_url": { "url": url } })
                }
            })
            .collect(),
    };
    json!({ "role": turn.role.as_str(), "content": content })
}

fn prediction(sample: &TaskSample, reply: ChatReply) -> Prediction {
    Prediction {
        index: sample.row,
        id: sample.id.clone(),
        qa_type: sample.qa_type.clone(),
        prediction: reply.text,
        finish_reason: reply.finish_reason.unwrap_or_else(|| "unknown".to_owned()),
        num_tokens: usize::try_from(reply.completion_tokens).ok(),
    }
}

/// The address as it may be told: what follows its path may be a secret.
fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}
