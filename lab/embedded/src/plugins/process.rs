//! One plugin's process: its pipes, the requests it still owes an answer, its
//! death.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};

use super::fingerprint::Fingerprint;
use super::manifest::Manifest;
use super::{incoming, lifecycle};
use crate::json::JsonStream;
use crate::log::Level;
use crate::node::Node;
use crate::options::os_error;

/// How much is read from a plugin at once, in bytes.
const READ: usize = 64 * 1024;

/// How long the pipe of a process that is gone may stay open (it passed it on
/// to a child of its own) before the plugin is taken for dead.
const PIPE_AFTER_DEATH: Duration = Duration::from_secs(1);

/// Where a plugin is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Asked for its manifest.
    Manifest,
    /// Has given it.
    NeedsInit,
    /// Was sent `init`.
    Init,
    /// Runs.
    Running,
}

impl Stage {
    /// lightningd's words for it.
    pub fn words(self) -> &'static str {
        match self {
            Stage::Manifest => "before replying to getmanifest",
            Stage::NeedsInit => "before we sent init",
            Stage::Init => "before replying to init",
            Stage::Running => "during normal operation",
        }
    }
}

/// The plugin died before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminated;

/// The whole answer as the plugin wrote it.
pub type Answer = Result<Vec<u8>, Terminated>;

/// Where `message` and `progress` notifications about a request go: the
/// connection it came from, and the id it has there.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Lines to the connection.
    pub to: mpsc::UnboundedSender<Vec<u8>>,
    /// The caller's id, as JSON.
    pub id: String,
}

struct Pending {
    answer: oneshot::Sender<Answer>,
    progress: Option<Progress>,
}

struct Inner {
    stage: Stage,
    manifest: Option<Arc<Manifest>>,
    pending: HashMap<String, Pending>,
    /// Lines to its stdin; none once it is to see the end of input.
    stdin: Option<mpsc::UnboundedSender<Arc<[u8]>>>,
    /// None once the process is reaped.
    pid: Option<Pid>,
}

/// A plugin that was started.
pub struct Plugin {
    /// Canonical.
    pub path: PathBuf,
    /// The file name.
    pub name: String,
    /// Of the file when it was started; a changed file is restarted.
    pub file: Fingerprint,
    /// Its death ends the node.
    pub important: AtomicBool,
    inner: Mutex<Inner>,
    /// Why it was ended, once it was.
    dead: watch::Sender<Option<String>>,
    /// Whether the process has gone.
    reaped: watch::Sender<bool>,
}

