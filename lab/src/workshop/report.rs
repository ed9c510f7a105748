//! What the walkthrough found, for people and for programs.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use crate::Event;

/// The whole walkthrough.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every step held.
    pub ok: bool,
    /// From the first step to the last, in milliseconds.
    pub ms: u64,
    /// What the nodes were, `lightningd v26.06.6` say; `None` if they never ran.
    pub node: Option<String>,
    /// Every step that was run, in order.
    pub steps: Vec<StepReport>,
    /// The error that ended it early, if one did.
    pub error: Option<String>,
    /// The lab's folder, if it was to be kept.
    pub folder: Option<PathBuf>,
}

/// One step.
#[derive(Debug, Default, Serialize)]
pub struct StepReport {
    /// A short name.
    pub name: String,
    /// The command as a person would type it.
    pub command: String,
    /// Whether all its checks held.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The answer to the command.
    pub answer: Value,
    /// What plugins recorded because of it.
    pub recorded: Vec<Recorded>,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Why it could not be completed.
    pub error: Option<String>,
}

/// A recorded notification, as reported.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Its topic.
    pub topic: String,
    /// What lightningd told.
    pub payload: Value,
    /// The line in the file.
    pub line: String,
}

impl From<&Event> for Recorded {
    fn from(event: &Event) -> Recorded {
        Recorded {
            topic: event.topic.clone(),
            payload: event.payload.clone(),
            line: event.line.clone(),
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What should hold.
    pub what: String,
    /// Whether it does.
    pub ok: bool,
    /// What was seen, if it does not.
    pub seen: Option<String>,
}

/// True if there is a process of this id, a dead one that nobody reaped aside.
pub(super) fn is_alive(pid: u32) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z'))
    });
    !zombie && kill(Pid::from_raw(pid as i32), None) != Err(Errno::ESRCH)
}
