//! Starts a node's process, waits until it is ready, and stops it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::attached::Attached;
use super::guard::stopped;
use super::{Excused, Holder, Node, NodeSpec};
use crate::bitcoin::Bitcoind;
use crate::error::IoContext;
use crate::lock::lock;
use crate::process::daemon::Daemon;
use crate::process::ports::Port;
use crate::process::reaper::Reaper;
use crate::remote::description::DescribedNode;
use crate::trace::{Entry, Kind};
use crate::{Error, Follower, Implementation, Probe, Result, eventually, scaled};

/// How long a node may take until it is ready.
const START: Duration = Duration::from_secs(60);
/// How long a node may take to answer `stop`, and then to end: lightningd gives a plugin
/// that subscribes to `shutdown` 30 s.
pub(crate) const STOP: Duration = Duration::from_secs(40);
/// How long the port of a stopped node may stay taken.
const PORT: Duration = Duration::from_secs(60);
/// A unix socket's path may have this many bytes (unix(7): `sun_path`, less its
/// final zero; macOS has 103).
const SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// What all nodes of a lab share.
pub(crate) struct Surroundings<'a> {
    /// The lab's folder, in which each node gets one of its name.
    pub lab_dir: &'a Path,
    pub bitcoind: &'a Arc<Bitcoind>,
    /// What is set for every node.
    pub every: &'a NodeSpec,
    pub reaper: &'a Arc<Reaper>,
}

impl Node {
    /// Makes a new node, which is down: its folder, its port, its configuration.
    pub(crate) fn create(
        spec: NodeSpec,
        (program, implementation): (PathBuf, Implementation),
        around: &Surroundings<'_>,
    ) -> Result<Node> {
        let name = spec.name.clone().unwrap_or_default();
        let dir = around.lab_dir.join(&name);
        std::fs::create_dir_all(&dir).doing("create folder", &dir)?;
        let excused = Arc::new(Excused::new(spec.allowed.clone(), &implementation));
        let node = Node {
            name,
            program,
            implementation,
            dir,
            port: Port::lease()?,
            id: OnceLock::new(),
            log_since_start: std::sync::Mutex::default(),
            daemon: Arc::new(Mutex::new(None)),
            bitcoind: Arc::clone(around.bitcoind),
            holder: Holder::Us(Arc::clone(around.reaper)),
            excused,
            every: around.every.clone(),
            spec: spec.into(),
        };
        node.write_config()?;
        let socket = node.rpc_path();
        if socket.as_os_str().len() > SOCKET_PATH {
            return Err(Error::usage(format!(
                "{} has {} bytes, but a unix socket's path has at most {SOCKET_PATH}: set TMPDIR to a shorter folder",
                socket.display(),
                socket.as_os_str().len()
            )));
        }
        Ok(node)
    }

    /// The handle of a node that another process holds.
    pub(crate) fn attached(
        node: &DescribedNode,
        attached: Attached,
        bitcoind: &Arc<Bitcoind>,
    ) -> Node {
        Node {
            name: node.name.clone(),
            program: node.program.clone(),
            implementation: node.implementation.clone(),
            dir: node.dir.clone(),
            port: Port::leased_elsewhere(node.port),
            id: if node.id.is_empty() {
                OnceLock::new()
            } else {
                OnceLock::from(node.id.clone())
            },
            log_since_start: std::sync::Mutex::default(),
            every: NodeSpec::new(),
            spec: std::sync::Mutex::default(),
            daemon: Arc::new(Mutex::new(None)),
            bitcoind: Arc::clone(bitcoind),
            holder: Holder::Other(attached),
            excused: Arc::default(),
        }
    }

