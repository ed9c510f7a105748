//! The result of the walkthrough, for people and for programs.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use cln_lab::Event;

/// The whole walkthrough.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every step passed.
    pub ok: bool,
    /// From the first step to the last, in milliseconds.
    pub ms: u64,
    /// Which program the nodes were, for example `lightningd v26.06.6`; `None` if they
    /// never ran.
    pub node: Option<String>,
    /// Every step that was run, in order.
    pub steps: Vec<StepReport>,
    /// The error that ended it early, if one did.
    pub error: Option<String>,
    /// The lab's folder, if it is kept.
    pub folder: Option<PathBuf>,
}

/// One step.
#[derive(Debug, Default, Serialize)]
pub struct StepReport {
    /// A short name.
    pub name: String,
    /// The command as a person would type it.
    pub command: String,
    /// Whether all its checks passed.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// The answer to the command.
    pub answer: Value,
    /// The notifications that plugins recorded because of it.
    pub recorded: Vec<Recorded>,
    /// Its checks.
    pub checks: Vec<Check>,
    /// Why it was not completed.
    pub error: Option<String>,
}

/// A recorded notification, as reported.
#[derive(Debug, Serialize)]
pub struct Recorded {
    /// Its topic.
    pub topic: String,
    /// Its payload.
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

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// Whether it does.
    pub ok: bool,
    /// What was seen instead, if it does not.
    pub seen: Option<String>,
}
