//! One embedded node: what it consists of. [`crate::life`] starts and ends it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::chain::Chain;
use crate::config::Config;
use crate::features::FeatureSet;
use crate::keys::Keys;
use crate::lock::lock;
use crate::log::Log;
use crate::p2p::Peers;
use crate::plugins::Plugins;
use crate::store::Store;

/// How far the node's shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// The node runs.
    No,
    /// Somebody has asked for the end: plugins shut down.
    Stopping,
    /// Only the process is left.
    Stopped,
    /// The process may exit, with this code.
    Exit(u8),
}

pub struct Node {
    pub config: Config,
    pub keys: Arc<Keys>,
    pub log: Arc<Log>,
    pub chain: Chain,
    pub peers: Peers,
    pub plugins: Arc<Plugins>,
    store: Mutex<Store>,
    features: Mutex<FeatureSet>,
    /// Where it listens, once it does.
    pub bound: OnceLock<Vec<SocketAddr>>,
    ending: watch::Sender<Ending>,
    /// The tasks that accept connections, on the node's port and on its socket.
    listeners: Mutex<Vec<AbortHandle>>,
}

impl Node {
    /// A node with the features it has without plugins.
    pub fn new(
        config: Config,
        keys: Arc<Keys>,
        log: Arc<Log>,
        store: Store,
        peers: Peers,
        plugins: Plugins,
    ) -> Self {
        Self {
            chain: Chain::new(config.bitcoin.clone()),
            config,
            keys,
            log,
            peers,
            plugins: Arc::new(plugins),
            store: Mutex::new(store),
            features: Mutex::default(),
            bound: OnceLock::new(),
            ending: watch::Sender::new(Ending::No),
            listeners: Mutex::default(),
        }
    }

    /// The invoices.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// The feature bits, with those of plugins.
    pub fn features(&self) -> FeatureSet {
        lock(&self.features).clone()
    }

    /// Adds a plugin's feature bits.
    pub fn add_features(&self, more: &FeatureSet) {
        let mut features = lock(&self.features);
        features.add(more);
        *lock(&self.peers.init_features) = features.init.clone();
    }

    /// Notifies every plugin that subscribed to `topic`.
    pub fn notify(&self, topic: &str, body: Value) {
        self.plugins.notify_native(topic, body);
    }

    pub fn alias(&self) -> String {
        self.config
            .alias
            .clone()
            .unwrap_or_else(|| format!("embedded-{}", &self.keys.id()[..6]))
    }

    /// The colour, six hex digits.
    pub fn color(&self) -> String {
        self.config
            .rgb
            .clone()
            .unwrap_or_else(|| self.keys.id()[..6].to_owned())
    }

    /// Signals the stages of shutdown.
    pub fn watch_ending(&self) -> watch::Receiver<Ending> {
        self.ending.subscribe()
    }

    /// Moves the shutdown to a later stage; never back.
    pub fn advance_ending(&self, to: Ending) {
        self.ending.send_if_modified(|now| {
            let later = to > *now;
            if later {
                *now = to;
            }
            later
        });
    }

    /// Asks for the end and returns once only the process is left: the next node
    /// may start in this place at once.
    pub async fn stop(&self) {
        self.advance_ending(Ending::Stopping);
        let mut ending = self.watch_ending();
        let _ = ending.wait_for(|e| *e >= Ending::Stopped).await;
    }

    /// Runs a task that accepts connections, until the node stops.
    pub fn listen(&self, listener: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(listener).abort_handle();
        lock(&self.listeners).push(task);
    }

    /// Accepts no more connections.
    pub async fn close_listeners(&self) {
        for listener in lock(&self.listeners).drain(..) {
            listener.abort();
        }
        // An aborted task closes its socket when it is polled next.
        tokio::task::yield_now().await;
    }
}
