//! lightningd's JSON-RPC on a unix socket: any number of clients, any number of
//! requests on one connection, answered as each is done.
//!
//! # Layout
//! - this file: connections.
//! - [`request`]: one request's way to its command or plugin.
//! - [`commands`]: the table of commands, one file a family.
//! - [`call`]: what a command receives. [`params`]: reading parameters.
//! - [`filter`]: `filter` in a request. [`error`]: codes.
//! - [`names`]: the commands that only lightningd has.

pub mod call;
pub mod commands;
pub mod error;
pub mod filter;
pub mod names;
pub mod params;
pub mod request;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use cln_wire::Members;
use nix::sys::stat::{Mode, umask};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::call::Flags;
use self::request::{answer, invalid};
use crate::json::{JsonStream, lenient, quote};
use crate::node::{Ending, Node};

/// At most this many requests of one connection are under way, or answered and not
/// yet read by the client; until then no more is read from it.
const IN_FLIGHT: usize = 1024;

/// The size of the buffer that every connection has, in bytes.
const READ: usize = 8 * 1024;

struct Out {
    bytes: Vec<u8>,
    /// Given back once written.
    _permit: Option<OwnedSemaphorePermit>,
    /// Whether this is the answer to `stop`, after which the process exits.
    last: bool,
}

/// Creates the socket (0600) and serves it until the node stops.
pub fn listen(node: &Arc<Node>) -> io::Result<()> {
    let path = &node.config.rpc_file;
    // An earlier node may have left it behind; the pid file shows that it is gone.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Nobody else may connect before the mode is set.
    let umask = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    nix::sys::stat::umask(umask);
    let listener = bound?;
    fs::set_permissions(path, fs::Permissions::from_mode(node.config.rpc_file_mode))?;
    node.listen(accept(node.clone(), listener));
    Ok(())
}

async fn accept(node: Arc<Node>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(node.clone(), stream));
            }
            Err(e) => {
                // Probably the file descriptors ran out: wait until some are closed.
                node.log
                    .unusual("jsonrpc", format!("accepting a connection: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(node: Arc<Node>, stream: UnixStream) {
    let (mut from, to) = stream.into_split();
    let (answers, queue) = mpsc::unbounded_channel();
    let (progress, progress_queue) = mpsc::unbounded_channel();
    tokio::spawn(write(node.clone(), to, queue, progress_queue));
    let flags = Arc::new(Flags::default());
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut stream = JsonStream::default();
    let mut buf = vec![0; READ];
    loop {
        let len = match from.read(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(len) => len,
        };
        stream.push(&buf[..len]);
        loop {
            let text = match next_request(&mut stream) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(what) => {
                    let _ = answers.send(malformed(&what));
                    return;
                }
            };
            let Ok(permit) = slots.clone().acquire_owned().await else {
                return;
            };
            let (node, answers, progress, flags) = (
                node.clone(),
                answers.clone(),
                progress.clone(),
                flags.clone(),
            );
            tokio::spawn(async move {
                let (bytes, last) = answer(&node, &text, &progress, &flags).await;
                let _ = answers.send(Out {
                    bytes,
                    _permit: Some(permit),
                    last,
                });
            });
        }
    }
}

/// The next message of a connection, as JSON with a `jsonrpc` member; an error
/// has lightningd's words.
fn next_request(stream: &mut JsonStream) -> Result<Option<String>, String> {
    let Some(message) = stream.next_message().map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let what = match legible(&message) {
        Some(text) if Members::read(&text).is_some_and(|m| m.get("jsonrpc").is_some()) => {
            return Ok(Some(text));
        }
        Some(_) => "JSON-RPC message does not contain \"jsonrpc\" field:",
        None => "Failed to parse RPC JSON response",
    };
    Err(format!("{what} '{}{}'", quote(&message), stream.quote()))
}

/// A message as JSON text, if lightningd would accept it as JSON.
fn legible(message: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(message).ok()?;
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Some(text.to_owned()),
        Err(_) => lenient(text),
    }
}

async fn write(
    node: Arc<Node>,
    mut to: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Out>,
    mut progress: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    loop {
        let out = tokio::select! {
            // A request's progress comes before its answer.
            biased;
            Some(line) = progress.recv() => Out { bytes: line, _permit: None, last: false },
            out = queue.recv() => match out {
                Some(out) => out,
                None => return,
            },
        };
        let written = to.write_all(&out.bytes).await;
        if out.last {
            let _ = to.shutdown().await;
            node.advance_ending(Ending::Exit(0));
        }
        if written.is_err() {
            return;
        }
    }
}

/// The answer to what is not a request.
fn malformed(what: &str) -> Out {
    Out {
        bytes: invalid("null", what),
        _permit: None,
        last: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::params::{Params, opt, req, string};
    use super::*;

    /// Texts of which clients' messages consist, and others.
    fn stream() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => prop::sample::select(vec![
                r#"{"jsonrpc":"2.0","id":1,"method":"help","params":"#, r#"["a"]}"#, "{}}", "[", "]",
                "{", "}", "\"a\"", ":", ",", "1", "127.0.0.1", "\\u0041", "\\", "\t", "\n\n", " ",
                r#"{"name":1}"#, "null", "\"id\"", "\u{e9}", "1e400", "\\ud800",
            ])
            .prop_map(str::to_owned),
            1 => any::<String>(),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Whatever a client sends is a request, or is refused in one answer.
        #[test]
        fn any_stream_gives_requests_or_is_refused(text in stream(), cut in 1_usize..40) {
            let mut stream = JsonStream::default();
            'connection: for piece in text.as_bytes().chunks(cut) {
                stream.push(piece);
                loop {
                    match next_request(&mut stream) {
                        Ok(Some(request)) => {
                            serde_json::from_str::<&RawValue>(&request).unwrap();
                            let members = Members::read(&request).unwrap();
                            let Some(given) = members.get("params") else { continue };
                            let params = Params::new(RawValue::from_string(given.into()).unwrap());
                            let (mut one, mut two) = (None, None);
                            let spec = vec![req("name", &mut one, string), opt("a", &mut two, string)];
                            let _ = params.read(spec);
                        }
                        Ok(None) => break,
                        Err(what) => {
                            serde_json::from_slice::<&RawValue>(&malformed(&what).bytes).unwrap();
                            break 'connection;
                        }
                    }
                }
            }
        }
    }
}
