//! What happened in a lab: who sent what to whom, in the order of time.
//!
//! While it runs, a lab writes what it does itself to [`FILE`] in its folder, one JSON
//! object a line, an [`Entry`] each, readable by its owner only: requests and answers
//! carry preimages and runes. What others write anyway is not written twice: it is read
//! from their files when a trace is looked at.
//!
//! # The format, `trace-version` 1
//!
//! ```json
//! {"trace-version":1,"at":"2026-11-22T07:31:09.001223Z","kind":"lab","from":"lab","text":"target/debug/lab up"}
//! {"at":"2026-11-22T07:31:09.101Z","kind":"start","from":"lab","to":"l1","name":"lightningd v26.06.6","text":"lightningd --lightning-dir=…","data":{"pid":9876}}
//! {"at":"2026-11-22T07:31:09.418120Z","kind":"request","from":"lab","to":"l1","name":"connect","id":"9844-7","data":{"id":"033f…"}}
//! {"at":"2026-11-22T07:31:09.423001Z","kind":"answer","from":"l1","to":"lab","name":"connect","id":"9844-7","ms":4.88,"data":{"id":"033f…"}}
//! {"at":"2026-11-22T07:31:12.004120Z","kind":"end","from":"l1","text":"signal: 9 (SIGKILL)","bad":true}
//! ```
//!
//! | member | meaning |
//! |---|---|
//! | `at` | the machine's clock, UTC, with the digits its source has: lines of a node's log have milliseconds |
//! | `kind` | see [`Kind`] |
//! | `from`, `to` | `lab`, `bitcoind`, a node, `NODE/PLUGIN`, or the id of a peer that is no node of the lab |
//! | `name` | a method, topic, hook, level, version |
//! | `text` | a line for people |
//! | `data` | parameters, result, error, payload, as JSON |
//! | `cut` | so many bytes there were: more than fits, and `text` has their start |
//! | `id` | the same for a request and its answer |
//! | `ms` | from the request to the answer, in milliseconds |
//! | `bad` | true if something went wrong |
//!
//! Members that are empty are left out; a reader ignores those it does not know. A line
//! that is not JSON was torn by a kill or a full disk.

mod mermaid;
mod node_log;
mod output;
mod page;
mod read;
mod record;
mod sources;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

pub use node_log::Level;
pub(crate) use output::OutputWatch;
pub use page::{Check, Page, Step};
pub use read::{MOST, Trace};
pub(crate) use record::Recorder;
pub use record::{Asked, Tracing};

/// The file's name, in the lab's folder.
pub const FILE: &str = "trace.jsonl";

/// The version of the format. It changes when a member changes its meaning.
pub const VERSION: u32 = 1;

/// Longer data, in bytes, is cut.
const LONGEST: usize = 16 << 10;

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Entry {
    /// The version of the format, in the first line of a file.
    #[serde(
        rename = "trace-version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub version: Option<u32>,
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What it is.
    pub kind: Kind,
    /// Who sent it, or where it happened.
    pub from: String,
    /// To whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// A method, topic, hook, level, version; often empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What was sent, as it was spelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// How many bytes `data` had that is not here because it is too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<usize>,
    /// What a request and its answer have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// From the request to the answer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<f64>,
    /// Whether something went wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bad: bool,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// The lab itself: its start.
    Lab,
    /// A process is started.
    Start,
    /// A node is ready.
    Ready,
    /// A process has ended.
    End,
    /// A JSON-RPC request, or one to the process that holds the lab.
    Request,
    /// The answer to a request or a hook.
    Answer,
    /// A notification, to a plugin or from one.
    Notification,
    /// A hook, which waits for the plugin's answer.
    Hook,
    /// A node connects to a peer.
    Connect,
    /// A connection has ended.
    Disconnect,
    /// A node has seen a block.
    Block,
    /// A BOLT message between peers.
    Message,
    /// A line of a log.
    Log,
    /// A line on standard error.
    Stderr,
    /// About the trace itself: what is missing.
    Note,
}

impl Entry {
    /// An entry with no more than this; its time is set when it is recorded.
    pub(crate) fn new(kind: Kind, from: impl Into<String>) -> Entry {
        Entry {
            version: None,
            at: String::new(),
            kind,
            from: from.into(),
            to: None,
            name: String::new(),
            text: None,
            data: None,
            cut: None,
            id: None,
            ms: None,
            bad: false,
        }
    }

    pub(crate) fn to(mut self, to: impl Into<String>) -> Entry {
        self.to = Some(to.into());
        self
    }

    pub(crate) fn name(mut self, name: impl Into<String>) -> Entry {
        self.name = name.into();
        self
    }

    pub(crate) fn text(mut self, text: impl Into<String>) -> Entry {
        self.text = Some(text.into());
        self
    }

    pub(crate) fn bad(mut self, bad: bool) -> Entry {
        self.bad = bad;
        self
    }

    /// With this JSON as its data, or its start as text if it is long or none.
    pub(crate) fn json(mut self, json: &str) -> Entry {
        if json.len() <= LONGEST
            && let Ok(raw) = serde_json::from_str::<Box<RawValue>>(json)
        {
            self.data = Some(raw);
            return self;
        }
        self.start_of(json)
    }

    /// With this value as its data.
    pub(crate) fn value(mut self, value: &Value) -> Entry {
        match serde_json::value::to_raw_value(value) {
            Ok(raw) if raw.get().len() <= LONGEST => {
                self.data = Some(raw);
                self
            }
            Ok(raw) => self.start_of(raw.get()),
            Err(_) => self,
        }
    }

    fn start_of(mut self, json: &str) -> Entry {
        self.cut = Some(json.len());
        let end = (0..=LONGEST.min(json.len()))
            .rev()
            .find(|at| json.is_char_boundary(*at));
        self.text(&json[..end.unwrap_or(0)])
    }
}

/// A line for people.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = if self.bad { "!" } else { " " };
        write!(f, "{} {mark} {}", self.at, self.from)?;
        if let Some(to) = &self.to {
            write!(f, " → {to}")?;
        }
        write!(f, "  {}", mermaid::label(self).replace('\n', "\n    "))?;
        match &self.data {
            Some(data) => write!(f, "  {}", data.get()),
            None => Ok(()),
        }
    }
}
