//! lightningd's JSON-RPC on a unix socket: any number of clients, any number of
//! requests on one connection, answered as each is done.
//!
//! # Layout
//! - [`error`]: codes. [`params`]: reading parameters.
//! - [`filter`]: `filter` in a request.
//! - [`commands`]: one file a family of commands.
//! - this file: connections, and a request's way to its command or plugin.

pub mod commands;
pub mod error;
pub mod filter;
pub mod params;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::commands::{Call, Stop};
use self::error::{INVALID_REQUEST, METHOD_NOT_FOUND, RpcError};
use self::params::Params;
use super::json::{JsonStream, Members, lenient, quote};
use super::node::{Ending, Node};
use super::plugins::hooks::{self, Verdict};
use super::plugins::incoming::splice;
use super::plugins::process::{Plugin, Progress, Terminated};

/// How many requests of one connection are under way or unread by the client
/// before no more is read from it.
const IN_FLIGHT: usize = 1024;

/// How much is read at once, in bytes: every idle connection has this much.
const READ: usize = 8 * 1024;

/// What is to be written to a client.
struct Out {
    bytes: Vec<u8>,
    /// Given back once written.
    _permit: Option<OwnedSemaphorePermit>,
    /// The answer of `stop`: the process goes after it.
    last: bool,
}

/// What is set for one connection.
#[derive(Default)]
pub struct Flags {
    /// `notifications`: the client wants `message` and `progress`.
    pub notifications: AtomicBool,
}

/// Makes the socket (0600) and serves it for the node's life.
///
/// # Errors
/// It cannot be made.
pub fn listen(node: &Arc<Node>) -> io::Result<()> {
    let path = &node.config.rpc_file;
    // What an earlier node left behind: the pid file says that it is gone.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
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
                // Most likely no file descriptor is left: let some go first.
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
            let message = match stream.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(garbage) => {
                    let _ = answers.send(malformed(&garbage.to_string()));
                    return;
                }
            };
            let wrong = match legible(&message) {
                Some(text) if Members::read(&text).is_ok_and(|m| m.get("jsonrpc").is_some()) => {
                    Ok(text)
                }
                Some(_) => Err("JSON-RPC message does not contain \"jsonrpc\" field:"),
                None => Err("Failed to parse RPC JSON response"),
            };
            let text = match wrong {
                Ok(text) => text,
                Err(what) => {
                    let what = format!("{what} '{}{}'", quote(&message), stream.quote());
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

/// A message as JSON text, if it is, or is what lightningd takes for it.
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
            // Word of a request's progress comes before its answer.
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

/// An answer to what is no request.
fn malformed(what: &str) -> Out {
    let error = RpcError::new(INVALID_REQUEST, what);
    Out {
        bytes: failure("null", &error),
        _permit: None,
        last: false,
    }
}

fn success(id: &str, result: &Value) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n").into_bytes()
}

fn failure(id: &str, error: &RpcError) -> Vec<u8> {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{}}}\n\n",
        error.to_json()
    )
    .into_bytes()
}

/// The answer to one message, which is valid JSON with a `jsonrpc` member, and
/// whether it is that of `stop`.
async fn answer(
    node: &Arc<Node>,
    text: &str,
    progress: &mpsc::UnboundedSender<Vec<u8>>,
    flags: &Arc<Flags>,
) -> (Vec<u8>, bool) {
    let Ok(members) = Members::read(text) else {
        return (malformed("Expected {} for json command").bytes, false);
    };
    let id = match members.get("id") {
        None => return (malformed("No id").bytes, false),
        Some(id) if id.get().starts_with(['{', '[']) => {
            return (malformed("Expected string/primitive for id").bytes, false);
        }
        Some(id) => id.get().to_owned(),
    };
    if members.get("jsonrpc").is_none_or(|v| v.get() != "\"2.0\"") {
        return (
            malformed("jsonrpc: \"2.0\" must be specified in the request").bytes,
            false,
        );
    }
    let refuse = |what: &str| (failure(&id, &RpcError::new(INVALID_REQUEST, what)), false);
    let Some(method) = members.get("method") else {
        return refuse("No method");
    };
    if members.get("params").is_none() {
        return refuse("No params");
    }
    let Ok(method) = serde_json::from_str::<String>(method.get()) else {
        return refuse("Expected string for method");
    };
    if let Err(error) = known(node, &method) {
        return (failure(&id, &error), false);
    }
    let origin = Origin {
        node,
        id: &id,
        progress,
        flags,
    };
    if node.plugins.has_hook("rpc_command") {
        let request: Value = serde_json::from_str(text).unwrap_or_default();
        match hooks::rpc_command(node, &method, &request, &id).await {
            Verdict::Continue => {}
            Verdict::Return(result) => return (success(&id, &result), false),
            Verdict::Fail(error) => {
                return (
                    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}\n\n")
                        .into_bytes(),
                    false,
                );
            }
            Verdict::Replace(request) => {
                return match check_replacement(node, &request) {
                    Ok(method) => origin.dispatch(&method, &request.to_string()).await,
                    Err(what) => {
                        let what =
                            format!("Bad response to 'rpc_command' hook: {what} ({request})");
                        refuse(&what)
                    }
                };
            }
        }
    }
    origin.dispatch(&method, text).await
}

