//! A node's JSON-RPC socket, byte by byte: for what no client library would send.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, ensure};
use cln_lab::{Messages, PATIENCE, scaled};
use serde_json::{Value, json};

/// A connection to a node's socket.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    messages: Messages,
}

/// Calls a method without parameters, on a connection of its own; what it gives.
///
/// # Errors
/// Nobody listens or answers, or the answer is an error.
pub fn call(path: &Path, method: &str) -> anyhow::Result<Value> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
    let mut answer = Socket::open(path)?.ask(format!("{request}\n\n"))?;
    let result = answer.get_mut("result").map(Value::take);
    result.with_context(|| format!("{method}: {answer}"))
}

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(path: &Path) -> anyhow::Result<Socket> {
        let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
        stream.set_read_timeout(Some(scaled(PATIENCE)))?;
        stream.set_write_timeout(Some(scaled(PATIENCE)))?;
        Ok(Socket {
            stream,
            messages: Messages::default(),
        })
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// The node does not take them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next message.
    ///
    /// # Errors
    /// None comes in time, the node closes the connection, or it is not JSON.
    pub fn receive(&mut self) -> anyhow::Result<Value> {
        loop {
            if let Some(message) = self.messages.next()? {
                return Ok(message);
            }
            let mut buffer = [0; 4096];
            let len = self
                .stream
                .read(&mut buffer)
                .context("waiting for an answer")?;
            ensure!(len > 0, "closed after `{}`", self.messages.rest());
            self.messages.push(&buffer[..len]);
        }
    }

    /// Sends one message and gives the next one that comes.
    ///
    /// # Errors
    /// As of both.
    pub fn ask(&mut self, message: impl AsRef<[u8]>) -> anyhow::Result<Value> {
        self.send(message)?;
        self.receive()
    }
}
