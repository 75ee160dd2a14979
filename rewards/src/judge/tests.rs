//! The judge against a real server with faults.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Budget, FailureLimit, Judge, JudgeError, Judgement, LlmJudge, LlmJudgeConfig, Pair, Prices, Recorded,
    ReplayJudge, ReplyRules, Unjudged, Wording,
};
use crate::chat::{
    ChatConfig,
    test_server::{Answer, Seen, TestServer},
};

fn config(server: &TestServer) -> LlmJudgeConfig {
    let chat = ChatConfig {
        timeout: Duration::from_secs(6),
        deadline: Duration::from_secs(20),
        backoff: Duration::from_millis(3),
        ..ChatConfig::new(server.base_url(), "tiny")
    };
    let failures = FailureLimit { max_share: 1.0, ..FailureLimit::default() };
    LlmJudgeConfig { failures, ..LlmJudgeConfig::new(chat, Wording::Comparative) }
}

/// The caption that a request asks about.
fn caption(seen: &Seen) -> String {
    let line = seen.prompt().lines().find_map(|line| line.strip_prefix("Generated: "));
    serde_json::from_str(line.expect("the wording has the line")).expect("a JSON string")
}

/// The scores that are right for a caption, all from 1 to 5.
fn truth(caption: &str) -> [f64; 5] {
    let hash = blake3::hash(caption.as_bytes());
    std::array::from_fn(|place| f64::from(hash.as_bytes()[place] % 5 + 1))
}

fn reply(scores: [f64; 5]) -> String {
    let codes = ["R2", "R3", "R8", "R5", "R4"];
    codes.iter().zip(scores).map(|(code, score)| format!("{code}: {score}\n")).collect()
}

fn captions(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("caption {index}")).collect()
}

fn judge_all(judge: &LlmJudge, captions: &[String]) -> Result<Vec<Result<Judgement, Unjudged>>, JudgeError> {
    let pairs: Vec<Pair<'_>> =
        captions.iter().map(|prediction| Pair { prediction, reference: "The hook cuts." }).collect();
    judge.judge(&pairs)
}

fn assert_true(results: &[Result<Judgement, Unjudged>], captions: &[String]) {
    assert_eq!(results.len(), captions.len());
    for (result, caption) in results.iter().zip(captions) {
        assert_eq!(result.as_ref().unwrap().scores, truth(caption), "{caption}");
    }
}

fn files_under(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(files_under(&path));
        } else {
            files.insert(path.display().to_string(), fs::read_to_string(&path).unwrap());
        }
    }
    files
}

