//! The node's peers: BOLT 8 and BOLT 1 by LDK, told as lightningd tells them.
//!
//! # Layout
//! - [`handler`]: what LDK asks of us, and what it tells.
//! - [`connect`]: reaching out, and saying what went wrong.
//! - [`peer`]: one that is connected.
//! - this file: who is there, the listener, and what becomes of LDK's events.

pub mod connect;
pub mod handler;
pub mod peer;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning::bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::{Init, SocketAddress};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning_net_tokio::SocketDescriptor;
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use self::connect::Failure;
use self::handler::{Event, LdkLog, LinkHandler, Ping, PingSender};
use self::peer::{Direction, Peer};
use super::features::hex;
use super::keys::{self, Keys};
use super::log::Log;
use super::node::Node;
use super::plugins::hooks;

/// LDK pings idle peers at each tick, and drops what has not answered the one
/// before, or has not finished its handshake.
const TICK: Duration = Duration::from_secs(10);

type Manager = PeerManager<
    SocketDescriptor,
    Arc<LinkHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<IgnoringMessageHandler>,
    Arc<LdkLog>,
    Arc<PingSender>,
    Arc<Keys>,
    Arc<IgnoringMessageHandler>,
>;

type Waiter = oneshot::Sender<Result<Peer, Failure>>;

#[derive(Default)]
struct State {
    connected: BTreeMap<PublicKey, Peer>,
    /// Links whose `peer_connected` hook is under way, by a number that tells
    /// two links to the same node apart.
    deciding: HashMap<PublicKey, u64>,
    links: u64,
    /// Who waits for a link to come up; more than one waits for the same one.
    waiting: HashMap<PublicKey, Vec<Waiter>>,
    leaving: HashMap<PublicKey, Vec<oneshot::Sender<()>>>,
    pinging: HashMap<PublicKey, Vec<oneshot::Sender<u16>>>,
}

/// The node's peers.
pub struct Peers {
    manager: Arc<Manager>,
    handler: Arc<LinkHandler>,
    pings: Arc<PingSender>,
    state: Mutex<State>,
    events: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    /// What `init` says, BOLT 9 big-endian.
    pub init_features: Arc<Mutex<Vec<u8>>>,
}

