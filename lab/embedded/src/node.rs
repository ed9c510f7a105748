//! One embedded node: what it is made of, and its life from start to end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::chain::Chain;
use super::config::Config;
use super::features::FeatureSet;
use super::keys::Keys;
use super::log::Log;
use super::p2p::{self, Peers};
use super::plugins::{self, Plugins};
use super::rpc;
use super::store::Store;

/// How far the node is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It runs.
    No,
    /// Plugins are being told.
    Stopping,
    /// Everything has ended but the process.
    Stopped,
    /// The process may go, with this exit code.
    Exit(u8),
}

/// One node.
pub struct Node {
    /// What it was told.
    pub config: Config,
    /// Who it is.
    pub keys: Arc<Keys>,
    /// Its log.
    pub log: Arc<Log>,
    /// bitcoind.
    pub chain: Chain,
    /// Who it is connected to.
    pub peers: Peers,
    /// Its plugins.
    pub plugins: Arc<Plugins>,
    store: Mutex<Store>,
    features: Mutex<FeatureSet>,
    /// Where it listens, once it does.
    pub bound: OnceLock<Vec<SocketAddr>>,
    ending: watch::Sender<Ending>,
    /// What listens on the node's port and on its socket.
    listeners: Mutex<Vec<AbortHandle>>,
}

impl Node {
    /// The invoices.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feature bits, with those of plugins.
    pub fn features(&self) -> FeatureSet {
        self.features
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a plugin's feature bits.
    pub fn add_features(&self, more: &FeatureSet) {
        let mut features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        features.add(more);
        *self
            .peers
            .init_features
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = features.init.clone();
    }

    /// Tells every plugin that subscribed to `topic`.
    pub fn notify(&self, topic: &str, body: Value) {
        self.plugins.notify_native(topic, body);
    }

    /// The node's alias.
    pub fn alias(&self) -> String {
        self.config
            .alias
            .clone()
            .unwrap_or_else(|| format!("embedded-{}", &self.keys.id()[..6]))
    }

    /// The node's colour, six hex digits.
    pub fn color(&self) -> String {
        self.config
            .rgb
            .clone()
            .unwrap_or_else(|| self.keys.id()[..6].to_owned())
    }

    /// To wait for the end with.
    pub fn watch_ending(&self) -> watch::Receiver<Ending> {
        self.ending.subscribe()
    }

    /// Moves the end on; never back.
    pub fn advance_ending(&self, to: Ending) {
        self.ending.send_if_modified(|now| {
            let later = to > *now;
            if later {
                *now = to;
            }
            later
        });
    }

    /// Runs a task that listens, until the node stops.
    pub fn listen(&self, listener: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(listener).abort_handle();
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.push(task);
    }

    /// Ends everything but the process: plugins, then links, port, socket and pid
    /// file. Returns when it is done, whoever began it: who is told so may start
    /// the next node in this place at once.
    pub async fn stop(self: &Arc<Self>) {
        let mut ending = self.watch_ending();
        if *ending.borrow_and_update() == Ending::No {
            self.advance_ending(Ending::Stopping);
            plugins::lifecycle::shutdown(self).await;
            self.peers.close();
            for listener in self
                .listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                listener.abort();
            }
            // An aborted task lets its socket go when it is next its turn.
            tokio::task::yield_now().await;
            for file in [&self.config.rpc_file, &self.config.pid_file] {
                let _ = fs::remove_file(file);
            }
            self.advance_ending(Ending::Stopped);
        }
        let _ = ending.wait_for(|e| *e >= Ending::Stopped).await;
    }
}

/// Runs a node to its end.
///
/// # Errors
/// One line: why it could not start.
pub async fn run(config: Config) -> Result<u8, String> {
    let _lock = prepare(&config)?;
    let log = Arc::new(Log::open(config.log.clone()).map_err(|e| e.to_string())?);
    let keys = Arc::new(Keys::load(Path::new("hsm_secret")).map_err(|e| e.to_string())?);
    let store = Store::open(Path::new("invoices.jsonl")).map_err(|e| e.to_string())?;
    let features = FeatureSet::default();
    let peers =
        Peers::new(keys.clone(), log.clone(), features.init.clone()).map_err(|e| e.to_string())?;
    let plugins = Arc::new(Plugins::new(&config));
    let node = Arc::new(Node {
        chain: Chain::new(config.bitcoin.clone()),
        ending: watch::Sender::new(Ending::No),
        listeners: Mutex::default(),
        bound: OnceLock::new(),
        store: Mutex::new(store),
        features: Mutex::new(features),
        peers,
        plugins,
        keys,
        log,
        config,
    });
    let told = Arc::downgrade(&node.plugins);
    node.log.listen(Box::new(move |entry| {
        if let Some(plugins) = told.upgrade() {
            plugins.notify_log(entry);
        }
    }));
    node.log.info("lightningd", super::version());
    let ended = live(&node).await;
    // However it ended, nothing of it stays.
    node.stop().await;
    ended
}