#[test]
fn under_every_fault_nothing_is_scored_wrongly_and_nothing_is_lost() {
    const FAULTS: usize = 10;
    let asked = Mutex::new(BTreeSet::new());
    let server = TestServer::start(move |_, seen| {
        let caption = caption(seen);
        let right = reply(truth(&caption));
        let is_first = asked.lock().unwrap().insert(caption.clone());
        let index: usize = caption.rsplit(' ').next().unwrap().parse().unwrap();
        let status = |code: u16, headers: &str| Answer::Status(code, headers.into(), "{}".into());
        match index % (FAULTS + 1) {
            _ if !is_first => Answer::Text(right),
            0 => status(429, "Retry-After: 0.05\r\n"),
            1 => status(500, ""),
            2 => Answer::Silence(Duration::from_millis(6500)),
            3 => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{".to_vec()),
            4 => Answer::Status(
                200,
                String::new(),
                "{\"choices\": [{\"message\": {\"content\": \"R2: 1".into(),
            ),
            5 => Answer::Drip(right, Duration::from_millis(60)),
            // Well-formed, and still no judgement.
            6 => Answer::Text(right.lines().take(4).collect::<Vec<_>>().join("\n")),
            7 => Answer::Text(right.replacen(": ", ": 4", 1)),
            8 => Answer::Text(format!("{right}R2: {}", if truth(&caption)[0] == 1.0 { 2 } else { 1 })),
            9 => Answer::Text("I cannot judge medical content.".into()),
            _ => Answer::Text(right),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = LlmJudgeConfig { cache: Some(dir.path().join("cache")), ..config(&server) };
    let captions = captions(33);
    let judge = LlmJudge::new(config.clone()).unwrap();
    assert_true(&judge_all(&judge, &captions).unwrap(), &captions);
    let stats = judge.stats();
    assert_eq!((stats.pairs, stats.cache_misses, stats.cache_hits, stats.unjudged), (33, 33, 0, 0));
    assert_eq!((stats.unparsable, stats.requests, stats.failures), (12, 33 + 12, 0));
    assert_eq!((stats.tries, server.seen().len()), (33 + 30, 33 + 30));
    assert_eq!((stats.prompt_tokens, stats.completion_tokens), (45 * 100, 45 * 20));
    assert!(server.most_in_flight() <= 8);

    // Again, in a new judge: not one request.
    let again = LlmJudge::new(config).unwrap();
    assert_true(&judge_all(&again, &captions).unwrap(), &captions);
    assert_eq!((again.stats().cache_hits, again.stats().requests), (33, 0));
    assert_eq!(server.seen().len(), 33 + 30);
}

#[test]
fn what_stays_unreadable_is_unjudged_and_not_kept() {
    let server = TestServer::start(|_, seen| match caption(seen).as_str() {
        "caption 0" => Answer::Text("R2: 4\nR3: 4\nR8: 4\nR5: 4".into()),
        "caption 1" => Answer::Status(503, String::new(), String::new()),
        caption => Answer::Text(reply(truth(caption))),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut config = LlmJudgeConfig { cache: Some(dir.path().into()), ..config(&server) };
    config.chat.max_retries = 1;
    let captions = captions(3);
    for _ in 0..2 {
        let judge = LlmJudge::new(config.clone()).unwrap();
        let results = judge_all(&judge, &captions).unwrap();
        assert_eq!(results[0].as_ref().unwrap_err().0, "the reply has no score for R4; asked 3 times");
        assert!(results[1].as_ref().unwrap_err().0.contains("503 Service Unavailable"));
        assert_true(&results[2..], &captions[2..]);
        assert_eq!((judge.stats().unjudged, judge.stats().unparsable, judge.stats().failures), (2, 3, 1));
    }
    assert_eq!(files_under(dir.path()).len(), 1);
    // Later asks differ, so that a model that repeats itself may find other words.
    let mut asks: Vec<(u64, f64)> = Vec::new();
    for seen in server.seen().iter().filter(|seen| caption(seen) == "caption 0").take(3) {
        asks.push((seen.body["seed"].as_u64().unwrap(), seen.body["temperature"].as_f64().unwrap()));
    }
    assert_eq!(asks, [(0, 0.0), (1, 0.7), (2, 0.7)]);
}

#[test]
fn a_question_is_asked_once_whoever_asks_it() {
    let server =
        TestServer::start(|_, seen| Answer::Late(Duration::from_millis(30), reply(truth(&caption(seen)))));
    let dir = tempfile::tempdir().unwrap();
    for cache in [None, Some(dir.path().to_owned())] {
        let (before, keeps) = (server.seen().len(), cache.is_some());
        let judge = LlmJudge::new(LlmJudgeConfig { cache, ..config(&server) }).unwrap();
        let mut captions = captions(12);
        captions.extend(captions.clone());
        let barrier = std::sync::Barrier::new(4);
        thread::scope(|scope| {
            for shift in 0..4 {
                let (judge, barrier, mut captions) = (&judge, &barrier, captions.clone());
                captions.rotate_left(5 * shift);
                scope.spawn(move || {
                    barrier.wait();
                    assert_true(&judge_all(judge, &captions).unwrap(), &captions);
                });
            }
        });
        let stats = judge.stats();
        assert_eq!(stats.pairs, stats.cache_hits + stats.shared + stats.cache_misses);
        if keeps {
            assert_eq!((stats.cache_misses, server.seen().len() - before), (12, 12));
        } else {
            // A call that comes when all is answered finds nothing kept.
            assert_eq!(stats.cache_misses as usize, server.seen().len() - before);
            assert!(stats.shared >= 12 && stats.cache_hits == 0);
        }
    }
}

#[test]
fn a_damaged_entry_is_asked_again() {
    let server = TestServer::start(|_, seen| Answer::Text(reply(truth(&caption(seen)))));
    let dir = tempfile::tempdir().unwrap();
    let config = LlmJudgeConfig { cache: Some(dir.path().into()), ..config(&server) };
    let captions = captions(4);
    judge_all(&LlmJudge::new(config.clone()).unwrap(), &captions).unwrap();
    let files = files_under(dir.path());
    assert_eq!(files.len(), 4);
    let (path, text) = files.iter().next().unwrap();
    fs::write(path, &text[..text.len() - 9]).unwrap();
    let judge = LlmJudge::new(config.clone()).unwrap();
    assert_true(&judge_all(&judge, &captions).unwrap(), &captions);
    assert_eq!((judge.stats().cache_hits, judge.stats().corrupt_entries, server.seen().len()), (3, 1, 5));
    assert_eq!(files_under(dir.path()), files);
    // Another wording, temperature or model is another judge.
    let mut other = config.clone();
    other.chat.model = "other".into();
    for other in [
        LlmJudgeConfig { wording: Wording::Comparative, temperature: 0.5, ..config.clone() },
        LlmJudgeConfig { seed: 1, ..config },
        other,
    ] {
        let judge = LlmJudge::new(other).unwrap();
        judge_all(&judge, &captions).unwrap();
        assert_eq!(judge.stats().cache_hits, 0);
    }
}

#[test]
fn blank_texts_are_not_asked_about() {
    let server = TestServer::start(|_, _| Answer::Text(String::new()));
    let judge = LlmJudge::new(config(&server)).unwrap();
    let pairs =
        [("", "x"), (" .\n", "x"), ("x", "")].map(|(prediction, reference)| Pair { prediction, reference });
    let results = judge.judge(&pairs).unwrap();
    assert_eq!(results[..2], [Ok(Judgement { scores: [1.0; 5] }), Ok(Judgement { scores: [1.0; 5] })]);
    assert!(results[2].as_ref().unwrap_err().0.contains("reference"));
    assert_eq!((judge.stats().blank, server.seen().len()), (3, 0));
    assert_eq!(judge.judge(&[]), Ok(Vec::new()));
}

#[test]
fn too_many_failures_stop_the_judge_early() {
    let server = TestServer::start(|_, _| Answer::Text("lorem ipsum".into()));
    let failures = FailureLimit { max_share: 0.5, min_requests: 20, window: 100 };
    let judge = LlmJudge::new(LlmJudgeConfig { failures, ..config(&server) }).unwrap();
    let error = judge_all(&judge, &captions(500)).unwrap_err().0;
    for part in ["20 of the last 20 requests to the judge failed", "the reply has no score for R2"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(server.seen().len() <= 30, "{} requests", server.seen().len());
}

#[test]
fn money_runs_out_with_a_message_and_what_was_paid_for_is_kept() {
    let server = TestServer::start(|_, seen| Answer::Text(reply(truth(&caption(seen)))));
    let dir = tempfile::tempdir().unwrap();
    // A judgement has 100 and 20 tokens: it costs 0.01.
    let prices = Prices { prompt_per_million: 50.0, completion_per_million: 250.0 };
    let budget = Budget { prices: Some(prices), max_spend: Some(0.1) };
    let mut config = LlmJudgeConfig { cache: Some(dir.path().into()), budget, ..config(&server) };
    config.chat.max_concurrency = 2;
    let (captions, judge) = (captions(50), LlmJudge::new(config.clone()).unwrap());
    let error = judge_all(&judge, &captions).unwrap_err().0;
    assert!(error.contains("the spend limit of 0.1 is reached"), "{error}");
    let (spend, paid) = (judge.stats().spend, server.seen().len());
    assert!((10..=12).contains(&paid) && (spend - 0.01 * paid as f64).abs() < 1e-9, "{spend} for {paid}");
    assert_eq!(files_under(dir.path()).len(), paid);
    assert!(judge_all(&judge, &captions).is_err(), "no second budget");
    assert_eq!(server.seen().len(), paid);

    let judge =
        LlmJudge::new(LlmJudgeConfig { budget: Budget { max_spend: None, ..budget }, ..config }).unwrap();
    assert_true(&judge_all(&judge, &captions).unwrap(), &captions);
    assert_eq!((judge.stats().cache_hits as usize, server.seen().len()), (paid, 50));
}

#[test]
fn a_refused_key_stops_at_once() {
    let server =
        TestServer::start(|_, _| Answer::Status(401, String::new(), "{\"detail\": \"who are you\"}".into()));
    let judge = LlmJudge::new(config(&server)).unwrap();
    let start = Instant::now();
    let error = judge_all(&judge, &captions(300)).unwrap_err().0;
    assert!(error.contains("401 Unauthorized: who are you. Check the address, the model and"), "{error}");
    assert!(server.seen().len() <= 16 && start.elapsed() < Duration::from_secs(5));
}

#[test]
fn recorded_replies_equal_the_official_ones_on_eval_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/eval");
    let mut num_replies = 0;
    for seed in ["seed1", "seed2"] {
        let file = fs::File::open(folder.join(seed).join("expected.json.gz")).unwrap();
        let expected: Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
        let recorded: Vec<Recorded> = serde_json::from_value(expected["judge_replay"].clone()).unwrap();
        let pairs: Vec<Pair<'_>> = recorded
            .iter()
            .map(|record| Pair { prediction: &record.prediction, reference: &record.ground_truth })
            .collect();
        let [official, strict] = [ReplyRules::Official, ReplyRules::Strict]
            .map(|rules| ReplayJudge::new(recorded.clone(), rules).judge(&pairs).unwrap());
        for (place, record) in recorded.iter().enumerate() {
            let is_whole = record.response.is_some() && !record.prediction.contains("zzpart");
            assert_eq!(official[place].is_ok(), is_whole, "{record:?}");
            // These replies hold one score from 1 to 5 an aspect, so that the rules agree.
            assert_eq!(official[place].is_ok(), strict[place].is_ok(), "{record:?}");
            if let (Ok(official), Ok(strict)) = (&official[place], &strict[place]) {
                assert_eq!(official, strict, "{record:?}");
                num_replies += 1;
            }
        }
    }
    assert!(num_replies > 500, "{num_replies}");
}

/// `tests/fixtures/tiny_chat_model.py` tells how to have such a server: its model is random, so that nearly all it says
/// is no judgement.
#[test]
fn a_real_server_is_asked_where_the_variables_name_one() {
    let [Ok(url), Ok(model)] = ["MEDGRPO_CHAT_URL", "MEDGRPO_CHAT_MODEL"].map(std::env::var) else { return };
    let dir = tempfile::tempdir().unwrap();
    let transcript = dir.path().join("transcript.jsonl");
    let failures = FailureLimit { max_share: 1.0, ..FailureLimit::default() };
    let judge = LlmJudge::new(LlmJudgeConfig {
        cache: Some(dir.path().join("cache")),
        transcript: Some(transcript.clone()),
        max_reply_tokens: 40,
        failures,
        ..LlmJudgeConfig::new(ChatConfig::new(url, model), Wording::Absolute)
    })
    .unwrap();
    let captions = captions(8);
    let results = judge_all(&judge, &captions).unwrap();
    let stats = judge.stats();
    println!("{}: {stats:?}", judge.name());
    let exchanges = fs::read_to_string(&transcript).unwrap();
    let replies: Vec<Value> = exchanges.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((replies.len() as u64, stats.failures, stats.tries), (stats.requests, 0, stats.requests));
    for (caption, result) in captions.iter().zip(&results) {
        let of_caption = || replies.iter().filter(|reply| reply["prediction"] == *caption);
        println!("{caption}: {result:?} after {}", of_caption().next_back().unwrap()["reply"]);
        match result {
            Ok(judgement) => {
                assert!(of_caption().any(|reply| reply["scores"] == serde_json::json!(judgement.scores)));
            }
            Err(reason) => {
                assert!(reason.0.contains("asked 3 times") && of_caption().count() == 3, "{reason}");
            }
        }
    }
    assert!(stats.prompt_tokens > 0 && stats.completion_tokens > 0);
}

const SECRET: &str = "sk-test-Jk30qTb8mN55";
/// Where the processes below find the server and the folder.
const PLACE: [&str; 2] = ["MEDGRPO_TEST_JUDGE_URL", "MEDGRPO_TEST_JUDGE_DIR"];

/// Runs in processes of their own, which alone have the key in their environment.
#[test]
#[ignore = "the test below starts it"]
fn one_of_several_processes() {
    let [Ok(url), Ok(folder)] = PLACE.map(std::env::var) else { return };
    let chat = ChatConfig {
        api_key_env: Some("MEDGRPO_TEST_KEY".into()),
        backoff: Duration::from_millis(3),
        ..ChatConfig::new(url, "tiny")
    };
    let config = LlmJudgeConfig {
        cache: Some(Path::new(&folder).join("cache")),
        transcript: Some(Path::new(&folder).join("transcripts/judge.jsonl")),
        ..LlmJudgeConfig::new(chat, Wording::Comparative)
    };
    let judge = LlmJudge::new(config).unwrap();
    let captions = captions(60);
    let results = judge_all(&judge, &captions).unwrap();
    assert_eq!(results[..3].iter().filter(|result| result.is_err()).count(), 1, "caption 0 is never judged");
    assert_true(&results[1..], &captions[1..]);
    println!("{judge:?} {results:?} {}", judge.name());
}

#[test]
fn processes_share_a_cache_and_the_key_is_in_no_output() {
    let server = TestServer::start(|number, seen| {
        assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));
        let caption = caption(seen);
        let echo = format!("{{\"error\": {{\"message\": \"slow down, {SECRET}\"}}}}");
        match caption.as_str() {
            "caption 0" => Answer::Status(400, String::new(), echo),
            _ if number % 7 == 0 => Answer::Status(429, String::new(), echo),
            caption => Answer::Text(format!("Key {SECRET} was used.\n{}", reply(truth(caption)))),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let spawn = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "judge::tests::one_of_several_processes", "--ignored", "--nocapture"])
            .env("MEDGRPO_TEST_KEY", SECRET)
            .env(PLACE[0], server.base_url())
            .env(PLACE[1], dir.path())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    let processes: Vec<_> = (0..3).map(|_| spawn()).collect();
    let mut outputs = String::new();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        outputs += &[output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(output.status.success(), "{outputs}");
    }
    assert_eq!(outputs.matches("1 passed").count(), 3);
    let files = files_under(dir.path());
    assert_eq!(files.len(), 59 + 1, "an entry a judged pair, and the transcript");
    let transcript = &files[&dir.path().join("transcripts/judge.jsonl").display().to_string()];
    let lines: Vec<Value> = transcript.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 60 && lines.iter().any(|line| !line["error"].is_null()));
    assert!(lines[0]["prompt"].as_str().unwrap().contains("Generated: \"caption "));
    for text in files.values().chain([&outputs]) {
        assert!(!text.contains(SECRET) && !text.contains(&SECRET[8..]), "{text}");
    }
    assert!(outputs.contains("[key]") && transcript.contains("[key]"));
    // A transcript is a recording.
    let replay = ReplayJudge::from_text(transcript, ReplyRules::Strict).unwrap();
    let pair = Pair { prediction: "caption 7", reference: "The hook cuts." };
    assert_eq!(replay.judge(&[pair]).unwrap()[0].as_ref().unwrap().scores, truth("caption 7"));
}