    /// The command that starts it, as a person would type it.
    pub fn start_command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--lightning-dir={}", self.dir.display()));
        let spec = self.spec();
        command.args(spec.arguments).envs(spec.env);
        command
    }

    /// Starts its process, without waiting for it: see [`Node::ready`].
    pub(crate) async fn spawn(&self) -> Result<()> {
        let Holder::Us(reaper) = &self.holder else {
            return Err(Error::not_ours(&self.name));
        };
        let mut slot = self.daemon.lock().await;
        if slot
            .as_mut()
            .is_some_and(|daemon| daemon.status().is_none())
        {
            return Err(Error::usage(format!("{} is running already", self.name)));
        }
        *lock(&self.log_since_start) = Some(Follower::from_now(self.log_path()));
        let daemon = Daemon::spawn(
            &self.name,
            self.start_command(),
            &self.dir.join("output"),
            Some(&self.log_path()),
            reaper,
            self.trace(),
            &self.implementation.to_string(),
        )?;
        *slot = Some(daemon);
        Ok(())
    }

    /// Waits until this node answers (and no other in its place), has reached block
    /// `height`, its plugins are active and its port is open.
    pub(crate) async fn ready(&self, height: u64) -> Result<()> {
        let since = Instant::now();
        eventually(format!("{} to be ready", self.name), START, async || {
            self.check_alive().await?;
            self.check_plugins().await?;
            match self.not_ready_because(height).await {
                Ok(None) => Ok(Probe::Ready(())),
                Ok(Some(reason)) => Ok(Probe::NotYet(reason)),
                Err(error) => Ok(Probe::NotYet(error.to_string())),
            }
        })
        .await?;
        let mut ready = Entry::new(Kind::Ready, self.name())
            .to("lab")
            .text(self.id());
        ready.ms = Some(since.elapsed().as_micros() as f64 / 1000.0);
        self.trace().append(ready);
        Ok(())
    }

    /// An error if a plugin that the node starts with has ended: lightningd continues
    /// without it, and no longer lists it.
    async fn check_plugins(&self) -> Result<()> {
        let plugins = self.spec().plugins;
        if plugins.is_empty() || !self.rpc_path().exists() {
            return Ok(());
        }
        // A node that does not answer yet has not lost a plugin.
        let Ok(listed) = self.plugin_list().await else {
            return Ok(());
        };
        for plugin in &plugins {
            let path = plugin.executable();
            let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            if listed.iter().any(|status| Path::new(&status.name) == path) {
                continue;
            }
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let mut why = "it ended before it was up; from the node's log:".to_owned();
            for line in self.log().lines_with(&file)? {
                why.push_str("\n    ");
                why.push_str(&line);
            }
            for line in self.advice_at_start(&path)?.lines() {
                why.push_str("\n  ");
                why.push_str(line);
            }
            return Err(Error::Answer {
                from: format!("{}: plugin {}", self.name, path.display()),
                why,
            });
        }
        Ok(())
    }

    /// Why it is not ready; `None` if it is.
    async fn not_ready_because(&self, height: u64) -> Result<Option<String>> {
        if !self.rpc_path().exists() {
            return Ok(Some("no RPC socket yet".to_owned()));
        }
        let info: Value = self.call("getinfo", json!({})).await?;
        // Another node's answer would be a bug of the lab: two nodes in one place.
        let dir = info["lightning-dir"].as_str().map(Path::new);
        if dir != Some(self.network_dir().as_path()) {
            return Ok(Some(format!("a node that runs in {dir:?} answers")));
        }
        let Some(id) = info["id"].as_str() else {
            return Ok(Some("getinfo has no id".to_owned()));
        };
        for warning in ["warning_bitcoind_sync", "warning_lightningd_sync"] {
            if let Some(text) = info[warning].as_str() {
                return Ok(Some(text.to_owned()));
            }
        }
        let reached = info["blockheight"].as_u64().unwrap_or(0);
        if reached < height {
            return Ok(Some(format!("at block {reached} of {height}")));
        }
        for plugin in &self.spec().plugins {
            if !self.plugin_active(plugin.executable()).await? {
                return Ok(Some(format!(
                    "plugin {} is not active",
                    plugin.executable().display()
                )));
            }
        }
        // getinfo answers a moment before peers are listened for; a node that is
        // `offline` never listens.
        let listens = info["binding"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        if listens && let Err(error) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).await
        {
            return Ok(Some(format!("port {}: {error}", self.port())));
        }
        // Both answer a moment before lightningd has finished its start, and a `plugin
        // start` in between can hang. The log has this line at the end of it.
        let mut log = lock(&self.log_since_start);
        if self.log_path().exists()
            && let Some(follower) = log.as_mut()
        {
            let started = |line: &String| line.contains("Server started with public key");
            if !follower.lines()?.iter().any(started) {
                return Ok(Some(
                    "its log does not say that the server started".to_owned(),
                ));
            }
            *log = None;
        }
        let known = self.id.get_or_init(|| id.to_owned());
        if known != id {
            return Err(Error::Answer {
                from: format!("{}: getinfo", self.name),
                why: format!("its id was {known}, now it is {id}"),
            });
        }
        Ok(None)
    }

    /// An error, with the end of its log, if its process has ended.
    pub async fn check_alive(&self) -> Result<()> {
        if let Holder::Other(attached) = &self.holder {
            return attached.check_alive(self);
        }
        match self.daemon.lock().await.as_mut() {
            Some(daemon) => daemon.check_alive(),
            None => Err(self.not_running()),
        }
    }

    /// True if it was stopped or killed through its handle, and so should be down.
    pub async fn is_stopped(&self) -> bool {
        match &self.holder {
            Holder::Us(_) => self.daemon.lock().await.is_none(),
            Holder::Other(attached) => attached.is_stopped(self),
        }
    }

    /// Its process id; `None` if it is down.
    pub async fn pid(&self) -> Option<u32> {
        if let Holder::Other(attached) = &self.holder {
            return attached.pid(self);
        }
        let mut slot = self.daemon.lock().await;
        let daemon = slot.as_mut()?;
        daemon.status().is_none().then(|| daemon.pid())
    }

    /// Starts it again after [`Node::stop`] and waits until it is ready. Plugins from
    /// [`Node::plugin_start`] ended with the process and are not started again.
    ///
    /// # Errors
    /// If it is running already, is not ready in time, or ends instead.
    pub async fn start(&self) -> Result<()> {
        if let Holder::Other(attached) = &self.holder {
            return attached.start(self).await;
        }
        if self.pid().await.is_some() {
            return Err(Error::usage(format!("{} is running already", self.name)));
        }
        // A process of the stopped node that is still ending can hold its port.
        eventually(
            format!("port {} of {} to be free", self.port(), self.name),
            PORT,
            async || {
                Ok(
                    match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port())) {
                        Ok(_) => Probe::Ready(()),
                        Err(error) => Probe::NotYet(error.to_string()),
                    },
                )
            },
        )
        .await?;
        self.spawn().await?;
        // Until it has seen its chain again it answers with 0.
        self.ready(1).await
    }

    /// Stops it with the `stop` method, so that plugins receive `shutdown`, and waits
    /// until none of its processes is left; its exit status.
    ///
    /// # Errors
    /// If it is not running, or cannot be ended; [`Error::TimedOut`] if it does not
    /// answer and was killed.
    pub async fn stop(&self) -> Result<ExitStatus> {
        if let Holder::Other(attached) = &self.holder {
            return attached.stop(self).await;
        }
        let Some(daemon) = self.daemon.lock().await.take() else {
            return Err(self.not_running());
        };
        match self.call_stop().await {
            Ok(()) => daemon.finish(STOP).await,
            Err(Error::TimedOut { what, waited, .. }) => {
                let stopped = stopped(&self.name, daemon.pid());
                let status = daemon.kill().await?;
                Err(Error::TimedOut {
                    what,
                    waited,
                    last_seen: format!("no answer; then it was killed: {status}{stopped}"),
                })
            }
            Err(error) => {
                tracing::warn!(%error, "{} refused `stop`", self.name);
                daemon.finish(Duration::ZERO).await
            }
        }
    }

    /// Calls the `stop` method, which lightningd answers when it has shut down its
    /// plugins.
    ///
    /// # Errors
    /// The node's; [`Error::TimedOut`] if it does not answer.
    pub(crate) async fn call_stop(&self) -> Result<()> {
        match tokio::time::timeout(scaled(STOP), self.call::<Value>("stop", json!({}))).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Error::TimedOut {
                what: format!("{} to answer `stop`", self.name),
                waited: scaled(STOP),
                last_seen: "no answer".to_owned(),
            }),
        }
    }

    /// Waits until its process ends by itself, or by a signal, for at most `within`; its
    /// exit status. It counts as stopped then.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it still runs.
    pub async fn ended(&self, within: Duration) -> Result<ExitStatus> {
        if let Holder::Other(attached) = &self.holder {
            return attached.ended(self, within).await;
        }
        eventually(format!("{} to end", self.name), within, async || {
            let mut slot = self.daemon.lock().await;
            let daemon = slot.as_mut().ok_or_else(|| self.not_running())?;
            Ok(match daemon.status() {
                Some(_) => Probe::Ready(()),
                None => Probe::NotYet(format!("process {} runs", daemon.pid())),
            })
        })
        .await?;
        let daemon = self.daemon.lock().await.take();
        let daemon = daemon.ok_or_else(|| self.not_running())?;
        daemon.finish(Duration::ZERO).await
    }

    fn not_running(&self) -> Error {
        Error::usage(format!("{} is not running", self.name))
    }

    /// Stops it and starts it again.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Kills it and everything it started with SIGKILL, as a power cut would.
    pub async fn kill9(&self) -> Result<ExitStatus> {
        if let Holder::Other(attached) = &self.holder {
            return attached.kill9(self).await;
        }
        match self.daemon.lock().await.take() {
            Some(daemon) => daemon.kill().await,
            None => Err(self.not_running()),
        }
    }
}
