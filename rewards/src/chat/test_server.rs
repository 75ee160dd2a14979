//! A real HTTP server on a socket of this machine, with the faults that servers have.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    /// Since the server's start.
    pub(crate) at: Duration,
}

impl Seen {
    /// The text of the last message.
    pub(crate) fn prompt(&self) -> &str {
        let messages = self.body["messages"].as_array().expect("there are messages");
        messages.last().expect("there is a message")["content"].as_str().expect("text")
    }
}

/// What the server does with a request.
pub(crate) enum Answer {
    /// A chat completion with this text.
    Text(String),
    /// Status, further headers as lines, body.
    Status(u16, String, String),
    /// Exactly these bytes, and then the connection is cut.
    Bytes(Vec<u8>),
    /// A completion whose bytes come one by one, with this pause between them.
    Drip(String, Duration),
    /// Nothing for so long, and then the connection is cut.
    Silence(Duration),
    /// A completion after a while.
    Late(Duration, String),
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Seen>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
    closed: AtomicBool,
}

type Handler = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

pub(crate) struct TestServer {
    address: SocketAddr,
    state: Arc<State>,
}

impl TestServer {
    /// Answers every request by the handler, which is told how many came before.
    pub(crate) fn start(handler: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (state, handler): (_, Arc<Handler>) = (Arc::new(State::default()), Arc::new(handler));
        let (shared, start) = (Arc::clone(&state), Instant::now());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.closed.load(Ordering::SeqCst) {
                    return;
                }
                let (state, handler) = (Arc::clone(&shared), Arc::clone(&handler));
                thread::spawn(move || stream.map(|stream| serve(&stream, &state, &*handler, start)));
            }
        });
        Self { address, state }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn most_in_flight(&self) -> usize {
        self.state.most_in_flight.load(Ordering::SeqCst)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

pub(crate) fn completion(text: &str) -> String {
    json!({
        "id": "x", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    })
    .to_string()
}

fn response(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn serve(stream: &TcpStream, state: &State, handler: &Handler, start: Instant) -> Option<()> {
    let seen = read_request(stream, start)?;
    let in_flight = state.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
    state.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
    let number = {
        let mut list = state.seen.lock().unwrap();
        list.push(seen.clone());
        list.len() - 1
    };
    let answer = handler(number, &seen);
    let mut out = stream;
    if let Answer::Silence(pause) | Answer::Late(pause, _) = &answer {
        thread::sleep(*pause);
    }
    // Before the last byte goes out: then the client may send its next request.
    state.in_flight.fetch_sub(1, Ordering::SeqCst);
    let written = match answer {
        Answer::Text(text) | Answer::Late(_, text) => out.write_all(&response(200, "", &completion(&text))),
        Answer::Status(status, headers, body) => out.write_all(&response(status, &headers, &body)),
        Answer::Bytes(bytes) => out.write_all(&bytes),
        Answer::Silence(_) => Ok(()),
        Answer::Drip(text, pause) => response(200, "", &completion(&text)).iter().try_for_each(|&byte| {
            thread::sleep(pause);
            out.write_all(&[byte])
        }),
    };
    written.ok()
}

fn read_request(stream: &TcpStream, start: Instant) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { path, headers, body: serde_json::from_slice(&body).ok()?, at: start.elapsed() })
}
