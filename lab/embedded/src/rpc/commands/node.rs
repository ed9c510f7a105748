//! getinfo, stop.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::rpc::call::{Call, Stop};
use crate::version::version;

/// `getinfo`
pub async fn getinfo(call: &Call) -> Result<Value, Stop> {
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
        "version": version(),
        "blockheight": node.chain.height(),
        "network": "regtest",
        "fees_collected_msat": 0,
        "lightning-dir": node.config.net_dir,
        "our_features": node.features().to_json(),
    }))
}

fn addresses(addrs: &[SocketAddr]) -> Vec<Value> {
    addrs
        .iter()
        .map(|a| {
            let kind = if a.is_ipv4() { "ipv4" } else { "ipv6" };
            json!({ "type": kind, "address": a.ip().to_string(), "port": a.port() })
        })
        .collect()
}

/// `stop`: the answer comes when only the process is left.
pub async fn stop(call: &Call) -> Result<Value, Stop> {
    call.params.read(vec![])?;
    call.done_if_check()?;
    call.node.log.unusual("lightningd", "JSON-RPC shutdown");
    call.node.stop().await;
    Ok(json!({ "result": "Shutdown complete" }))
}