/// Whether there is such a command, here.
fn known(node: &Node, method: &str) -> Result<(), RpcError> {
    if commands::is_builtin(method) || node.plugins.with_method(method).is_some() {
        return Ok(());
    }
    Err(RpcError::new(METHOD_NOT_FOUND, commands::why_not(method)))
}

/// What a plugin puts in a request's place; gives its method.
fn check_replacement(node: &Node, request: &Value) -> Result<String, String> {
    let Some(object) = request.as_object() else {
        return Err("'replace' must be an object".into());
    };
    for member in ["method", "params", "id"] {
        if !object.contains_key(member) {
            return Err(format!("missing '{member}'"));
        }
    }
    let method = object["method"].as_str().unwrap_or_default().to_owned();
    if known(node, &method).is_err() {
        return Err(format!("redirected to unknown method '{method}'"));
    }
    if object.get("jsonrpc") != Some(&json!("2.0")) {
        return Err("jsonrpc: \"2.0\" must be specified in the request".into());
    }
    Ok(method)
}

/// Where a request came from.
struct Origin<'a> {
    node: &'a Arc<Node>,
    /// As JSON.
    id: &'a str,
    progress: &'a mpsc::UnboundedSender<Vec<u8>>,
    flags: &'a Arc<Flags>,
}

impl Origin<'_> {
    /// Carries out a request that may be carried out.
    async fn dispatch(&self, method: &str, text: &str) -> (Vec<u8>, bool) {
        if let Some(plugin) = self.node.plugins.with_method(method) {
            return (self.pass_on(&plugin, method, text).await, false);
        }
        if method == "check"
            && let Some(plugin) = self.checked_by_plugin(text)
        {
            return (self.pass_on(&plugin, method, text).await, false);
        }
        let members = Members::read(text).unwrap_or(Members(vec![]));
        let params = members.get("params").map(|p| Params::new(p.to_owned()));
        let Some(params) = params else {
            return (
                failure(self.id, &RpcError::new(INVALID_REQUEST, "No params")),
                false,
            );
        };
        let filter = match members
            .get("filter")
            .map(|f| filter::Filter::read(f.get()))
            .transpose()
        {
            Ok(filter) => filter,
            Err(error) => return (self.failure(error, false), false),
        };
        let call = Call {
            node: self.node.clone(),
            id: self.id.to_owned(),
            params,
            check: false,
            flags: self.flags.clone(),
        };
        let result = match commands::run(method, call).await {
            Ok(result) => result,
            // Only `check` has commands check and stop there, and it answers itself.
            Err(Stop::Checked) => Value::Object(Map::new()),
            Err(Stop::Failed(error)) => return (self.failure(error, method == "check"), false),
        };
        let result = match filter {
            Some(filter) => filter.apply(result),
            None => result,
        };
        (success(self.id, &result), method == "stop")
    }

    /// The plugin that can check the command that this `check` is about.
    fn checked_by_plugin(&self, text: &str) -> Option<Arc<Plugin>> {
        let request: Value = serde_json::from_str(text).ok()?;
        let params = &request["params"];
        let command = params
            .get("command_to_check")
            .or_else(|| params.get(0))?
            .as_str()?;
        let plugin = self.node.plugins.with_method(command)?;
        plugin
            .manifest()
            .is_some_and(|m| m.can_check)
            .then_some(plugin)
    }

    fn failure(&self, error: RpcError, check: bool) -> Vec<u8> {
        let (error, line) = error.tell(check || self.node.config.developer);
        if let Some(line) = line {
            self.node.log.info("jsonrpc", line);
        }
        failure(self.id, &error)
    }

    /// Lets a plugin answer: request and answer pass through as they are
    /// written, but for the id.
    async fn pass_on(&self, plugin: &Plugin, method: &str, text: &str) -> Vec<u8> {
        let id = self.node.plugins.next_id(method, Some(self.id));
        let caller_id = Members::read(text).ok().and_then(|m| m.get("id"));
        let request = match caller_id {
            Some(caller_id) => splice(text, caller_id.get(), &json!(id).to_string()),
            None => text.to_owned(),
        };
        let progress = self
            .flags
            .notifications
            .load(Ordering::Relaxed)
            .then(|| Progress {
                to: self.progress.clone(),
                id: self.id.to_owned(),
            });
        match plugin
            .exchange(&id, format!("{request}\n\n").into_bytes(), progress)
            .await
        {
            Ok(answer) => {
                let answer = String::from_utf8_lossy(&answer);
                let their_id = Members::read(&answer).ok().and_then(|m| m.get("id"));
                let answer = match their_id {
                    Some(their_id) => splice(&answer, their_id.get(), self.id),
                    None => answer.into_owned(),
                };
                format!("{answer}\n\n").into_bytes()
            }
            Err(Terminated) => failure(self.id, &RpcError::terminated()),
        }
    }
}
