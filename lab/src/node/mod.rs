//! One Lightning node, and requests to it.

mod advice;
mod attached;
mod capability;
mod channels;
mod children;
mod config;
mod excused;
mod guard;
mod invoices;
mod lean;
mod lifecycle;
mod log;
mod payments;
mod peers;
mod plugins;
mod shim;
mod spec;
mod trouble;
mod wallet;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use cln_rpc::model::TypedRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::bitcoin::Bitcoind;
use crate::lock::lock;
use crate::process::daemon::Daemon;
use crate::process::listing::stopped_in_group;
use crate::process::ports::Port;
use crate::process::reaper::Reaper;
use crate::trace::{Asked, Recorder};
use crate::{Error, Follower, Implementation, PATIENCE, Result, scaled};

pub use advice::{StartWatch, json_hint, plugin_hint};
pub(crate) use attached::{Attached, pid_file};
pub use capability::Capability;
pub(crate) use channels::open_channels;
pub use channels::{CHANNEL_SAT, Channel, OpenChannel};
pub(crate) use excused::{Allowed, Excused};
pub(crate) use guard::Guard;
pub use invoices::Invoice;
pub(crate) use lean::Lean;
pub(crate) use lifecycle::{STOP, Surroundings};
pub use log::Log;
pub use payments::Payment;
pub use plugins::{Plugin, PluginStatus};
pub use shim::{InlinePlugin, ShimReader, ShimWriter};
pub use spec::{NodeKind, NodeSpec};
pub(crate) use wallet::fund;
pub use wallet::msat;

/// The name of the network folder, and of the only network there is here.
pub(crate) const NETWORK: &str = "regtest";

/// A node of a lab. It may be down: see [`Node::stop`] and [`Node::start`].
#[derive(Debug)]
pub struct Node {
    name: String,
    program: PathBuf,
    implementation: Implementation,
    dir: PathBuf,
    port: Port,
    /// Set when it first answers; a node keeps its id for life.
    id: OnceLock<String>,
    /// Follows what its process logs; `None` for a node that another process holds.
    log_since_start: std::sync::Mutex<Option<Follower>>,
    /// What is set for every node of its lab.
    every: NodeSpec,
    /// Empty for a node that another process holds.
    spec: std::sync::Mutex<NodeSpec>,
    /// Always `None` for a node that another process holds.
    daemon: Arc<Mutex<Option<Daemon>>>,
    /// Where its blocks come from, and are mined.
    bitcoind: Arc<Bitcoind>,
    holder: Holder,
    /// What may go wrong on it.
    excused: Arc<Excused>,
}

/// Which process holds a node's process, and ends it.
#[derive(Debug)]
enum Holder {
    Us(Arc<Reaper>),
    Other(Attached),
}

impl Node {
    /// Its name in the lab, which is also its alias: `l1`, `l2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node id (BOLT 1): a compressed public key, 66 hexadecimal digits; empty for
    /// a node that has not been up yet.
    pub fn id(&self) -> &str {
        // Another process has started it meanwhile.
        if let (None, Holder::Other(attached)) = (self.id.get(), &self.holder)
            && let Some(id) = attached.id(self)
        {
            let _ = self.id.set(id);
        }
        self.id.get().map_or("", String::as_str)
    }

    /// Which program it is.
    pub fn implementation(&self) -> &Implementation {
        &self.implementation
    }

    /// The executable it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its `--lightning-dir`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its network directory, where plugins run.
    pub fn network_dir(&self) -> PathBuf {
        self.dir.join(NETWORK)
    }

    /// lightningd's database, to be changed while the node is down. The embedded node has
    /// none.
    pub fn db_path(&self) -> PathBuf {
        self.network_dir().join("lightningd.sqlite3")
    }

    /// Its log file.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its JSON-RPC socket.
    pub fn rpc_path(&self) -> PathBuf {
        self.network_dir().join("lightning-rpc")
    }

    /// What is set for it now.
    fn spec(&self) -> NodeSpec {
        lock(&self.spec).clone()
    }

