//! The end of a wait on a node that has died.

use std::sync::{Arc, Weak};

use super::Node;
use super::trouble::{Trouble, Watch};
use crate::process::daemon::Daemon;
use crate::process::listing::{Process, stopped_in_group};
use crate::{Error, Result};

/// Watches a node while something is awaited on it.
#[derive(Debug)]
pub(crate) struct Guard {
    node: String,
    daemon: Weak<tokio::sync::Mutex<Option<Daemon>>>,
    watch: Watch,
    may_fail: bool,
    pid: Option<u32>,
}

impl Guard {
    /// An error as soon as the node, or one of its plugins, has died: what is awaited
    /// may never come then.
    pub fn check(&mut self) -> Result<()> {
        if let Some(daemon) = self.daemon.upgrade()
            && let Ok(mut daemon) = daemon.try_lock()
            && let Some(daemon) = daemon.as_mut()
        {
            self.pid = Some(daemon.pid());
            if !self.may_fail {
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

    /// Processes of the node that a signal has stopped, for an error's text.
    pub fn stopped(&self) -> String {
        self.pid
            .map_or_else(String::new, |pid| stopped(&self.node, pid))
    }
}

/// Processes in the group of a node that a signal has stopped, for an error's text: they
/// do nothing until they are continued.
pub(crate) fn stopped(node: &str, group: u32) -> String {
    let line = |process: &Process| {
        format!(
            "\n  stopped by a signal, on {node}: pid {}, {}",
            process.pid, process.command
        )
    };
    let stopped = stopped_in_group(group).unwrap_or_default();
    stopped.iter().map(line).collect()
}

impl Node {
    /// A guard from now on.
    pub(crate) fn guard(&self) -> Guard {
        Guard {
            node: self.name.clone(),
            daemon: Arc::downgrade(&self.daemon),
            watch: self.watch(),
            may_fail: self.excused.allowed().failure,
            pid: None,
        }
    }
}
