//! A Core Lightning plugin by hand: no client library, only `serde_json`.
//!
//! lightningd starts a plugin as a child process and speaks JSON-RPC 2.0 with
//! it: it writes to the plugin's stdin, and reads the plugin's stdout. A message
//! is a JSON object; an empty line follows it, but JSON may have empty lines in it
//! as well, so a message ends where its object ends. That is all there is to it:
//!
//! 1. lightningd asks `getmanifest`: what are you, what do you want?
//! 2. It sends `init`: here is the node you run on. Now we start.
//! 3. From then on come the notifications the manifest subscribed to.
//!
//! ```text
//! from_scratch FILE TOPIC...
//! ```
//!
//! appends every notification of the topics to the file, one a line:
//! `connect notification: {…}`. lightningd starts plugins without arguments, so
//! give it a script of two lines:
//!
//! ```text
//! #!/bin/sh
//! exec /path/to/from_scratch /tmp/notifications connect disconnect
//! ```
//!
//! Source of the protocol: the plugin chapter of Core Lightning's documentation.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: from_scratch FILE TOPIC...");
        return ExitCode::FAILURE;
    };
    let topics: Vec<String> = arguments.collect();

    // stdout belongs to the protocol: what a person should see goes to stderr,
    // or as a `log` notification to the node's log.
    match open(&path).and_then(|file| run(io::stdin(), io::stdout(), file, &topics)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("from_scratch: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The file is its owner's alone: an invoice's notification has its preimage.
fn open(path: &str) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

/// The loop: read, cut into messages, handle each. The end of the input is the
/// end of the plugin: lightningd is gone, or has no more use for us.
pub fn run(
    mut input: impl Read,
    mut output: impl Write,
    mut file: impl Write,
    topics: &[String],
) -> io::Result<()> {
    let mut messages = Messages::default();
    let mut buffer = [0; 4096];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        for message in messages.push(&buffer[..count]) {
            handle(&message, &mut output, &mut file, topics)?;
        }
    }
}

/// A message is a request if it has an `id`: then it must be answered. Else it
/// is a notification, and nobody waits for anything.
fn handle(
    message: &str,
    output: &mut impl Write,
    file: &mut impl Write,
    topics: &[String],
) -> io::Result<()> {
    let Ok(parsed) = serde_json::from_str::<Value>(message) else {
        // lightningd hands on what others wrote, and takes more than JSON from
        // them: a number such as 007, a line end within a string.
        return log(output, "ignored a message that is not JSON");
    };
    let method = parsed["method"].as_str().unwrap_or_default();
    match parsed.get("id") {
        Some(id) => {
            let answer = match request(method, topics) {
                Some(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                None => json!({"jsonrpc": "2.0", "id": id, "error": {
                    "code": -32601,
                    "message": format!("Unknown command '{method}'"),
                }}),
            };
            send(output, &answer)
        }
        None => notification(method, message, output, file, topics),
    }
}

/// The two requests every plugin gets.
fn request(method: &str, topics: &[String]) -> Option<Value> {
    match method {
        // What are you? A plugin that can be started and stopped while the node
        // runs, and that wants to hear of these topics.
        "getmanifest" => Some(json!({
            "dynamic": true,
            "options": [],
            "rpcmethods": [],
            "subscriptions": topics,
        })),
        // Here is the node. Nothing of it is needed: an empty answer means ready.
        "init" => Some(json!({})),
        _ => None,
    }
}

/// Dispatch by method: the topics we asked for are written down, as received.
fn notification(
    method: &str,
    message: &str,
    output: &mut impl Write,
    file: &mut impl Write,
    topics: &[String],
) -> io::Result<()> {
    if topics.iter().any(|topic| topic == method) {
        // One write for the whole line, so that a reader sees no half of it.
        // One record, one line: a line end within the message is left out.
        let message = message.replace(['\n', '\r'], "");
        file.write_all(format!("{method} notification: {message}\n").as_bytes())?;
    } else {
        log(output, &format!("ignored an unknown message: '{method}'"))?;
    }
    // A plugin that subscribes to `shutdown` has to end on its own; here the end of the
    // input does it, unless `shutdown` is one of the topics.
    if method == "shutdown" {
        std::process::exit(0);
    }
    Ok(())
}

/// A line in the node's log.
fn log(output: &mut impl Write, message: &str) -> io::Result<()> {
    let params = json!({"level": "info", "message": message});
    send(
        output,
        &json!({"jsonrpc": "2.0", "method": "log", "params": params}),
    )
}

/// The plugin puts an empty line after its messages as well.
fn send(output: &mut impl Write, message: &Value) -> io::Result<()> {
    output.write_all(format!("{message}\n\n").as_bytes())?;
    output.flush()
}

/// Cuts the stream into messages. One read may give half a message, or three and
/// a half: the part that is not whole yet is kept for the next time.
///
/// A message ends where its outermost bracket closes. To look for the empty line
/// instead seems simpler, and lets anybody whose JSON lightningd hands on (another
/// plugin, a caller of an RPC method) put an empty line there, and behind it a
/// message that seems to come from lightningd.
#[derive(Debug, Default)]
pub struct Messages {
    pending: Vec<u8>,
    /// This many bytes of it were looked at.
    seen: usize,
    /// The brackets open there.
    depth: usize,
    place: Place,
}

/// Where in a message a byte is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two tokens: only here do brackets count.
    #[default]
    Tokens,
    /// In a string, up to the next quote.
    Text,
    /// Behind a backslash in a string: a quote does not end it.
    Escape,
    /// In a number or a word. lightningd's parser takes one up to the next blank,
    /// comma or closing bracket, whatever else is in it.
    Word,
}

impl Messages {
    /// Takes the bytes of one read; gives the messages that are now whole.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.pending.extend_from_slice(bytes);
        let mut messages = Vec::new();
        let mut start = 0;
        for at in self.seen..self.pending.len() {
            self.step(self.pending[at]);
            let between = self.depth == 0 && self.place == Place::Tokens;
            if between {
                // A bracket closed the message; what is between two is dropped.
                let message = String::from_utf8_lossy(&self.pending[start..=at]);
                if message.ends_with(['}', ']']) {
                    messages.push(message.trim_start().to_owned());
                }
                start = at + 1;
            }
        }
        self.pending.drain(..start);
        self.seen = self.pending.len();
        messages
    }

    fn step(&mut self, byte: u8) {
        match (self.place, byte) {
            (Place::Escape, _) | (Place::Tokens, b'"') => self.place = Place::Text,
            (Place::Text, b'"') => self.place = Place::Tokens,
            (Place::Text, b'\\') => self.place = Place::Escape,
            (Place::Text, _) => {}
            (Place::Tokens, b'{' | b'[') => self.depth += 1,
            (_, b'}' | b']') => {
                self.place = Place::Tokens;
                self.depth = self.depth.saturating_sub(1);
            }
            (_, b' ' | b'\t' | b'\r' | b'\n' | b',') => self.place = Place::Tokens,
            (Place::Tokens, b':') | (Place::Word, _) => {}
            (Place::Tokens, _) => self.place = Place::Word,
        }
    }
}
