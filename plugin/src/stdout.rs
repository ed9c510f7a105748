//! Stdout: answers and log lines, each written in one go.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use serde_json::json;
use tokio::io::AsyncWrite;

/// Stdout for cln-plugin and for ourselves. cln-plugin gives whole messages to
/// `poll_write`, and each is written in one go: none is torn by a log line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stdout;

impl AsyncWrite for Stdout {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(write(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Sends one message to lightningd.
///
/// # Errors
/// lightningd is gone.
pub fn send(message: &serde_json::Value) -> io::Result<()> {
    write(format!("{message}\n\n").as_bytes())
}

/// JSON-RPC's code for a message that is not JSON.
pub const PARSE_ERROR: i64 = -32700;

/// JSON-RPC's code for a method that does not exist.
pub const UNKNOWN_METHOD: i64 = -32601;

/// JSON-RPC's code for parameters that are not right.
pub const INVALID_PARAMS: i64 = -32602;

/// JSON-RPC's code for an internal error.
pub const INTERNAL: i64 = -32603;

/// Answers a request; `id` and `result` are JSON text.
pub(crate) fn answer(id: &str, result: &str) {
    let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n");
    let _ = write(answer.as_bytes()); // if lightningd is gone, stdin ends as well
}

/// Answers a request with an error.
pub(crate) fn refuse(id: &str, code: i64, message: &str) {
    let error = json!({"code": code, "message": message});
    let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}\n\n");
    let _ = write(answer.as_bytes()); // as above
}
