//! The node itself, its commands, its end, and what concerns one connection.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{COMMANDS, Call, Stop, is_builtin, why_not};
use crate::rpc::error::{METHOD_NOT_FOUND, RpcError};
use crate::rpc::params::{self, Params, opt, req};

fn addresses(addrs: &[SocketAddr]) -> Vec<Value> {
    addrs
        .iter()
        .map(|a| {
            let kind = if a.is_ipv4() { "ipv4" } else { "ipv6" };
            json!({ "type": kind, "address": a.ip().to_string(), "port": a.port() })
        })
        .collect()
}

/// `getinfo`
pub fn getinfo(call: &Call) -> Result<Value, Stop> {
    call.params.read(vec![])?;
    call.done_if_check()?;
    let node = &call.node;
    Ok(json!({
        "id": node.keys.id(),
        "alias": node.alias(),
        "color": node.color(),
        "num_peers": node.peers.list().len(),
        "num_pending_channels": 0,
        "num_active_channels": 0,
        "num_inactive_channels": 0,
        "address": addresses(&node.config.announce),
        "binding": addresses(node.bound.get().map_or(&[], |b| b.as_slice())),
        "version": crate::version(),
        "blockheight": node.chain.height(),
        "network": "regtest",
        "fees_collected_msat": 0,
        "lightning-dir": node.config.net_dir,
        "our_features": node.features().to_json(),
    }))
}

/// `help`
pub fn help(call: &Call) -> Result<Value, Stop> {
    let mut command = None;
    call.params
        .read(vec![opt("command", &mut command, params::string)])?;
    let mut all: Vec<(String, String)> = COMMANDS
        .iter()
        .map(|(name, usage)| ((*name).to_owned(), format!("{name} {usage}")))
        .collect();
    for plugin in call.node.plugins.all() {
        for method in plugin.manifest().iter().flat_map(|m| &m.methods) {
            let deprecated = if method.deprecated {
                " (DEPRECATED!)"
            } else {
                ""
            };
            all.push((
                method.name.clone(),
                format!("{}{deprecated} {}", method.name, method.usage),
            ));
        }
    }
    all.sort();
    if let Some(command) = &command {
        all.retain(|(name, _)| name == command);
        if all.is_empty() {
            let message = match why_not(command) {
                // Without quotes here.
                unknown if unknown.starts_with("Unknown") => format!("Unknown command {command}"),
                other => other,
            };
            return Err(RpcError::new(METHOD_NOT_FOUND, message).into());
        }
    }
    call.done_if_check()?;
    let lines: Vec<_> = all
        .into_iter()
        .map(|(_, usage)| json!({ "command": usage }))
        .collect();
    Ok(json!({ "help": lines, "format-hint": "simple" }))
}

/// `check`: the parameters of another command, without carrying it out.
pub async fn check(call: Call) -> Result<Value, Stop> {
    let mut command = None;
    call.params.read_some(
        vec![req("command_to_check", &mut command, params::string)],
        true,
    )?;
    let command = command.unwrap_or_default();
    let node = call.node.clone();
    let rest = if call.params.by_position() {
        let rest: Vec<_> = call.params.positional().into_iter().skip(1).collect();
        serde_json::to_string(&rest)
    } else {
        let mut map = call.params.to_map();
        map.remove("command_to_check");
        serde_json::to_string(&map)
    };
    let rest = rest
        .and_then(RawValue::from_string)
        .map_err(|e| RpcError::params(e.to_string()))?;
    if is_builtin(&command) {
        if command != "check" {
            let inner = Call {
                params: Params::new(rest),
                check: true,
                ..call
            };
            match Box::pin(super::run(&command, inner)).await {
                Ok(_) | Err(Stop::Checked) => {}
                Err(failed) => return Err(failed),
            }
        }
    } else if node.plugins.with_method(&command).is_none() {
        return Err(RpcError::new(METHOD_NOT_FOUND, why_not(&command)).into());
    }
    Ok(json!({ "command_to_check": command }))
}

/// `notifications`
pub fn notifications(call: &Call) -> Result<Value, Stop> {
    let mut enable = None;
    call.params
        .read(vec![req("enable", &mut enable, params::boolean)])?;
    call.done_if_check()?;
    call.flags
        .notifications
        .store(enable.unwrap_or(false), Ordering::Relaxed);
    Ok(json!({}))
}

/// `batching`, `deprecations`: taken, and of no consequence here (every change
/// is written at once; there are no deprecated APIs).
pub fn switch(call: &Call) -> Result<Value, Stop> {
    let mut enable = None;
    call.params
        .read(vec![req("enable", &mut enable, params::boolean)])?;
    call.done_if_check()?;
    Ok(json!({}))
}

/// `stop`: the answer comes when everything has ended but the process.
pub async fn stop(call: &Call) -> Result<Value, Stop> {
    call.params.read(vec![])?;
    call.done_if_check()?;
    call.node.log.unusual("lightningd", "JSON-RPC shutdown");
    call.node.stop().await;
    Ok(json!({ "result": "Shutdown complete" }))
}
