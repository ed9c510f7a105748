//! The plugin host: lightningd's whole plugin protocol, for what the embedded
//! node has.
//!
//! # Layout
//! - [`manifest`]: what a plugin says it has and wants.
//! - [`process`]: one plugin's process and its pipes.
//! - [`fingerprint`]: whether its file has changed.
//! - [`incoming`]: what plugins say.
//! - [`files`]: which files are to run.
//! - [`lifecycle`]: start, restart, stop, death, shutdown.
//! - [`settings`]: the values of plugins' options.
//! - [`hooks`]: asking plugins before something happens.
//! - this file: which plugins there are, and telling them things.

pub mod files;
pub mod fingerprint;
pub mod hooks;
pub mod incoming;
pub mod lifecycle;
pub mod manifest;
pub mod process;
pub mod settings;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use self::process::Plugin;
use self::settings::Settings;
use super::config::Config;
use super::log::{Entry, Level};
use cln_topics::Topic;

/// The plugins of one node, in the order of their start.
pub struct Plugins {
    list: Mutex<Vec<Arc<Plugin>>>,
    /// Names and paths that must not run.
    pub disabled: Mutex<Vec<String>>,
    /// `<lightning-dir>/plugins`: what is in it runs.
    pub default_dir: PathBuf,
    /// Values of plugins' options.
    pub settings: Mutex<Settings>,
    startup: AtomicBool,
    shutting_down: AtomicBool,
    ids: AtomicU64,
}

impl Plugins {
    /// None yet.
    pub fn new(config: &Config) -> Self {
        Self {
            list: Mutex::default(),
            disabled: Mutex::default(),
            default_dir: config.base_dir.join("plugins"),
            settings: Mutex::default(),
            startup: AtomicBool::new(true),
            shutting_down: AtomicBool::new(false),
            ids: AtomicU64::new(0),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Plugin>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values of plugins' options.
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them, those on their way up included.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.list().clone()
    }

    /// Adds one that was started.
    pub fn add(&self, plugin: Arc<Plugin>) {
        self.list().push(plugin);
    }

    /// Takes one away.
    pub fn remove(&self, plugin: &Arc<Plugin>) {
        self.list().retain(|p| !Arc::ptr_eq(p, plugin));
    }

    /// The one whose file this is (canonical).
    pub fn with_path(&self, path: &Path) -> Option<Arc<Plugin>> {
        self.list().iter().find(|p| p.path == path).cloned()
    }

    /// The one that is named, by path or by file name.
    pub fn named(&self, name: &str) -> Option<Arc<Plugin>> {
        self.list()
            .iter()
            .find(|p| is_named(&p.path, name))
            .cloned()
    }

    /// The one that has this RPC method.
    pub fn with_method(&self, method: &str) -> Option<Arc<Plugin>> {
        let has = |p: &Arc<Plugin>| {
            p.manifest()
                .is_some_and(|m| m.methods.iter().any(|m| m.name == method))
        };
        self.list().iter().find(|p| has(p)).cloned()
    }

    /// Whether any running plugin wants this hook.
    pub fn has_hook(&self, hook: &str) -> bool {
        let has = |p: &Arc<Plugin>| {
            p.manifest()
                .is_some_and(|m| m.hooks.iter().any(|h| h.name == hook))
        };
        self.list().iter().any(|p| has(p) && p.running())
    }

    /// Whether anybody may send this topic.
    pub fn knows_topic(&self, topic: &str) -> bool {
        // Those of the plugins that come with lightningd are known there, so there is
        // nothing to warn of here, though nobody sends them.
        Topic::find(topic).is_some()
            || self.list().iter().any(|p| {
                p.manifest()
                    .is_some_and(|m| m.topics.iter().any(|t| t == topic))
            })
    }

    /// Whether this file was named by `disable-plugin`.
    pub fn is_disabled(&self, path: &Path) -> bool {
        let disabled = self.disabled.lock().unwrap_or_else(PoisonError::into_inner);
        disabled.iter().any(|name| is_named(path, name))
    }

    /// Whether the node is still on its way up.
    pub fn startup(&self) -> bool {
        self.startup.load(Ordering::Relaxed)
    }

    /// The node is up.
    pub fn end_startup(&self) {
        self.startup.store(false, Ordering::Relaxed);
    }

    /// Whether the node is on its way out.
    pub fn shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    /// The node is on its way out.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// A new id for a request to a plugin, in lightningd's form:
    /// `<caller's id>/cln:<method>#<n>`.
    pub fn next_id(&self, method: &str, caller: Option<&str>) -> String {
        let n = self.ids.fetch_add(1, Ordering::Relaxed);
        match caller {
            None => format!("cln:{method}#{n}"),
            Some(caller) => {
                let caller = caller
                    .strip_prefix('"')
                    .and_then(|c| c.strip_suffix('"'))
                    .unwrap_or(caller);
                let plain = !caller
                    .bytes()
                    .any(|b| b < b' ' || b == b'"' || b == b'\\' || b == 0x7f);
                let caller = if plain { caller } else { "weird-id" };
                format!("{caller}/cln:{method}#{n}")
            }
        }
    }

    /// Sends `line` to each running plugin that wants `topic`.
    pub fn notify(&self, topic: &str, line: Vec<u8>) {
        let line: Arc<[u8]> = line.into();
        for plugin in self.list().iter().filter(|p| p.running()) {
            for _ in 0..plugin.subscriptions(topic) {
                plugin.send(line.clone());
            }
        }
    }

    /// Tells of something the node itself has to tell: `params` holds `body`
    /// under the topic's name.
    pub fn notify_native(&self, topic: &str, body: Value) {
        self.notify(topic, native_line(topic, body));
    }

    /// Tells of a line of the log: `log` if it was written, and `warning` if it
    /// matters that much.
    pub fn notify_log(&self, entry: &Entry<'_>) {
        let anyone = |topic: &str| self.list().iter().any(|p| p.subscriptions(topic) > 0);
        if entry.written && anyone("log") {
            self.notify_native("log", entry.to_json(entry.level.name()));
        }
        let warning = match entry.level {
            Level::Unusual => "warn",
            Level::Broken => "error",
            _ => return,
        };
        if anyone("warning") {
            self.notify_native("warning", entry.to_json(warning));
        }
    }
}

/// One notification of lightningd's own, as it is on the wire.
pub fn native_line(topic: &str, body: Value) -> Vec<u8> {
    let message = json!({ "jsonrpc": "2.0", "method": topic, "params": { topic: body } });
    format!("{message}\n\n").into_bytes()
}

/// lightningd's ways to name a plugin: a path, or the file name alone.
fn is_named(path: &Path, name: &str) -> bool {
    if name.contains('/') {
        Path::new(name) == path || Path::new(name).canonicalize().is_ok_and(|n| n == path)
    } else {
        path.file_name().is_some_and(|file| file == name)
    }
}
