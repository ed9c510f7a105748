//! What a node's log tells of things that went wrong, and what was allowed to.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Node;
use crate::error::IoContext;
use crate::process::daemon::Daemon;
use crate::{Error, Result};

/// What a test has said may go wrong on a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// Text in a BROKEN line.
    pub broken: Vec<String>,
    /// Names of plugins that may die.
    pub plugin_deaths: Vec<String>,
    /// The daemon itself may die, or end with an error.
    pub failure: bool,
}

impl Allowed {
    /// What either allows.
    pub fn and(mut self, other: &Allowed) -> Allowed {
        self.broken.extend_from_slice(&other.broken);
        self.plugin_deaths.extend_from_slice(&other.plugin_deaths);
        self.failure |= other.failure;
        self
    }
}

/// Something a log tells of that no test should meet unawares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// lightningd, or a plugin, logged at its worst level.
    Broken(String),
    /// A plugin ended, or was ended for what it said, though nobody asked for it.
    PluginDied { plugin: String, line: String },
}

impl Trouble {
    /// What a line tells. `DATE LEVEL SOURCE: MESSAGE`.
    fn of(line: &str) -> Option<Trouble> {
        if line.contains(" **BROKEN** ") {
            return Some(Trouble::Broken(line.to_owned()));
        }
        let (before, why) = line.split_once(": Killing plugin: ")?;
        let plugin = before.rsplit_once("plugin-")?.1;
        // Asked for, or the plugin never ran; at debug level, lightningd is ending.
        let asked_for = [
            "stopped by lightningd via RPC",
            "Plugin changed, needs restart.",
            "disabled itself",
            "Not a dynamic plugin",
            "exited before",
            "timed out before",
        ];
        if before.contains(" DEBUG ") || asked_for.iter().any(|start| why.starts_with(start)) {
            return None;
        }
        Some(Trouble::PluginDied {
            plugin: plugin.to_owned(),
            line: line.to_owned(),
        })
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Broken(line) => write!(f, "a BROKEN line: {line}"),
            Trouble::PluginDied { plugin, line } => write!(f, "plugin {plugin} died: {line}"),
        }
    }
}

/// A node's log, read as it grows, for trouble that was not allowed.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
    excused: Arc<Excused>,
}

/// What is not to count as trouble on a node: what was allowed beforehand, and
/// what the lab itself brought about.
#[derive(Debug, Default)]
pub(crate) struct Excused {
    allowed: Allowed,
    /// Lines on plugins that ended because they were told to, or were refused.
    told: Mutex<Vec<String>>,
    /// The lab's own taps and inline plugins: theirs is the test's own end.
    ours: Mutex<Vec<String>>,
}

impl Excused {
    pub fn new(allowed: Allowed) -> Excused {
        Excused {
            allowed,
            ..Excused::default()
        }
    }

    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// What the log has on a plugin that was told to end, or was refused.
    fn told(&self, lines: impl Iterator<Item = String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(lines);
    }

    /// A plugin of the lab's own is about to be started.
    pub fn ours(&self, name: &str) {
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        ours.push(name.to_owned());
    }

    fn excuses(&self, trouble: &Trouble) -> bool {
        match trouble {
            // A crash is told at the worst level.
            Trouble::Broken(_) if self.allowed.failure => true,
            Trouble::Broken(line) => self.allowed.broken.iter().any(|text| line.contains(text)),
            Trouble::PluginDied { plugin, line } => {
                let allowed = self.allowed.plugin_deaths.iter();
                let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
                let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                allowed
                    .chain(ours.iter())
                    .any(|name| name == plugin || name == "*")
                    || told.contains(line)
            }
        }
    }
}

impl Watch {
    /// Reads the log from `offset` on.
    pub fn new(path: &Path, offset: u64, excused: &Arc<Excused>) -> Watch {
        Watch {
            path: path.to_owned(),
            offset,
            partial: Vec::new(),
            excused: Arc::clone(excused),
        }
    }

    /// Trouble in the lines that were written since the last look.
    pub fn look(&mut self) -> Result<Vec<Trouble>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).doing("open", &self.path),
        };
        file.seek(SeekFrom::Start(self.offset))
            .doing("read", &self.path)?;
        let read = file.read_to_end(&mut self.partial);
        self.offset += read.doing("read", &self.path)? as u64;
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.partial.split_off(end + 1);
        let lines = std::mem::replace(&mut self.partial, rest);
        Ok(String::from_utf8_lossy(&lines)
            .lines()
            .filter_map(Trouble::of)
            .filter(|trouble| !self.excused.excuses(trouble))
            .collect())
    }
}

/// Watches over a node for those who wait for something on it.
#[derive(Debug)]
pub(crate) struct Guard {
    node: String,
    daemon: Weak<tokio::sync::Mutex<Option<Daemon>>>,
    watch: Watch,
    pid: Option<u32>,
}

