//! The commands of the embedded node: one table, and `help` and `check`, which read
//! it.
//!
//! # Layout
//! - [`node`]: getinfo, stop.
//! - [`connection`]: notifications, batching, deprecations.
//! - [`peers`]: connect, disconnect, listpeers, ping.
//! - [`invoices`]: invoice, listinvoices, delinvoice.
//! - [`plugin`]: plugin start, stop, startdir, rescan, list.
//! - [`listconfigs`], [`setconfig`], [`waitblockheight`].

pub mod connection;
pub mod invoices;
pub mod listconfigs;
pub mod node;
pub mod peers;
pub mod plugin;
pub mod setconfig;
pub mod waitblockheight;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call::{Call, Command, Stop};
use super::error::{METHOD_NOT_FOUND, RpcError};
use super::names::why_not;
use super::params::{self, Params, opt, req};

/// Rows of a name, the parameters as `help` shows them, and the function.
macro_rules! commands {
    ($($name:literal $usage:literal $run:path;)*) => {
        &[$(Command { name: $name, usage: $usage, run: |call| Box::pin($run(call)) }),*]
    };
}

/// The commands of the embedded node itself.
fn all() -> &'static [Command] {
    commands! {
        "batching" "enable" connection::no_effect;
        "check" "command_to_check" check;
        "connect" "id [host] [port]" peers::connect;
        "delinvoice" "label status [desconly]" invoices::delinvoice;
        "deprecations" "enable" connection::no_effect;
        "disconnect" "id [force]" peers::disconnect;
        "getinfo" "" node::getinfo;
        "help" "[command]" help;
        "invoice" "amount_msat label description [expiry] [fallbacks] [preimage] \
            [exposeprivatechannels] [cltv] [deschashonly]" invoices::invoice;
        "listconfigs" "[config]" listconfigs::listconfigs;
        "listinvoices" "[label] [invstring] [payment_hash] [offer_id] [index] [start] [limit]"
            invoices::listinvoices;
        "listpeers" "[id] [level]" peers::listpeers;
        "notifications" "enable" connection::notifications;
        "ping" "id [len] [pongbytes]" peers::ping;
        "plugin" "subcommand=start|stop|startdir|rescan|list" plugin::plugin;
        "setconfig" "config [val] [transient]" setconfig::setconfig;
        "stop" "" node::stop;
        "waitblockheight" "blockheight [timeout]" waitblockheight::waitblockheight;
    }
}

/// The one with this name.
pub fn find(name: &str) -> Option<&'static Command> {
    all().iter().find(|c| c.name == name)
}

/// `help`
async fn help(call: &Call) -> Result<Value, Stop> {
    let mut command = None;
    call.params
        .read(vec![opt("command", &mut command, params::string)])?;
    let mut lines: Vec<(String, String)> = all()
        .iter()
        .map(|c| (c.name.to_owned(), format!("{} {}", c.name, c.usage)))
        .collect();
    for plugin in call.node.plugins.all() {
        for method in plugin.manifest().iter().flat_map(|m| &m.methods) {
            let deprecated = if method.deprecated {
                " (DEPRECATED!)"
            } else {
                ""
            };
            lines.push((
                method.name.clone(),
                format!("{}{deprecated} {}", method.name, method.usage),
            ));
        }
    }
    lines.sort();
    if let Some(command) = &command {
        lines.retain(|(name, _)| name == command);
        if lines.is_empty() {
            let mut message = why_not(command);
            if message.starts_with("Unknown") {
                // lightningd does without the quotes here.
                message = format!("Unknown command {command}");
            }
            return Err(RpcError::new(METHOD_NOT_FOUND, message).into());
        }
    }
    call.done_if_check()?;
    let lines: Vec<_> = lines
        .into_iter()
        .map(|(_, usage)| json!({ "command": usage }))
        .collect();
    Ok(json!({ "help": lines, "format-hint": "simple" }))
}

/// `check`: checks the parameters of another command.
async fn check(call: &Call) -> Result<Value, Stop> {
    let mut command = None;
    call.params.read_some(
        vec![req("command_to_check", &mut command, params::string)],
        true,
    )?;
    let command = command.unwrap_or_default();
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
    if command == "check" {
        // Its own parameters are valid.
    } else if let Some(builtin) = find(&command) {
        let inner = Call {
            node: call.node.clone(),
            id: call.id.clone(),
            params: Params::new(rest),
            check: true,
            flags: call.flags.clone(),
        };
        match (builtin.run)(&inner).await {
            Ok(_) | Err(Stop::Checked) => {}
            Err(failed) => return Err(failed),
        }
    } else if call.node.plugins.with_method(&command).is_none() {
        return Err(RpcError::new(METHOD_NOT_FOUND, why_not(&command)).into());
    }
    Ok(json!({ "command_to_check": command }))
}