impl Plugin {
    /// Starts the process and the tasks that serve its pipes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(
        node: &Arc<Node>,
        path: &Path,
        file: Fingerprint,
        important: bool,
    ) -> Result<Arc<Self>, String> {
        let start = |mut command: Command| {
            command
                .env("LIGHTNINGD_PLUGIN", "1")
                .env("LIGHTNINGD_VERSION", crate::version())
                .args(node.config.developer.then_some("--developer"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let started = match start(Command::new(path)) {
            // A script without `#!` is the shell's, as `execvp` has it and so
            // lightningd.
            Err(e) if e.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
                let mut shell = Command::new("/bin/sh");
                shell.arg(path);
                start(shell)
            }
            other => other,
        };
        let mut child = started.map_err(|e| format!("opening pipe: {}", os_error(&e)))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("opening pipe".into());
        };
        let (tx, rx) = mpsc::unbounded_channel();
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        node.log.debug(
            "plugin-manager",
            format!("started({}) {}", pid.map_or(0, Pid::as_raw), path.display()),
        );
        let plugin = Arc::new(Self {
            path: path.to_owned(),
            name,
            file,
            important: AtomicBool::new(important),
            inner: Mutex::new(Inner {
                stage: Stage::Manifest,
                manifest: None,
                pending: HashMap::new(),
                stdin: Some(tx),
                pid,
            }),
            dead: watch::Sender::new(None),
            reaped: watch::Sender::new(false),
        });
        tokio::spawn(write(stdin, rx));
        let reader = tokio::spawn(read(node.clone(), plugin.clone(), stdout));
        tokio::spawn(reap(node.clone(), plugin.clone(), child, reader));
        Ok(plugin)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source of its log lines.
    pub fn source(&self) -> String {
        format!("plugin-{}", self.name)
    }

    /// Where it is in its life.
    pub fn stage(&self) -> Stage {
        self.inner().stage
    }

    /// Moves it on.
    pub fn set_stage(&self, stage: Stage) {
        self.inner().stage = stage;
    }

    /// Whether it has answered `init` and was not ended.
    pub fn running(&self) -> bool {
        self.stage() == Stage::Running && self.death().is_none()
    }

    /// Its manifest, once it has given it.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.inner().manifest.clone()
    }

    /// Notes its manifest.
    pub fn set_manifest(&self, manifest: Manifest) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        self.inner().manifest = Some(manifest.clone());
        manifest
    }

    /// Whether it may be started and stopped while the node runs.
    pub fn dynamic(&self) -> bool {
        self.manifest().is_some_and(|m| m.dynamic)
    }

    /// How many times it is to be told of `topic`: once if it named it, once
    /// more if it asked for `*`, which is everything but `log`.
    pub fn subscriptions(&self, topic: &str) -> usize {
        let Some(manifest) = self.manifest() else {
            return 0;
        };
        let named = manifest.subscriptions.iter().any(|s| s == topic);
        let starred = topic != "log" && manifest.subscriptions.iter().any(|s| s == "*");
        usize::from(named) + usize::from(starred)
    }

    /// Why it was ended, if it was.
    pub fn death(&self) -> Option<String> {
        self.dead.borrow().clone()
    }

    /// Notes why it is ended; `false` if it was already. From here on it is
    /// told nothing more.
    pub fn mark_dead(&self, why: &str) -> bool {
        self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            if first {
                *dead = Some(why.to_owned());
            }
            first
        })
    }

    /// Fails what it still owed, closes its input, kills the process.
    pub fn destroy(&self) {
        let pending = {
            let mut inner = self.inner();
            inner.stdin = None;
            if let Some(pid) = inner.pid {
                // It may have gone by itself, which is as good.
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::mem::take(&mut inner.pending)
        };
        for (_, pending) in pending {
            let _ = pending.answer.send(Err(Terminated));
        }
    }

    /// Closes its input, after what is queued: the end for a well-behaved one.
    pub fn close_stdin(&self) {
        self.inner().stdin = None;
    }

    /// Returns once it was ended; says why.
    pub async fn ended(&self) -> String {
        let mut dead = self.dead.subscribe();
        match dead.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Returns once the process is gone.
    pub async fn gone(&self) {
        let _ = self.reaped.subscribe().wait_for(|gone| *gone).await;
    }

    /// Queues one message, which must end in a blank line.
    pub fn send(&self, message: Arc<[u8]>) {
        if let Some(stdin) = &self.inner().stdin {
            // It does not read any more: its death is on its way.
            let _ = stdin.send(message);
        }
    }

    /// Sends a request of the node's own and waits for the answer. `caller` is
    /// the id of the command it serves, as JSON.
    pub async fn request(
        &self,
        node: &Node,
        method: &str,
        params: Value,
        caller: Option<&str>,
    ) -> Answer {
        let id = node.plugins.next_id(method, caller);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.exchange(&id, format!("{message}\n\n").into_bytes(), None)
            .await
    }

    /// Sends a request that is already written and waits for the answer to `id`.
    pub async fn exchange(&self, id: &str, message: Vec<u8>, progress: Option<Progress>) -> Answer {
        let (answer, rx) = oneshot::channel();
        {
            let mut inner = self.inner();
            if inner.stdin.is_none() {
                return Err(Terminated);
            }
            inner
                .pending
                .insert(id.to_owned(), Pending { answer, progress });
        }
        self.send(message.into());
        rx.await.unwrap_or(Err(Terminated))
    }

    /// Hands an answer to who waits for it; an answer to nobody is dropped, as
    /// in lightningd.
    pub fn answered(&self, id: &str, message: Vec<u8>) {
        let pending = self.inner().pending.remove(id);
        if let Some(pending) = pending {
            let _ = pending.answer.send(Ok(message));
        }
    }

    /// Where to send word of a request's progress.
    pub fn progress(&self, id: &str) -> Option<Progress> {
        self.inner().pending.get(id)?.progress.clone()
    }

    /// Whether its death is to end the node.
    pub fn is_important(&self) -> bool {
        self.important.load(Ordering::Relaxed)
    }
}

async fn write(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Arc<[u8]>>) {
    let mut batch = Vec::new();
    while lines.recv_many(&mut batch, 64).await > 0 {
        for line in batch.drain(..) {
            if stdin.write_all(&line).await.is_err() {
                return;
            }
        }
    }
}

async fn read(node: Arc<Node>, plugin: Arc<Plugin>, mut stdout: ChildStdout) {
    let mut stream = JsonStream::default();
    let mut buf = vec![0; READ];
    loop {
        let len = match stdout.read(&mut buf).await {
            Ok(0) | Err(_) => break,
            Ok(len) => len,
        };
        stream.push(&buf[..len]);
        loop {
            let wrong = match stream.next_message() {
                Ok(Some(message)) => incoming::handle(&node, &plugin, message, &stream).err(),
                Ok(None) => break,
                Err(garbage) => Some(garbage.to_string()),
            };
            if let Some(wrong) = wrong {
                lifecycle::end(&node, &plugin, Level::Unusual, &wrong);
                return;
            }
            if plugin.death().is_some() {
                return;
            }
        }
        // Who waited for one of these answers takes it before the end of the
        // output is seen: a plugin may disable itself and leave in one breath.
        tokio::task::yield_now().await;
    }
    let level = if node.plugins.shutting_down() {
        Level::Debug
    } else {
        Level::Info
    };
    let why = format!("exited {}", plugin.stage().words());
    lifecycle::end(&node, &plugin, level, &why);
}

async fn reap(
    node: Arc<Node>,
    plugin: Arc<Plugin>,
    mut child: Child,
    reader: tokio::task::JoinHandle<()>,
) {
    let _ = child.wait().await;
    plugin.inner().pid = None;
    plugin.reaped.send_replace(true);
    if tokio::time::timeout(PIPE_AFTER_DEATH, reader)
        .await
        .is_err()
    {
        let why = format!("exited {}", plugin.stage().words());
        lifecycle::end(&node, &plugin, Level::Info, &why);
    }
}