impl Guard {
    /// An error as soon as the node, or a plugin of it, has died: what is awaited
    /// may never come then.
    pub fn check(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.upgrade()
            && let Ok(mut daemon) = daemon.try_lock()
            && let Some(daemon) = daemon.as_mut()
        {
            self.pid = Some(daemon.pid());
            if !self.watch.excused.allowed.failure {
                daemon.check_alive()?;
            }
        }
        for trouble in self.watch.look()? {
            if let Trouble::PluginDied { plugin, line } = trouble {
                return Err(Error::PluginDied {
                    plugin,
                    node: self.node.clone(),
                    line,
                });
            }
        }
        Ok(())
    }

    /// Processes of the node that are stopped: they will say nothing until they
    /// are told to go on.
    pub fn hanging(&self) -> String {
        let Some(pid) = self.pid else {
            return String::new();
        };
        let ps = std::process::Command::new("ps")
            .args([
                "-A", "-o", "pgid=", "-o", "pid=", "-o", "stat=", "-o", "args=",
            ])
            .stdin(std::process::Stdio::null())
            .output();
        let listing = ps.map(|ps| ps.stdout).unwrap_or_default();
        let mut text = String::new();
        for line in String::from_utf8_lossy(&listing).lines() {
            let mut words = line.split_whitespace();
            if words.next().and_then(|group| group.parse().ok()) != Some(pid) {
                continue;
            }
            let (Some(pid), Some(state)) = (words.next(), words.next()) else {
                continue;
            };
            if state.starts_with(['T', 't']) {
                let command: Vec<&str> = words.collect();
                text.push_str(&format!(
                    "\n  stopped by a signal, on {}: pid {pid}, {}",
                    self.node,
                    command.join(" ")
                ));
            }
        }
        text
    }
}

impl Node {
    /// What may go wrong on it.
    pub(crate) fn excused(&self) -> &Arc<Excused> {
        &self.excused
    }

    /// Its log's troubles from now on.
    pub(crate) fn watch(&self) -> Watch {
        let log = self.log_path();
        let length = log.metadata().map_or(0, |metadata| metadata.len());
        Watch::new(&log, length, &self.excused)
    }

    /// A plugin of this file name was refused, or stopped, since `watch` began:
    /// what the log has on it was asked for.
    pub(crate) fn excuse_ended(&self, name: &str, mut watch: Watch) {
        let deaths = watch.look().unwrap_or_default().into_iter();
        self.excused
            .told(deaths.filter_map(|trouble| match trouble {
                Trouble::PluginDied { plugin, line } if plugin == name => Some(line),
                _ => None,
            }));
    }

    /// A guard from now on.
    pub(crate) fn guard(&self) -> Guard {
        Guard {
            node: self.name.clone(),
            daemon: Arc::downgrade(&self.daemon),
            watch: self.watch(),
            pid: None,
        }
    }

    /// All trouble in its log that was not allowed.
    pub(crate) fn troubles(&self) -> Result<Vec<Trouble>> {
        Watch::new(&self.log_path(), 0, &self.excused).look()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_trouble() {
        for line in [
            "2026-01-01T00:00:00.000Z INFO    plugin-x.py: Killing plugin: exited during normal operation",
            "2026-01-01T00:00:00.000Z UNUSUAL plugin-x.py: Killing plugin: Failed to parse RPC JSON response '}'",
        ] {
            let trouble = Trouble::of(line).expect(line);
            assert!(matches!(trouble, Trouble::PluginDied { ref plugin, .. } if plugin == "x.py"));
        }
        let broken = "2026-01-01T00:00:00.000Z **BROKEN** plugin-x.py: Traceback";
        assert!(matches!(Trouble::of(broken), Some(Trouble::Broken(_))));
        for line in [
            "2026-01-01T00:00:00.000Z INFO    plugin-x: Killing plugin: stopped by lightningd via RPC",
            "2026-01-01T00:00:00.000Z DEBUG   plugin-x: Killing plugin: exited during normal operation",
            "2026-01-01T00:00:00.000Z INFO    plugin-x: Killing plugin: exited before replying to init",
            "2026-01-01T00:00:00.000Z INFO    plugin-x: hello",
            "",
        ] {
            assert_eq!(Trouble::of(line), None, "{line}");
        }
    }

    #[test]
    fn what_was_allowed_is_excused() {
        let excused = Excused::new(Allowed {
            broken: vec!["Traceback".to_owned()],
            plugin_deaths: vec!["x".to_owned()],
            failure: false,
        });
        let died = |plugin: &str, why: &str| Trouble::PluginDied {
            plugin: plugin.to_owned(),
            line: format!("plugin-{plugin}: Killing plugin: {why}"),
        };
        assert!(excused.excuses(&Trouble::Broken("a Traceback".to_owned())));
        assert!(!excused.excuses(&Trouble::Broken("else".to_owned())));
        assert!(excused.excuses(&died("x", "why")));
        assert!(!excused.excuses(&died("y", "Failed to parse")));
        excused.told(["plugin-y: Killing plugin: Failed to parse".to_owned()].into_iter());
        assert!(excused.excuses(&died("y", "Failed to parse")));
        assert!(!excused.excuses(&died("y", "exited")));
    }
}
