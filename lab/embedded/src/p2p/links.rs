//! What follows when a link is up or down: the hook, notifications, answers to callers
//! that wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin_hashes::hex::DisplayHex;
use lightning::bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{Init, SocketAddress};
use serde_json::json;

use super::handler::Event;
use super::peer::{Direction, Failure, Peer};
use crate::lock::lock;
use crate::node::Node;
use crate::plugins::hooks;

/// At each tick LDK pings idle peers, and drops those that have not answered the ping
/// before or have not finished their handshake.
const TICK: Duration = Duration::from_secs(10);

/// Acts on the events of links, and keeps LDK's clock, for the node's life.
pub fn run(node: &Arc<Node>) {
    let Some(mut events) = lock(&node.peers.events).take() else {
        return;
    };
    let manager = node.peers.manager.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            manager.timer_tick_occurred();
        }
    });
    let node = node.clone();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                Event::Up { id, init } => up(&node, id, *init),
                Event::Down { id } => down(&node, id),
                Event::Pong { id, bytes } => {
                    let mut state = node.peers.state();
                    // Pongs come in the order of the pings. LDK sends no ping of its own
                    // while one is awaited, so its pongs come before or after.
                    if let Some(waiting) = state.pinging.get_mut(&id)
                        && !waiting.is_empty()
                    {
                        let _ = waiting.remove(0).send(bytes);
                    }
                }
            }
        }
    });
}

fn up(node: &Arc<Node>, id: PublicKey, init: Init) {
    let link = {
        let mut state = node.peers.state();
        state.links += 1;
        let link = state.links;
        state.deciding.insert(id, link);
        link
    };
    let Some(details) = node.peers.manager.peer_by_node_id(&id) else {
        // It is down again already; `Down` follows.
        return;
    };
    // Peers connect by TCP only.
    let address = details.socket_address.as_ref().and_then(ip_address);
    let address = address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let mut features = details.init_features.le_flags().to_vec();
    features.reverse();
    let peer = Peer {
        id,
        direction: if details.is_inbound_connection {
            Direction::In
        } else {
            Direction::Out
        },
        address,
        features: features.to_lower_hex_string(),
        remote_addr: init
            .remote_network_address
            .as_ref()
            .and_then(ip_address)
            .map(|addr| addr.to_string()),
    };
    if !node.plugins.has_hook("peer_connected") {
        return settle(node, peer, link, None);
    }
    let node = node.clone();
    tokio::spawn(async move {
        let refusal = hooks::peer_connected(&node, json!({ "peer": peer.hook_json() })).await;
        settle(&node, peer, link, refusal);
    });
}

fn ip_address(address: &SocketAddress) -> Option<SocketAddr> {
    match address {
        SocketAddress::TcpIpV4 { addr, port } => Some(SocketAddr::from((*addr, *port))),
        SocketAddress::TcpIpV6 { addr, port } => Some(SocketAddr::from((*addr, *port))),
        _ => None,
    }
}

/// After the hook: accepts the peer, or sends `refusal` and ends the link.
fn settle(node: &Arc<Node>, peer: Peer, link: u64, refusal: Option<String>) {
    let id = peer.id;
    {
        let mut state = node.peers.state();
        if state.deciding.get(&id) != Some(&link) {
            // It went down while the plugins were asked.
            return;
        }
        if refusal.is_none() {
            state.deciding.remove(&id);
            state.connected.insert(id, peer.clone());
        }
    }
    if let Some(text) = refusal {
        node.log.debug(
            "lightningd",
            format!("peer_connected hook rejects and says '{text}'"),
        );
        if text.is_empty() {
            node.peers.manager.disconnect_by_node_id(id);
        } else {
            node.peers.handler.warn_and_disconnect(id, &text);
            node.peers.manager.process_events();
        }
        return;
    }
    node.notify("connect", peer.notification());
    let waiting = node.peers.state().waiting.remove(&id).unwrap_or_default();
    for waiter in waiting {
        let _ = waiter.send(Ok(peer.clone()));
    }
}

fn down(node: &Arc<Node>, id: PublicKey) {
    let (was_connected, leaving, waiting) = {
        let mut state = node.peers.state();
        state.pinging.remove(&id);
        let undecided = state.deciding.remove(&id).is_some();
        (
            state.connected.remove(&id).is_some(),
            state.leaving.remove(&id).unwrap_or_default(),
            if undecided {
                state.waiting.remove(&id).unwrap_or_default()
            } else {
                vec![]
            },
        )
    };
    if was_connected {
        // As lightningd logs it.
        node.log
            .debug(&format!("{id}-lightningd"), "peer_disconnected");
        node.notify("disconnect", json!({ "id": id.to_string() }));
    }
    for waiter in leaving {
        let _ = waiter.send(());
    }
    for waiter in waiting {
        let _ = waiter.send(Err(Failure::Dropped));
    }
}
