//! The way of one request: is it valid, what do hooks make of it, which command or
//! plugin answers it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cln_wire::Members;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::call::{Call, Flags, Stop};
use super::commands;
use super::error::{INVALID_REQUEST, METHOD_NOT_FOUND, RpcError};
use super::filter::Filter;
use super::names::why_not;
use super::params::Params;
use crate::json::splice;
use crate::node::Node;
use crate::plugins::hooks::{self, Verdict};
use crate::plugins::plugin::{Plugin, Progress, Terminated};

/// The answer to what is not a valid request.
pub fn invalid(id: &str, what: &str) -> Vec<u8> {
    failure(id, &RpcError::new(INVALID_REQUEST, what))
}

fn failure(id: &str, error: &RpcError) -> Vec<u8> {
    failure_json(id, &error.to_json())
}

fn failure_json(id: &str, error: &Value) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}\n\n").into_bytes()
}

fn success(id: &str, result: &Value) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n\n").into_bytes()
}

/// The id (as JSON) and the method of a request; the id for the answer and the
/// message, if it is not a valid one.
fn id_and_method(text: &str) -> Result<(String, String), (String, &'static str)> {
    let anonymous = |what| ("null".to_owned(), what);
    let members = Members::read(text).ok_or_else(|| anonymous("Expected {} for json command"))?;
    let id = members.get("id").ok_or_else(|| anonymous("No id"))?;
    if id.starts_with(['{', '[']) {
        return Err(anonymous("Expected string/primitive for id"));
    }
    if members.get("jsonrpc") != Some("\"2.0\"") {
        return Err(anonymous(
            "jsonrpc: \"2.0\" must be specified in the request",
        ));
    }
    let wrong = |what| (id.to_owned(), what);
    let method = members.get("method").ok_or_else(|| wrong("No method"))?;
    if members.get("params").is_none() {
        return Err(wrong("No params"));
    }
    let method = serde_json::from_str(method).map_err(|_| wrong("Expected string for method"))?;
    Ok((id.to_owned(), method))
}

/// The answer to one message, which is valid JSON with a `jsonrpc` member, and
/// whether it is that of `stop`. Notifications of progress go to `progress`.
pub async fn answer(
    node: &Arc<Node>,
    text: &str,
    progress: &mpsc::UnboundedSender<Vec<u8>>,
    flags: &Arc<Flags>,
) -> (Vec<u8>, bool) {
    let (id, method) = match id_and_method(text) {
        Ok(valid) => valid,
        Err((id, what)) => return (invalid(&id, what), false),
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
    if !node.plugins.has_hook("rpc_command") {
        return origin.dispatch(&method, text).await;
    }
    let request: Value = serde_json::from_str(text).unwrap_or_default();
    match hooks::rpc_command(node, &method, &request, &id).await {
        Verdict::Continue => origin.dispatch(&method, text).await,
        Verdict::Return(result) => (success(&id, &result), false),
        Verdict::Fail(error) => (failure_json(&id, &error), false),
        Verdict::Replace(request) => match check_replacement(node, &request) {
            Ok(method) => origin.dispatch(&method, &request.to_string()).await,
            Err(what) => {
                let what = format!("Bad response to 'rpc_command' hook: {what} ({request})");
                (invalid(&id, &what), false)
            }
        },
    }
}

/// Whether the node or a plugin has a command.
fn known(node: &Node, method: &str) -> Result<(), RpcError> {
    if commands::find(method).is_some() || node.plugins.with_method(method).is_some() {
        return Ok(());
    }
    Err(RpcError::new(METHOD_NOT_FOUND, why_not(method)))
}

/// Checks the request that a plugin puts in another's place; gives its method.
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
    /// Answers a request to a command that exists.
    async fn dispatch(&self, method: &str, text: &str) -> (Vec<u8>, bool) {
        if let Some(plugin) = self.node.plugins.with_method(method) {
            return (self.pass_on(&plugin, method, text).await, false);
        }
        if method == "check"
            && let Some(plugin) = self.checked_by_plugin(text)
        {
            return (self.pass_on(&plugin, method, text).await, false);
        }
        let members = Members::read(text).unwrap_or_default();
        let filter = members.get("filter").map(Filter::read);
        let filter = match filter.transpose() {
            Ok(filter) => filter,
            Err(error) => return (self.failure(error, false), false),
        };
        match self.run(method, &members).await {
            Ok(result) => {
                let result = match filter {
                    Some(filter) => filter.apply(result),
                    None => result,
                };
                (success(self.id, &result), method == "stop")
            }
            Err(error) => (self.failure(error, method == "check"), false),
        }
    }

    /// Runs a command of the node itself.
    async fn run(&self, method: &str, request: &Members<'_>) -> Result<Value, RpcError> {
        let params = request.get("params").map(str::to_owned);
        let Some(Ok(params)) = params.map(RawValue::from_string) else {
            return Err(RpcError::new(INVALID_REQUEST, "No params"));
        };
        let Some(command) = commands::find(method) else {
            return Err(RpcError::new(METHOD_NOT_FOUND, why_not(method)));
        };
        let call = Call {
            node: self.node.clone(),
            id: self.id.to_owned(),
            params: Params::new(params),
            check: false,
            flags: self.flags.clone(),
        };
        match (command.run)(&call).await {
            Ok(result) => Ok(result),
            // Only `check` makes commands stop there, and it answers itself.
            Err(Stop::Checked) => Ok(Value::Object(Map::new())),
            Err(Stop::Failed(error)) => Err(error),
        }
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
        let (error, line) = error.with_token(check || self.node.config.developer);
        if let Some(line) = line {
            self.node.log.info("jsonrpc", line);
        }
        failure(self.id, &error)
    }

    /// Lets a plugin answer: request and answer pass through as they were written,
    /// except for the id.
    async fn pass_on(&self, plugin: &Plugin, method: &str, text: &str) -> Vec<u8> {
        let id = self.node.plugins.next_id(method, Some(self.id));
        let caller_id = Members::read(text).and_then(|m| m.get("id"));
        let request = match caller_id {
            Some(caller_id) => splice(text, caller_id, &json!(id).to_string()),
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
                let their_id = Members::read(&answer).and_then(|m| m.get("id"));
                let answer = match their_id {
                    Some(their_id) => splice(&answer, their_id, self.id),
                    None => answer.into_owned(),
                };
                format!("{answer}\n\n").into_bytes()
            }
            Err(Terminated) => failure(self.id, &RpcError::terminated()),
        }
    }
}