impl Peers {
    /// No peers yet, and nobody listening.
    ///
    /// # Errors
    /// The operating system has no random bytes.
    pub fn new(keys: Arc<Keys>, log: Arc<Log>, init_features: Vec<u8>) -> std::io::Result<Self> {
        let (tx, rx) = mpsc::unbounded_channel();
        let init_features = Arc::new(Mutex::new(init_features));
        let handler = Arc::new(LinkHandler::new(tx.clone(), init_features.clone()));
        let pings = Arc::new(PingSender::default());
        let ignore = || Arc::new(IgnoringMessageHandler {});
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let manager = PeerManager::new(
            MessageHandler {
                chan_handler: handler.clone(),
                route_handler: ignore(),
                onion_message_handler: ignore(),
                custom_message_handler: pings.clone(),
                send_only_message_handler: ignore(),
            },
            now.as_secs() as u32,
            &keys::random()?,
            Arc::new(LdkLog { log, events: tx }),
            keys,
        );
        Ok(Self {
            manager: Arc::new(manager),
            handler,
            pings,
            state: Mutex::default(),
            events: Mutex::new(Some(rx)),
            init_features,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is connected, by node id.
    pub fn list(&self) -> Vec<Peer> {
        self.state().connected.values().cloned().collect()
    }

    /// One who is connected.
    pub fn get(&self, id: &PublicKey) -> Option<Peer> {
        self.state().connected.get(id).cloned()
    }

    /// Ends the link to a peer; returns once it is gone and its `disconnect`
    /// notification is on its way. `false` when there is no such peer.
    pub async fn disconnect(&self, id: &PublicKey) -> bool {
        let (tx, rx) = oneshot::channel();
        {
            let mut state = self.state();
            if !state.connected.contains_key(id) {
                return false;
            }
            state.leaving.entry(*id).or_default().push(tx);
        }
        self.manager.disconnect_by_node_id(*id);
        let _ = rx.await;
        true
    }

    /// Sends a ping; gives the size of the pong's `ignored` field, or `None`
    /// when the peer went away instead.
    pub async fn ping(&self, id: &PublicKey, bytes: u16, pong_bytes: u16) -> Option<u16> {
        let (tx, rx) = oneshot::channel();
        self.state().pinging.entry(*id).or_default().push(tx);
        self.pings.send(*id, Ping { pong_bytes, bytes });
        self.manager.process_events();
        rx.await.ok()
    }

    /// Whether a link to this node is up, or comes up in time.
    async fn comes_up(&self, id: &PublicKey, within: Duration) -> bool {
        let (tx, mut rx) = oneshot::channel();
        {
            let mut state = self.state();
            if state.connected.contains_key(id) || state.deciding.contains_key(id) {
                return true;
            }
            state.waiting.entry(*id).or_default().push(tx);
        }
        let up = matches!(tokio::time::timeout(within, &mut rx).await, Ok(Ok(Ok(_))));
        rx.close();
        let mut state = self.state();
        if let Some(waiting) = state.waiting.get_mut(id) {
            waiting.retain(|waiter| !waiter.is_closed());
            if waiting.is_empty() {
                state.waiting.remove(id);
            }
        }
        up
    }

    /// Sends a ping that asks for no pong.
    pub fn send_ping(&self, id: &PublicKey, bytes: u16, pong_bytes: u16) {
        self.pings.send(*id, Ping { pong_bytes, bytes });
        self.manager.process_events();
    }

    /// Drops every link. Nobody is notified: the node is going.
    pub fn close(&self) {
        self.manager.disconnect_all_peers();
    }
}

/// Listens on each of the node's addresses. A port that was in use a moment ago
/// can be taken again at once.
///
/// # Errors
/// Names the address that cannot be had.
pub fn listen(node: &Arc<Node>) -> Result<Vec<SocketAddr>, String> {
    let mut bound = Vec::new();
    if node.config.offline {
        return Ok(bound);
    }
    for addr in &node.config.bind {
        let fail = |e: std::io::Error| format!("Failed to bind on {addr}: {e}");
        let socket = if addr.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }
        .map_err(fail)?;
        socket.set_reuseaddr(true).map_err(fail)?;
        socket.bind(*addr).map_err(fail)?;
        let listener = socket.listen(1024).map_err(fail)?;
        bound.push(listener.local_addr().map_err(fail)?);
        node.listen(accept(node.clone(), listener));
    }
    Ok(bound)
}

async fn accept(node: Arc<Node>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                node.log
                    .debug("connectd", format!("Connected in from {addr}"));
                match into_std(stream) {
                    Ok(stream) => {
                        // The link runs by itself.
                        drop(lightning_net_tokio::setup_inbound(
                            node.peers.manager.clone(),
                            stream,
                        ));
                    }
                    Err(e) => node.log.debug("connectd", format!("{addr}: {e}")),
                }
            }
            Err(e) => {
                // Most likely no file descriptor is left: let some go first.
                node.log
                    .unusual("connectd", format!("Failed to accept a connection: {e}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn into_std(stream: TcpStream) -> std::io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

/// Keeps LDK's clock and acts on what happens to links, for the node's life.
pub fn run(node: &Arc<Node>) {
    let Some(mut events) = node
        .peers
        .events
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    else {
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
                    // Pongs come in the order of the pings. LDK asks for none of 0
                    // bytes on an idle link while we wait: its come first or after.
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
        // Gone again already; `Down` follows.
        return;
    };
    let address = match details.socket_address {
        Some(SocketAddress::TcpIpV4 { addr, port }) => SocketAddr::from((addr, port)),
        Some(SocketAddress::TcpIpV6 { addr, port }) => SocketAddr::from((addr, port)),
        // TCP is all there is.
        _ => SocketAddr::from(([0, 0, 0, 0], 0)),
    };
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
        features: hex(&features),
        remote_addr: init.remote_network_address.and_then(|a| match a {
            SocketAddress::TcpIpV4 { addr, port } => {
                Some(SocketAddr::from((addr, port)).to_string())
            }
            SocketAddress::TcpIpV6 { addr, port } => {
                Some(SocketAddr::from((addr, port)).to_string())
            }
            _ => None,
        }),
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

/// The hook has spoken: the link stands, or `refusal` is sent and it ends.
fn settle(node: &Arc<Node>, peer: Peer, link: u64, refusal: Option<String>) {
    let id = peer.id;
    {
        let mut state = node.peers.state();
        if state.deciding.get(&id) != Some(&link) {
            // It went away while the plugins thought about it.
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
        node.notify("disconnect", json!({ "id": id.to_string() }));
    }
    for waiter in leaving {
        let _ = waiter.send(());
    }
    for waiter in waiting {
        let _ = waiter.send(Err(Failure::Dropped));
    }
}
