//! Messages from plugins: answers, log lines, notifications for each other.

use std::sync::Arc;

use cln_wire::Members;
use serde_json::{Value, json};

use super::plugin::Plugin;
use crate::json::{JsonStream, quote, splice, value};
use crate::log::Level;
use crate::node::Node;

/// Acts on one message from a plugin.
///
/// # Errors
/// Why the plugin must be killed, in lightningd's words.
pub fn handle(
    node: &Node,
    plugin: &Arc<Plugin>,
    message: Vec<u8>,
    rest: &JsonStream,
) -> Result<(), String> {
    let quoted = || format!("{}{}", quote(&message), rest.quote());
    let unreadable = || format!("Failed to parse RPC JSON response '{}'", quoted());
    let text = std::str::from_utf8(&message).map_err(|_| unreadable())?;
    let members = Members::read(text).ok_or_else(unreadable)?;
    if members.get("jsonrpc").is_none() {
        return Err(format!(
            "JSON-RPC message does not contain \"jsonrpc\" field: '{}'",
            quoted()
        ));
    }
    if let Some(id) = members.get("id") {
        let id = id_text(id);
        plugin.answered(&id, message);
        return Ok(());
    }
    let (Some(method), Some(params)) = (members.text("method"), members.get("params")) else {
        return Err(format!(
            "Malformed JSON-RPC notification missing \"method\" or \"params\": {}",
            quote(&message)
        ));
    };
    match &*method {
        "log" => log(node, plugin, params),
        "message" | "progress" => progress(plugin, &method, params),
        topic => {
            forward(node, plugin, topic, params);
            Ok(())
        }
    }
}

/// An id as the node knows it: the text of a string, anything else as written.
fn id_text(id: &str) -> String {
    serde_json::from_str::<String>(id).unwrap_or_else(|_| id.to_owned())
}

/// A line for the node's log. pyln sends a traceback line by line, others send
/// it whole: each of its lines becomes one in the log.
fn log(node: &Node, plugin: &Plugin, params: &str) -> Result<(), String> {
    let params = value(params);
    let Some(message) = params.get("message").and_then(Value::as_str) else {
        return Err("Log notification from plugin doesn't have a string \"message\" field".into());
    };
    let level = match params.get("level") {
        None => Level::Info,
        Some(level) => match level.as_str().and_then(|l| l.parse().ok()) {
            Some(Level::Io) | None => {
                return Err(format!(
                    "Unknown log-level {level}, valid values are \"trace\", \"debug\", \"info\", \"warn\", or \"error\"."
                ));
            }
            Some(level) => level,
        },
    };
    let source = plugin.source();
    for line in message.split('\n') {
        node.log.log(level, &source, line);
    }
    Ok(())
}

/// Passes a request's progress on to its caller.
fn progress(plugin: &Plugin, method: &str, params: &str) -> Result<(), String> {
    let Some(id) = Members::read(params).unwrap_or_default().get("id") else {
        return Err("JSON-RPC notify \"id\"-field is not present".into());
    };
    if let Some(progress) = plugin.progress(&id_text(id)) {
        let params = splice(params, id, &progress.id);
        let line =
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{params}}}\n\n");
        let _ = progress.to.send(line.into_bytes());
    }
    Ok(())
}

/// Passes a notification on to other plugins, if the manifest declares it; its params
/// as they were written, JSON or not, as lightningd does.
fn forward(node: &Node, plugin: &Plugin, topic: &str, params: &str) {
    let declared = plugin
        .manifest()
        .is_some_and(|m| m.topics.iter().any(|t| t == topic));
    if !declared {
        node.log.unusual(
            &plugin.source(),
            format!(
                "Plugin attempted to send a notification to topic \"{topic}\" it hasn't declared in its manifest, \
                 not forwarding to subscribers."
            ),
        );
        return;
    }
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"method\":{},\"origin\":{},\"params\":{}}}\n\n",
        json!(topic),
        json!(plugin.name),
        params
    );
    node.plugins.notify(topic, line.into_bytes());
}
