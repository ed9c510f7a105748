//! The node's life: its start, what it does on its own, its end.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::features::FeatureSet;
use crate::keys::Keys;
use crate::log::Log;
use crate::node::{Ending, Node};
use crate::p2p::{self, Peers};
use crate::plugins::{self, Plugins};
use crate::rpc;
use crate::store::Store;
use crate::version::version;

/// How long a client may take to read the answer to `stop` before the process
/// exits anyway.
const ANSWER_READ_WITHIN: Duration = Duration::from_secs(60);

/// Runs a node to its end, and calls `up` once it is up; gives the exit code.
///
/// # Errors
/// One line: why it could not start.
pub async fn run(config: Config, up: impl FnOnce() -> io::Result<()>) -> Result<u8, String> {
    let _lock = prepare(&config)?;
    let log = Arc::new(Log::open(config.log.clone()).map_err(|e| e.to_string())?);
    let keys = Arc::new(Keys::load(Path::new("hsm_secret")).map_err(|e| e.to_string())?);
    let store = Store::open(Path::new("invoices.jsonl")).map_err(|e| e.to_string())?;
    let peers = Peers::new(keys.clone(), log.clone(), FeatureSet::default().init)
        .map_err(|e| e.to_string())?;
    let plugins = Plugins::new(&config, |method| rpc::commands::find(method).is_some());
    let node = Arc::new(Node::new(config, keys, log, store, peers, plugins));
    let plugins = Arc::downgrade(&node.plugins);
    node.log.listen(Box::new(move |entry| {
        if let Some(plugins) = plugins.upgrade() {
            plugins.notify_log(entry);
        }
    }));
    node.log.info("lightningd", version());
    let ended = live(&node, up).await;
    shut_down(&node).await;
    if ended? {
        return Ok(0);
    }
    // The answer to `stop` has still to be written.
    let mut ending = node.watch_ending();
    let exit = ending.wait_for(|e| matches!(e, Ending::Exit(_)));
    let _ = tokio::time::timeout(ANSWER_READ_WITHIN, exit).await;
    let code = match *node.watch_ending().borrow() {
        Ending::Exit(code) => code,
        _ => 0,
    };
    Ok(code)
}

/// Makes the folders (0700), enters the node's folder, where lightningd and its
/// plugins work, too, and locks the pid file.
fn prepare(config: &Config) -> Result<Flock<File>, String> {
    let fail = |what: &str, path: &Path, e: &dyn Display| format!("{what} {}: {e}", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.net_dir)
        .map_err(|e| fail("Creating", &config.net_dir, &e))?;
    // The kernel's limit: 107 bytes and a zero.
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

/// Starts the node and returns once it is asked to end: `true` if by a signal.
async fn live(node: &Arc<Node>, up: impl FnOnce() -> io::Result<()>) -> Result<bool, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| e.to_string())?;
    let mut hangup = signal(SignalKind::hangup()).map_err(|e| e.to_string())?;
    let mut ending = node.watch_ending();
    let mut start = pin!(start(node));
    let mut up = Some(up);
    let signal = loop {
        tokio::select! {
            started = &mut start, if up.is_some() => {
                started?;
                up.take().map_or(Ok(()), |up| up()).map_err(|e| format!("--daemon: {e}"))?;
            }
            _ = hangup.recv() => node.log.reopen(),
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = ending.wait_for(|e| *e > Ending::No) => return Ok(false),
        }
    };
    node.log.info("lightningd", format!("{signal}: stopping"));
    Ok(true)
}

async fn start(node: &Arc<Node>) -> Result<(), String> {
    plugins::start::all(node).await?;
    for name in &node.config.no_effect {
        node.log.debug(
            "lightningd",
            format!("option {name} has no effect on the embedded node"),
        );
    }
    node.chain.connect().await?;
    let _ = node.bound.set(p2p::listener::listen(node)?);
    p2p::links::run(node);
    rpc::listen(node).map_err(|e| format!("{}: {e}", node.config.rpc_file.display()))?;
    plugins::start::init_all(node).await;
    tokio::spawn(follow_chain(node.clone()));
    node.log.info(
        "lightningd",
        format!(
            "Server started with public key {}, alias {} (color #{}) and lightningd {}",
            node.keys.id(),
            node.alias(),
            node.color(),
            version()
        ),
    );
    node.log.info(
        "lightningd",
        "This is the embedded node: for tests on regtest, without wallet, channels or payments",
    );
    Ok(())
}

/// Notifies plugins of each block, for the node's life.
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

/// Ends everything but the process: plugins, links, port, socket and pid file.
async fn shut_down(node: &Arc<Node>) {
    node.advance_ending(Ending::Stopping);
    plugins::end::all(node).await;
    node.peers.close();
    node.close_listeners().await;
    for file in [&node.config.rpc_file, &node.config.pid_file] {
        let _ = fs::remove_file(file);
    }
    node.advance_ending(Ending::Stopped);
}
