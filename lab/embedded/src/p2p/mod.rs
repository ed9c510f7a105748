//! The node's peers: BOLT 8 and BOLT 1 by LDK, answers and notifications as from
//! lightningd.
//!
//! # Layout
//! - [`handler`]: LDK's callbacks.
//! - [`connect`], [`listener`]: outgoing and incoming connections.
//! - [`links`]: what follows when a link is up or down.
//! - [`peer`]: a connected peer; why a connection fails.
//! - this file: the connected peers.

pub mod connect;
pub mod handler;
pub mod links;
pub mod listener;
pub mod peer;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lightning::bitcoin::secp256k1::PublicKey;
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning_net_tokio::SocketDescriptor;
use tokio::sync::{mpsc, oneshot};

use self::handler::{Event, LdkLog, LinkHandler, Ping, PingSender};
use self::peer::{Failure, Peer};
use crate::keys::{self, Keys};
use crate::lock::lock;
use crate::log::Log;

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
    /// Links whose `peer_connected` hook is under way, with the number of the link:
    /// there may be a later one to the same node.
    deciding: HashMap<PublicKey, u64>,
    links: u64,
    /// Callers that wait for a link to come up.
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
    /// Those in `init`, BOLT 9 big-endian.
    pub init_features: Arc<Mutex<Vec<u8>>>,
}

impl Peers {
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
        lock(&self.state)
    }

    /// The connected peers, by node id.
    pub fn list(&self) -> Vec<Peer> {
        self.state().connected.values().cloned().collect()
    }

    pub fn get(&self, id: &PublicKey) -> Option<Peer> {
        self.state().connected.get(id).cloned()
    }

    /// Ends the link to a peer, if there is one; returns once it is gone and its
    /// `disconnect` notification is queued.
    pub async fn disconnect(&self, id: &PublicKey) {
        let (tx, rx) = oneshot::channel();
        {
            let mut state = self.state();
            if !state.connected.contains_key(id) {
                return;
            }
            state.leaving.entry(*id).or_default().push(tx);
        }
        self.manager.disconnect_by_node_id(*id);
        let _ = rx.await;
    }

    /// Sends a ping; gives the size of the pong's `ignored` field, in bytes, or `None`
    /// when the link goes down instead.
    pub async fn ping(&self, id: &PublicKey, bytes: u16, pong_bytes: u16) -> Option<u16> {
        let (tx, rx) = oneshot::channel();
        self.state().pinging.entry(*id).or_default().push(tx);
        self.send_ping(id, bytes, pong_bytes);
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

    /// Drops every link without a notification: the node stops.
    pub fn close(&self) {
        self.manager.disconnect_all_peers();
    }
}
