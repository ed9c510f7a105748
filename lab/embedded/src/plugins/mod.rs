//! The plugin host: lightningd's plugin protocol, with the hooks and topics of what the
//! embedded node has.
//!
//! # Layout
//! - [`files`]: which files to run. [`fingerprint`]: whether one has changed.
//! - [`manifest`]: what a plugin declares.
//! - [`settings`]: the values of plugins' options.
//! - [`plugin`]: one plugin: its stage, its open requests.
//! - [`process`]: its process and pipes. [`incoming`]: messages from it.
//! - [`start`], [`end`]: from a file to a running plugin; stop, death, shutdown.
//! - [`hooks`]: asking plugins before something happens.
//! - this file: the list of plugins, requests and notifications to them.

pub mod end;
pub mod files;
pub mod fingerprint;
pub mod hooks;
pub mod incoming;
pub mod manifest;
pub mod plugin;
pub mod process;
pub mod settings;
pub mod start;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use self::plugin::{Answer, Plugin};
use self::settings::Settings;
use crate::config::Config;
use crate::lock::lock;
use crate::log::{Entry, Level};
use cln_topics::Topic;

/// The plugins, in the order of their start.
pub struct Plugins {
    list: Mutex<Vec<Arc<Plugin>>>,
    /// Names and paths given to `disable-plugin`.
    disabled: Mutex<Vec<String>>,
    /// `<lightning-dir>/plugins`: every plugin in it runs.
    pub default_dir: PathBuf,
    settings: Mutex<Settings>,
    startup: AtomicBool,
    shutting_down: AtomicBool,
    ids: AtomicU64,
    /// Whether a method is one of the node itself, which no plugin may take.
    pub is_builtin: fn(&str) -> bool,
}

impl Plugins {
    pub fn new(config: &Config, is_builtin: fn(&str) -> bool) -> Self {
        Self {
            list: Mutex::default(),
            disabled: Mutex::default(),
            default_dir: config.base_dir.join("plugins"),
            settings: Mutex::default(),
            startup: AtomicBool::new(true),
            shutting_down: AtomicBool::new(false),
            ids: AtomicU64::new(0),
            is_builtin,
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arc<Plugin>>> {
        lock(&self.list)
    }

    /// The values of plugins' options.
    pub fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// All of them, including those that are still starting.
    pub fn all(&self) -> Vec<Arc<Plugin>> {
        self.list().clone()
    }

    pub fn add(&self, plugin: Arc<Plugin>) {
        self.list().push(plugin);
    }

    pub fn remove(&self, plugin: &Arc<Plugin>) {
        self.list().retain(|p| !Arc::ptr_eq(p, plugin));
    }

    /// The plugin with this file (canonical).
    pub fn with_path(&self, path: &Path) -> Option<Arc<Plugin>> {
        self.list().iter().find(|p| p.path == path).cloned()
    }

    /// The plugin with this path or file name.
    pub fn named(&self, name: &str) -> Option<Arc<Plugin>> {
        self.list()
            .iter()
            .find(|p| is_named(&p.path, name))
            .cloned()
    }

    /// The plugin that has this RPC method.
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

    /// Whether lightningd or a plugin may send this topic.
    pub fn knows_topic(&self, topic: &str) -> bool {
        // Includes the topics of lightningd's own plugins, which nobody sends here: a
        // plugin that subscribes to one is right with lightningd.
        Topic::find(topic).is_some()
            || self.list().iter().any(|p| {
                p.manifest()
                    .is_some_and(|m| m.topics.iter().any(|t| t == topic))
            })
    }

    /// Notes a `disable-plugin`.
    pub fn disable(&self, name: String) {
        lock(&self.disabled).push(name);
    }

    /// Whether `disable-plugin` names this file.
    pub fn is_disabled(&self, path: &Path) -> bool {
        lock(&self.disabled).iter().any(|name| is_named(path, name))
    }

    /// Whether the node is still starting.
    pub fn startup(&self) -> bool {
        self.startup.load(Ordering::Relaxed)
    }

    pub fn end_startup(&self) {
        self.startup.store(false, Ordering::Relaxed);
    }

    pub fn shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

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

    /// Sends a request from the node itself and waits for the answer. `caller` is the
    /// id of the command it serves, as JSON.
    pub async fn request(
        &self,
        plugin: &Plugin,
        method: &str,
        params: Value,
        caller: Option<&str>,
    ) -> Answer {
        let id = self.next_id(method, caller);
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        plugin
            .exchange(&id, format!("{message}\n\n").into_bytes(), None)
            .await
    }

    /// Sends `line` to each running plugin that subscribed to `topic`.
    pub fn notify(&self, topic: &str, line: Vec<u8>) {
        let line: Arc<[u8]> = line.into();
        for plugin in self.list().iter().filter(|p| p.running()) {
            for _ in 0..plugin.subscriptions(topic) {
                plugin.send(line.clone());
            }
        }
    }

    /// Sends a notification from the node itself: `params` holds `body` under the
    /// topic's name.
    pub fn notify_native(&self, topic: &str, body: Value) {
        self.notify(topic, native_line(topic, body));
    }

    /// Notifies of a line of the log: `log` if it was written, and `warning` from
    /// level unusual on.
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

/// One notification from the node itself, as it is on the wire.
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
