//! The client against a real server with faults.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;

use super::{
    ChatClient, ChatConfig, ChatError, ChatReply, ChatRequest,
    test_server::{Answer, TestServer, completion},
};

fn config(server: &TestServer) -> ChatConfig {
    ChatConfig {
        timeout: Duration::from_millis(1500),
        deadline: Duration::from_secs(9),
        backoff: Duration::from_millis(4),
        ..ChatConfig::new(server.base_url(), "tiny")
    }
}

fn ask(config: ChatConfig, prompts: &[String]) -> Vec<Result<ChatReply, ChatError>> {
    let client = ChatClient::new(config).unwrap();
    client.complete_all(prompts.iter().map(|prompt| ChatRequest::user(prompt)).collect())
}

fn prompts(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("prompt {index}")).collect()
}

fn status(status: u16, headers: &str) -> Answer {
    Answer::Status(status, headers.to_owned(), r#"{"error": {"message": "not now"}}"#.to_owned())
}

#[test]
fn every_passing_fault_is_outlived_and_replies_keep_their_order() {
    const NUM_FAULTS: usize = 9;
    let server = TestServer::start(|_, seen| {
        let prompt = seen.prompt().to_owned();
        let index: usize = prompt.rsplit(' ').next().unwrap().parse().unwrap();
        // A request is told from its second try by what was seen before: the handler keeps no state.
        let is_first = FIRST.with_first(&prompt);
        match index % (NUM_FAULTS + 1) {
            _ if !is_first => Answer::Text(prompt),
            0 => status(429, "Retry-After: 0\r\n"),
            1 => status(500, ""),
            2 => Answer::Silence(Duration::from_millis(1700)),
            3 => Answer::Bytes(Vec::new()),
            4 => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"choices\"".to_vec()),
            5 => Answer::Status(200, String::new(), r#"{"choices": [{"message": {"content"#.into()),
            6 => Answer::Drip(prompt, Duration::from_millis(15)),
            7 => Answer::Status(200, String::new(), r#"{"error": {"message": "overloaded"}}"#.into()),
            8 => Answer::Bytes(b"SSH-2.0-OpenSSH\r\n".to_vec()),
            _ => Answer::Text(prompt),
        }
    });
    let prompts = prompts(20);
    for (prompt, result) in prompts.iter().zip(ask(config(&server), &prompts)) {
        let reply = result.unwrap();
        assert_eq!(&reply.text, prompt);
        assert_eq!((reply.prompt_tokens, reply.completion_tokens), (100, 20));
    }
    assert_eq!(server.seen().len(), 20 + 20 * NUM_FAULTS / (NUM_FAULTS + 1));
    assert!(server.most_in_flight() <= 8);
}

/// Which prompts were seen.
struct First(std::sync::Mutex<BTreeSet<String>>);

static FIRST: First = First(std::sync::Mutex::new(BTreeSet::new()));

impl First {
    fn with_first(&self, prompt: &str) -> bool {
        self.0.lock().unwrap().insert(prompt.to_owned())
    }
}

#[test]
fn what_never_ends_well_fails_with_its_reason() {
    for (answer, reason) in [
        ((|| status(503, "")) as fn() -> Answer, "503 Service Unavailable: not now; given up after 3 tries"),
        (|| Answer::Silence(Duration::from_millis(90)), "no whole answer within 60.0ms"),
        (|| Answer::Bytes(Vec::new()), "error sending request"),
        (|| Answer::Status(200, String::new(), "<html>".into()), "no chat completion"),
        (|| Answer::Status(200, String::new(), "x".repeat(9 << 20)), "longer than"),
    ] {
        let server = TestServer::start(move |_, _| answer());
        let timeout = Duration::from_millis(if reason.contains("60.0ms") { 60 } else { 3000 });
        let config = ChatConfig { max_retries: 2, timeout, ..config(&server) };
        let Err(ChatError::Failed(error)) = &ask(config, &prompts(1))[0] else { panic!("{reason}") };
        assert!(error.contains(reason) && error.contains("tiny at http://127.0.0.1"), "{error}");
        assert_eq!(server.seen().len(), 3, "{error}");
    }
}

#[test]
fn nobody_at_the_address_is_told_with_the_cause() {
    let config = ChatConfig {
        max_retries: 1,
        backoff: Duration::ZERO,
        ..ChatConfig::new("http://127.0.0.1:1/v1", "m")
    };
    let Err(ChatError::Failed(error)) = &ask(config, &prompts(1))[0] else { panic!() };
    assert!(error.contains("refused") && error.contains("given up after 2 tries"), "{error}");
}

#[test]
fn the_server_says_when_to_come_back() {
    let wait_sec = |header: fn() -> String| {
        let server = TestServer::start(move |number, _| match number {
            0 => status(429, &format!("Retry-After: {}\r\n", header())),
            _ => Answer::Text(String::new()),
        });
        assert!(ask(config(&server), &prompts(1))[0].is_ok());
        let seen = server.seen();
        (seen[1].at - seen[0].at).as_secs_f64()
    };
    let seconds = wait_sec(|| "0.3".into());
    assert!((0.3..5.0).contains(&seconds), "{seconds}");
    // A date has whole seconds: one that is 2 s ahead is 1 s ahead at least.
    let seconds = wait_sec(|| httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(2)));
    assert!((0.9..6.0).contains(&seconds), "{seconds}");
}

#[test]
fn the_deadline_bounds_all_tries() {
    let server = TestServer::start(|_, _| status(429, "Retry-After: 100\r\n"));
    let start = Instant::now();
    let Err(ChatError::Failed(error)) = &ask(config(&server), &prompts(1))[0] else { panic!() };
    assert!(error.contains("asked to wait 100.0s: the deadline is 9.0s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2) && server.seen().len() == 1);

    let server = TestServer::start(|_, _| Answer::Silence(Duration::from_millis(150)));
    let config = ChatConfig {
        timeout: Duration::from_millis(100),
        deadline: Duration::from_millis(250),
        max_retries: 99,
        ..config(&server)
    };
    let start = Instant::now();
    assert!(matches!(&ask(config, &prompts(1))[0], Err(ChatError::Failed(_))));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!((1..=4).contains(&server.seen().len()));
}

#[test]
fn a_refusal_for_everybody_stops_the_rest() {
    for (code, what) in
        [(401, "401 Unauthorized: not now. Check the address, the model and"), (404, "404 Not Found")]
    {
        let server = TestServer::start(move |_, _| status(code, ""));
        let config = ChatConfig { max_concurrency: 2, ..config(&server) };
        let results = ask(config, &prompts(50));
        assert_eq!(results.len(), 50);
        for result in results {
            let Err(ChatError::Fatal(error)) = result else { panic!("{result:?}") };
            assert!(error.contains(what), "{error}");
        }
        assert!(server.seen().len() <= 4, "{} requests after a refused key", server.seen().len());
    }
}

#[test]
fn a_request_that_is_refused_takes_no_other_with_it() {
    let server = TestServer::start(|_, seen| match seen.prompt() {
        "prompt 1" => status(400, ""),
        prompt => Answer::Text(prompt.to_owned()),
    });
    let results = ask(config(&server), &prompts(3));
    assert!(
        matches!(&results[1], Err(ChatError::Refused(error)) if error.contains("400 Bad Request: not now"))
    );
    assert!(results[0].is_ok() && results[2].is_ok() && server.seen().len() == 3);
}

#[test]
fn concurrency_is_bounded_and_used() {
    let server = TestServer::start(|_, _| Answer::Late(Duration::from_millis(50), String::new()));
    let config = ChatConfig { max_concurrency: 5, ..config(&server) };
    assert!(ask(config, &prompts(25)).iter().all(Result::is_ok));
    assert_eq!((server.most_in_flight(), server.seen().len()), (5, 25));
}

#[test]
fn a_minute_holds_no_more_than_its_limit() {
    let assert_sent = |expected: usize, limit: fn(&mut ChatConfig)| {
        let server = TestServer::start(|_, _| Answer::Text(String::new()));
        let mut config = config(&server);
        limit(&mut config);
        // The rest waits for the minute to end, and is left behind with its thread.
        std::thread::spawn(move || ask(config, &prompts(4)));
        for _ in 0..400 {
            if server.seen().len() >= expected {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(server.seen().len(), expected);
    };
    assert_sent(3, |config| config.requests_per_minute = Some(3));
    // 2 tokens are expected of "prompt 0" and the server counts 120: two fit at first, after their replies none.
    assert_sent(2, |config| {
        config.tokens_per_minute = Some(130);
        config.max_concurrency = 1;
    });
}

#[test]
fn the_body_is_what_was_configured() {
    let server = TestServer::start(|_, _| Answer::Text(String::new()));
    let extra = json!({"max_tokens": null, "max_completion_tokens": 7, "top_p": 0.5});
    let config = ChatConfig { extra_body: extra.as_object().unwrap().clone(), ..config(&server) };
    let client = ChatClient::new(config).unwrap();
    let request =
        ChatRequest { max_tokens: Some(5), seed: Some(3), temperature: 0.25, ..ChatRequest::user("a \"b\"") };
    client.complete_all(vec![request]).remove(0).unwrap();
    let seen = server.seen().remove(0);
    let expected = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "a \"b\""}], "temperature": 0.25, "seed": 3,
        "max_completion_tokens": 7, "top_p": 0.5,
    });
    assert_eq!((seen.body, seen.path.as_str()), (expected, "/v1/chat/completions"));
    assert_eq!(seen.headers.get("authorization"), None);
    assert_eq!(client.num_tries(), 1);
}

#[test]
fn a_stop_sends_nothing_more_and_keeps_what_is_on_its_way() {
    let server = TestServer::start(|_, _| Answer::Late(Duration::from_millis(20), completion("")));
    let client = ChatClient::new(ChatConfig { max_concurrency: 3, ..config(&server) }).unwrap();
    let mut came = BTreeSet::new();
    client.complete_each(
        prompts(30).iter().map(|prompt| ChatRequest::user(prompt)).collect(),
        |index, result| {
            assert!(result.is_ok() && came.insert(index));
            if came.len() >= 4 {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        },
    );
    assert_eq!(server.seen().len(), came.len(), "asked and handed over");
    assert!((4..=9).contains(&came.len()), "{}", came.len());
}

#[test]
fn a_stop_waits_for_no_pause() {
    // Whichever comes first is sent away, and while it waits the second ends well.
    let server = TestServer::start(|number, seen| match number {
        0 => {
            std::thread::sleep(Duration::from_millis(200));
            status(429, "Retry-After: 4\r\n")
        }
        _ => Answer::Late(Duration::from_millis(500), seen.prompt().to_owned()),
    });
    let client = ChatClient::new(ChatConfig { max_concurrency: 2, ..config(&server) }).unwrap();
    let (start, mut results) = (Instant::now(), Vec::new());
    let requests = prompts(9).iter().map(|prompt| ChatRequest::user(prompt)).collect();
    client.complete_each(requests, |index, result| {
        results.push((index, result));
        ControlFlow::Break(())
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let [(_, Ok(_)), (_, Err(ChatError::Failed(error)))] = &results[..] else { panic!("{results:?}") };
    assert!(error.contains("429 Too Many Requests") && server.seen().len() == 2, "{error}");
}

const SECRET: &str = "sk-test-Zq81kPw0vX77";

/// Runs in a process of its own, which alone has the key in its environment.
#[test]
#[ignore = "the test below starts it"]
fn with_a_key() {
    if std::env::var_os("MEDGRPO_TEST_KEY").is_none() {
        return;
    }
    let server = TestServer::start(|number, seen| {
        assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));
        let echo = format!("your key {SECRET}, that is sk-t****7X77 or {}", &SECRET[..6]);
        match number {
            0 => Answer::Text(echo),
            1 => Answer::Status(400, String::new(), json!({ "error": { "message": echo } }).to_string()),
            _ => Answer::Status(401, String::new(), format!("{}{echo}", " ".repeat(280))),
        }
    });
    let client =
        ChatClient::new(ChatConfig { api_key_env: Some("MEDGRPO_TEST_KEY".into()), ..config(&server) })
            .unwrap();
    println!("{client:?}");
    for _ in 0..3 {
        println!("{:?}", client.complete_all(vec![ChatRequest::user("x")]));
    }
    drop(server);
    println!("{:?}", client.complete_all(vec![ChatRequest::user("x")]));
}

#[test]
fn the_key_reaches_the_server_and_nothing_else() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "chat::tests::with_a_key", "--ignored", "--nocapture"])
        .env("MEDGRPO_TEST_KEY", format!(" {SECRET}\n"))
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    for part in
        ["your key [key]", "400 Bad Request: your key [key]", "the key in MEDGRPO_TEST_KEY", "given up"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(SECRET) && !text.contains(&SECRET[8..]), "{text}");
}