    /// The port on which peers reach it, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A new connection to the node, typed by `cln-rpc`.
    pub async fn rpc(&self) -> Result<cln_rpc::ClnRpc> {
        let path = self.rpc_path();
        cln_rpc::ClnRpc::new(&path)
            .await
            .map_err(|error| Error::Rpc {
                node: self.name.clone(),
                method: "connect to its socket".to_owned(),
                code: None,
                message: format!("{}: {error}", path.display()),
                data: None,
                help: String::new(),
            })
    }

    /// Calls any method; `params` is an object or an array.
    ///
    /// # Errors
    /// [`Error::Rpc`] with lightningd's code and message; [`Error::TimedOut`] if the
    /// node's process is stopped by a signal, after [`PATIENCE`].
    ///
    /// ```no_run
    /// # async fn f(l1: &cln_lab::Node) -> cln_lab::Result<()> {
    /// use serde_json::{Value, json};
    /// let peers: Value = l1.call("listpeers", json!({})).await?;
    /// # Ok(()) }
    /// ```
    pub async fn call<R>(&self, method: &str, params: impl Serialize) -> Result<R>
    where
        R: DeserializeOwned + std::fmt::Debug,
    {
        // cln-rpc requires `Debug` of the parameters; a `Value` has it.
        let params = serde_json::to_value(params).map_err(|e| Error::Answer {
            from: format!("the parameters of {method}"),
            why: e.to_string(),
        })?;
        let asked = self.asked(method, || params.to_string());
        let answer = self.ask(method, &params).await;
        asked.answer(&answer);
        serde_json::from_value(answer?).map_err(|e| Error::Answer {
            from: format!("{}: {method}", self.name),
            why: e.to_string(),
        })
    }

    async fn ask(&self, method: &str, params: &Value) -> Result<Value> {
        let mut rpc = self.rpc().await?;
        let answer = rpc.call_raw(method, params);
        let answer = self.unless_stopped(method, answer).await?;
        answer.map_err(|e| self.refused(method, e))
    }

    /// Writes a request to this node into the lab's trace, if it has one: for those that
    /// are not sent by [`Node::call`]. `params` is JSON.
    pub fn asked(&self, method: &str, params: impl FnOnce() -> String) -> Asked {
        self.trace().request(&self.name, method, params)
    }

    pub(crate) fn trace(&self) -> &Recorder {
        self.bitcoind.trace()
    }

    /// Calls a method by its `cln-rpc` request; the response of the type that belongs to
    /// it.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn call_typed<R>(&self, request: &R) -> Result<R::Response>
    where
        R: TypedRequest + Serialize + std::fmt::Debug,
        R::Response: DeserializeOwned + std::fmt::Debug,
    {
        self.call(request.method(), request).await
    }

    /// Waits for the answer to a request on the node's socket: as long as it takes,
    /// since some methods wait for what may never come, but not for a process that a
    /// signal has stopped.
    ///
    /// # Errors
    /// [`Error::TimedOut`] that says so, after [`PATIENCE`].
    pub async fn unless_stopped<T>(
        &self,
        method: &str,
        answer: impl Future<Output = T>,
    ) -> Result<T> {
        let started = Instant::now();
        let mut answer = pin!(answer);
        loop {
            match tokio::time::timeout(scaled(PATIENCE), &mut answer).await {
                Ok(answer) => return Ok(answer),
                Err(_) => self.check_not_stopped(method, started)?,
            }
        }
    }

    fn check_not_stopped(&self, method: &str, since: Instant) -> Result<()> {
        let pid = pid_file(self);
        let stopped = pid.and_then(|pid| stopped_in_group(pid).ok());
        match stopped
            .unwrap_or_default()
            .iter()
            .find(|p| Some(p.pid) == pid)
        {
            None => Ok(()),
            Some(process) => Err(Error::TimedOut {
                what: format!("{} to answer `{method}`", self.name),
                waited: Duration::from_secs(since.elapsed().as_secs()),
                last_seen: format!(
                    "its process is stopped by a signal: `kill -CONT {}` continues it",
                    process.pid
                ),
            }),
        }
    }

    fn refused(&self, method: &str, error: cln_rpc::RpcError) -> Error {
        Error::Rpc {
            node: self.name.clone(),
            method: method.to_owned(),
            code: error.code,
            message: error.message,
            data: error.data.map(Box::new),
            help: String::new(),
        }
    }
}
