//! Hooks: asking plugins before something happens. The embedded node calls
//! `rpc_command` and `peer_connected`; what the others are for never happens in it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::plugin::{Plugin, Terminated};
use crate::node::Node;

/// The decision of the plugins about an RPC command.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Continue,
    /// Carry out this request instead.
    Replace(Value),
    /// Answer with this result.
    Return(Value),
    /// Answer with this error.
    Fail(Value),
}

/// The running plugins with this hook, in the order in which to ask them: that of
/// their start, except where `before` and `after` demand another.
fn chain(node: &Node, hook: &str) -> Vec<Arc<Plugin>> {
    let mut waiting: Vec<Arc<Plugin>> = node.plugins.all();
    waiting.retain(|p| {
        p.running()
            && p.manifest()
                .is_some_and(|m| m.hooks.iter().any(|h| h.name == hook))
    });
    let mut chain: Vec<Arc<Plugin>> = Vec::new();
    while !waiting.is_empty() {
        let free = waiting.iter().position(|p| {
            waiting
                .iter()
                .all(|other| Arc::ptr_eq(p, other) || !comes_before(other, p, hook))
        });
        // There is no cycle: a plugin that closes one is refused when it starts.
        chain.push(waiting.remove(free.unwrap_or(0)));
    }
    chain
}

/// Whether `a` must be asked before `b`.
fn comes_before(a: &Plugin, b: &Plugin, hook: &str) -> bool {
    let find = |p: &Plugin| {
        p.manifest()
            .and_then(|m| m.hooks.iter().find(|h| h.name == hook).cloned())
    };
    let (Some(of_a), Some(of_b)) = (find(a), find(b)) else {
        return false;
    };
    of_a.before.contains(&b.name) || of_b.after.contains(&a.name)
}

/// Whether there is an order in which to ask the plugins, with `newcomer`, for each
/// of its hooks.
pub fn can_be_ordered(node: &Node, newcomer: &Plugin) -> bool {
    let Some(manifest) = newcomer.manifest() else {
        return true;
    };
    manifest.hooks.iter().all(|hook| {
        let plugins = node.plugins.all();
        // Must the newcomer be asked before a plugin that must be asked before it?
        let mut after: Vec<&Arc<Plugin>> = plugins
            .iter()
            .filter(|p| comes_before(newcomer, p, &hook.name))
            .collect();
        let mut seen = 0;
        while let Some(p) = after.get(seen).copied() {
            if p.name == newcomer.name || comes_before(p, newcomer, &hook.name) {
                return false;
            }
            for next in &plugins {
                if comes_before(p, next, &hook.name) && !after.iter().any(|a| Arc::ptr_eq(a, next))
                {
                    after.push(next);
                }
            }
            seen += 1;
        }
        true
    })
}

/// Asks one plugin; `None` if it died or answered without a result (lightningd
/// crashes then; here it is logged and the next plugin is asked).
async fn ask(
    node: &Node,
    plugin: &Plugin,
    hook: &str,
    payload: &Value,
    caller: Option<&str>,
) -> Option<Value> {
    let answer = node.plugins.request(plugin, hook, payload.clone(), caller);
    match answer.await {
        Ok(answer) => {
            let answer: Value = serde_json::from_slice(&answer).ok()?;
            let result = answer.get("result").cloned();
            if result.is_none() {
                node.log.broken(
                    "lightningd",
                    format!(
                        "Plugin {} for {hook} returned non-result response {answer}",
                        plugin.name
                    ),
                );
            }
            result
        }
        Err(Terminated) => {
            node.log
                .debug("lightningd", format!("Plugin died from {hook} hook call"));
            None
        }
    }
}

/// Asks about a peer that has just connected. If it is rejected, gives the message
/// for it, which may be empty.
pub async fn peer_connected(node: &Arc<Node>, payload: Value) -> Option<String> {
    for plugin in chain(node, "peer_connected") {
        let Some(result) = ask(node, &plugin, "peer_connected", &payload, None).await else {
            continue;
        };
        match result.get("result").and_then(Value::as_str) {
            Some("continue") => {}
            Some("disconnect") => {
                let message = result.get("error_message").and_then(Value::as_str);
                return Some(message.unwrap_or_default().to_owned());
            }
            _ => node.log.broken(
                "lightningd",
                format!(
                    "Plugin {} returned an invalid response to the peer_connected hook: {result}",
                    plugin.name
                ),
            ),
        }
    }
    None
}

/// Asks about an RPC command.
pub async fn rpc_command(node: &Arc<Node>, method: &str, request: &Value, caller: &str) -> Verdict {
    let payload = json!({ "rpc_command": request });
    let mut verdict = Verdict::Continue;
    for plugin in chain(node, "rpc_command") {
        let wanted = plugin.manifest().is_some_and(|m| {
            m.hooks.iter().any(|h| {
                h.name == "rpc_command"
                    && (h.filters.is_empty() || h.filters.iter().any(|f| f == method))
            })
        });
        if !wanted {
            continue;
        }
        let Some(result) = ask(node, &plugin, "rpc_command", &payload, Some(caller)).await else {
            continue;
        };
        match read_verdict(&result) {
            Ok(Verdict::Continue) => {}
            Ok(_) if verdict != Verdict::Continue => {
                node.log.unusual(
                    "lightningd",
                    format!("rpc_command hook '{method}' already modified, ignoring."),
                );
                return verdict;
            }
            Ok(changed) => verdict = changed,
            Err(what) => node.log.broken(
                "lightningd",
                format!("Bad response to 'rpc_command' hook. {what}"),
            ),
        }
    }
    verdict
}

fn read_verdict(result: &Value) -> Result<Verdict, &'static str> {
    if let Some(word) = result.get("result") {
        return if word == "continue" {
            Ok(Verdict::Continue)
        } else {
            Err("'result' should only be 'continue'.")
        };
    }
    if let Some(replace) = result.get("replace") {
        return Ok(Verdict::Replace(replace.clone()));
    }
    let custom = result.get("return").ok_or("")?;
    if let Some(result) = custom.get("result") {
        return Ok(Verdict::Return(result.clone()));
    }
    let error = custom.get("error").ok_or("")?;
    if error.get("code").and_then(Value::as_i64).is_none() {
        return Err("'error' object does not contain a code.");
    }
    if error.get("message").is_none() {
        return Err("'error' object does not contain a message.");
    }
    Ok(Verdict::Fail(error.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (result, want) in [
            (json!({"result": "continue"}), Ok(Verdict::Continue)),
            (
                json!({"result": "stop"}),
                Err("'result' should only be 'continue'."),
            ),
            (
                json!({"replace": {"method": "x"}}),
                Ok(Verdict::Replace(json!({"method": "x"}))),
            ),
            (
                json!({"return": {"result": 1}}),
                Ok(Verdict::Return(json!(1))),
            ),
            (
                json!({"return": {"error": {"code": 1, "message": "m"}}}),
                Ok(Verdict::Fail(json!({"code": 1, "message": "m"}))),
            ),
            (
                json!({"return": {"error": {"message": "m"}}}),
                Err("'error' object does not contain a code."),
            ),
            (json!({}), Err("")),
            (json!("continue"), Err("")),
        ] {
            assert_eq!(read_verdict(&result), want);
        }
    }
}
