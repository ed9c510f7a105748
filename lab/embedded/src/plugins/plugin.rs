//! A plugin that was started: the stage it is in, the requests it has to answer,
//! its death.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::fingerprint::Fingerprint;
use super::manifest::Manifest;
use crate::lock::lock;

/// How far a plugin has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It was sent `getmanifest`.
    Manifest,
    /// It has answered that.
    NeedsInit,
    /// It was sent `init`.
    Init,
    Running,
}

impl Stage {
    /// For messages about the end of a plugin, in lightningd's words.
    pub fn words(self) -> &'static str {
        match self {
            Stage::Manifest => "before replying to getmanifest",
            Stage::NeedsInit => "before we sent init",
            Stage::Init => "before replying to init",
            Stage::Running => "during normal operation",
        }
    }
}

/// The plugin ended before it answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminated;

/// The whole answer as the plugin wrote it.
pub type Answer = Result<Vec<u8>, Terminated>;

/// Where `message` and `progress` notifications about a request go: the
/// client's connection, and the request's id there.
#[derive(Debug, Clone)]
pub struct Progress {
    pub to: mpsc::UnboundedSender<Vec<u8>>,
    /// As JSON.
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
    /// Lines to its stdin; `None` once that is to be closed.
    stdin: Option<mpsc::UnboundedSender<Arc<[u8]>>>,
    /// `None` once the process is reaped.
    pid: Option<Pid>,
}

pub struct Plugin {
    /// Canonical.
    pub path: PathBuf,
    /// The file name.
    pub name: String,
    /// Of the file as it was started; a changed file is restarted.
    pub file: Fingerprint,
    /// Whether its death ends the node.
    pub important: AtomicBool,
    inner: Mutex<Inner>,
    /// The reason, once it was ended.
    dead: watch::Sender<Option<String>>,
    /// Whether the process has exited.
    reaped: watch::Sender<bool>,
}

impl Plugin {
    pub fn new(
        path: &Path,
        file: Fingerprint,
        important: bool,
        pid: Option<Pid>,
        stdin: mpsc::UnboundedSender<Arc<[u8]>>,
    ) -> Self {
        let name = path.file_name().unwrap_or_default();
        Self {
            path: path.to_owned(),
            name: name.to_string_lossy().into_owned(),
            file,
            important: AtomicBool::new(important),
            inner: Mutex::new(Inner {
                stage: Stage::Manifest,
                manifest: None,
                pending: HashMap::new(),
                stdin: Some(stdin),
                pid,
            }),
            dead: watch::Sender::new(None),
            reaped: watch::Sender::new(false),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// The source of its lines in the log.
    pub fn source(&self) -> String {
        format!("plugin-{}", self.name)
    }

    pub fn stage(&self) -> Stage {
        self.inner().stage
    }

    pub fn set_stage(&self, stage: Stage) {
        self.inner().stage = stage;
    }

    /// Whether it has answered `init` and has not been ended.
    pub fn running(&self) -> bool {
        self.stage() == Stage::Running && self.death().is_none()
    }

    /// `None` until it has sent one.
    pub fn manifest(&self) -> Option<Arc<Manifest>> {
        self.inner().manifest.clone()
    }

    pub fn set_manifest(&self, manifest: Manifest) -> Arc<Manifest> {
        let manifest = Arc::new(manifest);
        self.inner().manifest = Some(manifest.clone());
        manifest
    }

    /// Whether it may be started and stopped while the node runs.
    pub fn dynamic(&self) -> bool {
        self.manifest().is_some_and(|m| m.dynamic)
    }

    /// How many times it receives a notification of `topic`: once if it named it,
    /// once more if it asked for `*`, which is everything but `log`.
    pub fn subscriptions(&self, topic: &str) -> usize {
        let Some(manifest) = self.manifest() else {
            return 0;
        };
        let named = manifest.subscriptions.iter().any(|s| s == topic);
        let starred = topic != "log" && manifest.subscriptions.iter().any(|s| s == "*");
        usize::from(named) + usize::from(starred)
    }

    /// The body of `plugin_started` and `plugin_stopped`.
    pub fn about(&self) -> Value {
        let manifest = self.manifest();
        let methods: Vec<_> = manifest
            .iter()
            .flat_map(|m| m.methods.iter().map(|m| m.name.as_str()))
            .collect();
        json!({ "plugin_name": self.name, "plugin_path": self.path, "methods": methods })
    }

    /// The reason, if it was ended.
    pub fn death(&self) -> Option<String> {
        self.dead.borrow().clone()
    }

    /// Notes why it is ended; `false` if it was already. From here on it receives
    /// nothing more.
    pub fn mark_dead(&self, why: &str) -> bool {
        self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            if first {
                *dead = Some(why.to_owned());
            }
            first
        })
    }

    /// Kills the process and fails the requests it has not answered.
    pub fn destroy(&self) {
        let pending = {
            let mut inner = self.inner();
            inner.stdin = None;
            if let Some(pid) = inner.pid {
                // It may have exited on its own.
                let _ = kill(pid, Signal::SIGKILL);
            }
            std::mem::take(&mut inner.pending)
        };
        for (_, pending) in pending {
            let _ = pending.answer.send(Err(Terminated));
        }
    }

    /// Closes its input after what is queued, which ends a well-behaved plugin.
    pub fn close_stdin(&self) {
        self.inner().stdin = None;
    }

    /// Returns the reason once it was ended.
    pub async fn ended(&self) -> String {
        let mut dead = self.dead.subscribe();
        match dead.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// Notes that the process has exited.
    pub fn set_reaped(&self) {
        self.inner().pid = None;
        self.reaped.send_replace(true);
    }

    /// Returns once the process has exited.
    pub async fn gone(&self) {
        let _ = self.reaped.subscribe().wait_for(|gone| *gone).await;
    }

    /// Queues one message, which must end in a blank line.
    pub fn send(&self, message: Arc<[u8]>) {
        if let Some(stdin) = &self.inner().stdin {
            // An error: it reads no more, and its death will be noticed.
            let _ = stdin.send(message);
        }
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

    /// Delivers a response to its caller; a response nobody waits for is dropped,
    /// as in lightningd.
    pub fn answered(&self, id: &str, message: Vec<u8>) {
        let pending = self.inner().pending.remove(id);
        if let Some(pending) = pending {
            let _ = pending.answer.send(Ok(message));
        }
    }

    /// Where notifications about a request's progress go.
    pub fn progress(&self, id: &str) -> Option<Progress> {
        self.inner().pending.get(id)?.progress.clone()
    }

    pub fn is_important(&self) -> bool {
        self.important.load(Ordering::Relaxed)
    }
}
