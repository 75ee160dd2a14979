//! A chat API on this machine, for tests of what asks one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

/// Keeps what it receives.
pub(crate) struct Server {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

/// A request as it came.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

impl Server {
    /// `answer` is given the number of the request, from 0, and the request; it gives a text or a status.
    pub(crate) fn start(
        answer: impl Fn(usize, &Received) -> Result<String, u16> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (store, answer) = (Arc::clone(&received), Arc::new(answer));
        // Ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (store, answer) = (Arc::clone(&store), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &store, &*answer));
            }
        });
        Self { url, received }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    store: &Mutex<Vec<Received>>,
    answer: &(dyn Fn(usize, &Received) -> Result<String, u16> + Send + Sync),
) {
    // Whoever asks may be killed at any moment.
    let Some(received) = receive(&stream) else { return };
    let number = {
        let mut store = store.lock().unwrap();
        store.push(received.clone());
        store.len() - 1
    };
    let (status, body) = match answer(number, &received) {
        Err(status) => (status, json!({ "error": { "message": "the filter says no" } })),
        Ok(text) => {
            let choice = json!({ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" });
            let usage = json!({ "prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16 });
            (200, json!({ "choices": [choice], "usage": usage }))
        }
    };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// `None` if the other side has gone.
fn receive(stream: &TcpStream) -> Option<Received> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut authorization) = (0, None);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Received { path, authorization, body: serde_json::from_slice(&body).ok()? })
}
