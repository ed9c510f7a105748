//! The processes of a node: its own, its daemons', its plugins'.

use std::process::Stdio;

use super::Node;
use crate::error::IoContext;
use crate::{Error, Result};

/// A running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

impl Node {
    /// All processes of the node's process group, as ps(1) lists them: lightningd,
    /// its own daemons, its plugins. Empty if it is down.
    pub async fn processes(&self) -> Result<Vec<Process>> {
        let Some(group) = self.pid().await else {
            return Ok(Vec::new());
        };
        let output = tokio::process::Command::new("ps")
            .args(["-A", "-o", "pid=", "-o", "pgid=", "-o", "args="])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .doing("run", "ps")?;
        let listing = String::from_utf8_lossy(&output.stdout);
        Ok(listing
            .lines()
            .filter_map(|line| in_group(line, group))
            .collect())
    }

    /// The process among them whose command line has `text` in it.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub async fn process_with(&self, text: &str) -> Result<Process> {
        let mut found = self.processes().await?;
        found.retain(|process| process.command.contains(text));
        match (found.pop(), found.is_empty()) {
            (Some(process), true) => Ok(process),
            (process, _) => Err(Error::Answer {
                from: format!("the processes of {}", self.name()),
                why: match process {
                    None => format!("none has `{text}` in its command line"),
                    Some(_) => format!("{} have `{text}` in their command line", found.len() + 1),
                },
            }),
        }
    }
}

/// `PID PGID ARGS…`, if it is of this group.
fn in_group(line: &str, group: u32) -> Option<Process> {
    let (pid, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let (pgid, command) = rest.trim_start().split_once(char::is_whitespace)?;
    (pgid.parse() == Ok(group)).then_some(())?;
    Some(Process {
        pid: pid.parse().ok()?,
        command: command.trim_start().to_owned(),
    })
}
