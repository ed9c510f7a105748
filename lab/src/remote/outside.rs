//! What happened to a lab's nodes from outside the lab: stopped by their RPC method,
//! started by hand with `lightningd --lightning-dir=…`.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{STOP, pid_file};
use crate::process::listing::is_alive;
use crate::{Error, Lab, Node, Probe, Result, eventually};

/// How long a node may take to end after SIGKILL.
const KILL: Duration = Duration::from_secs(10);

impl Lab {
    /// Ends nodes that were started by hand in this lab, of which [`Lab::stop`] does
    /// not know, and counts those as stopped that ended in good order though not
    /// through their handle.
    ///
    /// # Errors
    /// If one cannot be ended.
    pub async fn end_by_hand(&self) -> Result<()> {
        for node in self.nodes() {
            if let Err(Error::Died { status, .. }) = node.check_alive().await
                && status.success()
            {
                node.stop().await?;
            }
            end_stranger(node).await?;
        }
        Ok(())
    }
}

/// Ends the process that runs in the node's folder, if it is not the node's own.
async fn end_stranger(node: &Node) -> Result<()> {
    let Some(pid) = pid_file(node) else {
        return Ok(());
    };
    if node.pid().await == Some(pid) {
        return Ok(());
    }
    let ended = |within| {
        let what = format!(
            "{} (pid {pid}, which was started by hand) to end",
            node.name()
        );
        eventually(what, within, async || {
            Ok(if is_alive(pid) {
                Probe::NotYet("still running".to_owned())
            } else {
                Probe::Ready(())
            })
        })
    };
    if node.call_stop().await.is_ok() && ended(STOP).await.is_ok() {
        return Ok(());
    }
    let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    ended(KILL).await
}