/// Makes the folders (0700), takes the pid file, and moves into the node's
/// folder, which is where lightningd and its plugins work.
fn prepare(config: &Config) -> Result<Flock<File>, String> {
    let fail = |what: &str, path: &Path, e: &dyn std::fmt::Display| {
        format!("{what} {}: {e}", path.display())
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.net_dir)
        .map_err(|e| fail("Creating", &config.net_dir, &e))?;
    // lightningd's limit, and the kernel's: 107 bytes and a zero.
    if config.rpc_file.as_os_str().len() > 107 {
        return Err(format!(
            "rpc filename '{}' is longer than 107 bytes, which no unix socket can be: choose a shorter --lightning-dir",
            config.rpc_file.display()
        ));
    }
    std::env::set_current_dir(&config.net_dir)
        .map_err(|e| fail("Entering", &config.net_dir, &e))?;
    let path = &config.pid_file;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o644)
        .open(path)
        .map_err(|e| fail("Opening pid file", path, &e))?;
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| {
        format!(
            "lightningd already running? Error locking PID file: {}: {}",
            path.display(),
            e.desc()
        )
    })?;
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(|e| fail("Writing pid file", path, &e))?;
    Ok(lock)
}

/// From the first plugin to the last word.
async fn live(node: &Arc<Node>) -> Result<u8, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
    let mut ending = node.watch_ending();
    let asked = {
        let mut up = pin!(start(node));
        let mut is_up = false;
        loop {
            tokio::select! {
                started = &mut up, if !is_up => {
                    started?;
                    is_up = true;
                }
                _ = hangup.recv() => node.log.reopen(),
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = ending.wait_for(|e| *e > Ending::No) => break "",
            }
        }
    };
    if !asked.is_empty() {
        node.log.info("lightningd", format!("{asked}: ending"));
        node.stop().await;
        return Ok(0);
    }
    // `stop` still has its answer to write; a client that does not read it
    // must not keep the node.
    let exit = tokio::time::timeout(
        Duration::from_secs(60),
        ending.wait_for(|e| matches!(e, Ending::Exit(_))),
    )
    .await;
    Ok(match exit.as_ref().map(|r| r.as_ref().map(|e| **e)) {
        Ok(Ok(Ending::Exit(code))) => code,
        _ => 0,
    })
}

async fn start(node: &Arc<Node>) -> Result<(), String> {
    plugins::lifecycle::start_all(node).await?;
    for name in &node.config.no_effect {
        node.log.debug(
            "lightningd",
            format!("option {name} has no effect on the embedded node"),
        );
    }
    node.chain.connect().await?;
    let bound = p2p::listen(node)?;
    let _ = node.bound.set(bound);
    p2p::run(node);
    rpc::listen(node).map_err(|e| format!("{}: {e}", node.config.rpc_file.display()))?;
    plugins::lifecycle::init_all(node).await;
    tokio::spawn(follow_chain(node.clone()));
    node.log.info(
        "lightningd",
        format!(
            "Server started with public key {}, alias {} (color #{}) and lightningd {}",
            node.keys.id(),
            node.alias(),
            node.color(),
            super::version()
        ),
    );
    node.log.info(
        "lightningd",
        "This is the embedded node: for tests on regtest, without wallet, channels or payments",
    );
    Ok(())
}

async fn follow_chain(node: Arc<Node>) {
    let mut lost = false;
    loop {
        tokio::time::sleep(node.config.poll).await;
        match node.chain.poll().await {
            Ok(blocks) => {
                if std::mem::take(&mut lost) {
                    node.log.info("lightningd", "bitcoind answers again");
                }
                for block in blocks {
                    node.log.debug(
                        "lightningd",
                        format!("Adding block {}: {}", block.height, block.hash),
                    );
                    node.notify(
                        "block_added",
                        json!({ "hash": block.hash, "height": block.height }),
                    );
                    node.chain.reached(&block);
                }
            }
            Err(e) if !std::mem::replace(&mut lost, true) => {
                node.log.unusual(
                    "lightningd",
                    format!("bitcoind at {}: {e}", node.config.bitcoin.url()),
                );
            }
            Err(_) => {}
        }
    }
}

/// Makes stdout and stderr go nowhere and the process its own session leader,
/// for `--daemon`. Before any thread or runtime.
///
/// # Errors
/// The operating system refuses.
pub fn daemonize() -> io::Result<bool> {
    use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
    // SAFETY: called from `main` before the runtime: there is one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(false),
        ForkResult::Child => {
            setsid()?;
            let null = OpenOptions::new()
                .read(true)
                .write(true)
                .open("/dev/null")?;
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            dup2_stderr(&null)?;
            Ok(true)
        }
    }
}
