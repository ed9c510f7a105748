//! What a node's log reports that went wrong.

use std::sync::Arc;

use super::{Excused, Node};
use crate::{Follower, Result};

/// An entry of a node's log that fails a test unless it was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// lightningd, or a plugin, logged at its worst level.
    Broken(String),
    /// A plugin ended, or was killed for what it sent, though nobody asked for it.
    PluginDied { plugin: String, line: String },
}

impl Trouble {
    /// The trouble in a line, `DATE LEVEL SOURCE: MESSAGE`, if it reports any.
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

/// A node's log, followed for trouble that is not excused.
#[derive(Debug)]
pub(crate) struct Watch {
    log: Follower,
    excused: Arc<Excused>,
}

impl Watch {
    /// Trouble in the lines that were written since the last look.
    pub fn look(&mut self) -> Result<Vec<Trouble>> {
        let lines = self.log.lines()?;
        Ok(lines
            .iter()
            .filter_map(|line| Trouble::of(line))
            .filter(|trouble| !self.excused.excuses(trouble))
            .collect())
    }
}

impl Node {
    /// What may go wrong on it.
    pub(crate) fn excused(&self) -> &Arc<Excused> {
        &self.excused
    }

    /// Its log's troubles from now on.
    pub(crate) fn watch(&self) -> Watch {
        self.watch_log(Follower::from_now(self.log_path()))
    }

    /// All trouble in its log that is not excused.
    pub(crate) fn troubles(&self) -> Result<Vec<Trouble>> {
        self.watch_log(Follower::new(self.log_path())).look()
    }

    fn watch_log(&self, log: Follower) -> Watch {
        Watch {
            log,
            excused: Arc::clone(&self.excused),
        }
    }

    /// Excuses what the log reports since `watch` of the end of the plugin of this
    /// file name: it was refused, or stopped on request.
    pub(crate) fn excuse_end(&self, name: &str, mut watch: Watch) {
        let deaths = watch.look().unwrap_or_default().into_iter();
        self.excused
            .add_requested(deaths.filter_map(|trouble| match trouble {
                Trouble::PluginDied { plugin, line } if plugin == name => Some(line),
                _ => None,
            }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unrequested_end_of_a_plugin_is_trouble() {
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
}
