//! Errors, with texts that say what to do next.

use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a lab could not do what was asked.
///
/// Each message names what was tried, what was seen and, where there is one, the
/// remedy.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An executable that the lab needs was not found.
    #[error("{what} not found: tried {tried}\n  {remedy}")]
    NotFound {
        /// The executable, by its usual name.
        what: String,
        /// Where it was looked for, in order.
        tried: String,
        /// What to do about it.
        remedy: String,
    },

    /// The operating system refused something.
    // Not a `#[source]`: the text has it already, and a chain of causes would repeat it.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done, and to which file.
        doing: String,
        /// The system's answer.
        error: std::io::Error,
    },

    /// A daemon ended when it should have been running.
    #[error("{name} ended unexpectedly: {status}\n  command: {command}{tail}")]
    Died {
        /// Which daemon: `bitcoind`, `l1`, …
        name: String,
        /// Its command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The ends of its standard error and of its log, indented, each with
        /// a heading; empty if both are.
        tail: String,
    },

    /// A plugin of a node ended, or was killed for what it sent, though nobody asked
    /// for it.
    #[error("plugin {plugin} of {node} died: {line}")]
    PluginDied {
        /// The plugin, by its file name.
        plugin: String,
        /// The node it ran on.
        node: String,
        /// The line of the node's log that reports it.
        line: String,
    },

    /// The lab was stopped, but something had gone wrong meanwhile.
    #[error("{}", gate_text(.0))]
    Gate(Vec<String>),

    /// Something that was awaited did not happen in time.
    #[error("timed out after {}: {what}\n  last seen: {last_seen}", humantime::format_duration(*.waited))]
    TimedOut {
        /// What was awaited.
        what: String,
        /// For how long.
        waited: Duration,
        /// What the last look saw instead.
        last_seen: String,
    },

    /// A Lightning node answered a request with an error.
    #[error("{node}: {method}: {}{message}{}", code.map(|c| format!("error {c}: ")).unwrap_or_default(), indented(help))]
    Rpc {
        /// The node that was asked.
        node: String,
        /// The method that was called.
        method: String,
        /// JSON-RPC or lightningd error code; `None` if the request got no answer.
        code: Option<i32>,
        /// lightningd's message.
        message: String,
        /// The error's `data`, if it has any.
        data: Option<Box<serde_json::Value>>,
        /// What the lab knows beyond the answer, for people: for a plugin that was
        /// refused the end of its standard error, and a hint. Often empty.
        help: String,
    },

    /// bitcoind answered a request with an error, or not at all.
    #[error("bitcoind: {method}: {}{message}", code.map(|c| format!("error {c}: ")).unwrap_or_default())]
    Bitcoind {
        /// The method that was called.
        method: String,
        /// Bitcoin Core's error code (its rpc/protocol.h); `None` if the request got no
        /// answer.
        code: Option<i32>,
        /// bitcoind's message, or why there was no answer.
        message: String,
    },

    /// Something answered, but not as its interface promises.
    #[error("{from}: unexpected answer: {why}")]
    Answer {
        /// What answered, and to which request.
        from: String,
        /// What is wrong with it.
        why: String,
    },

    /// The request makes no sense for this lab: an unknown node, two of one name, …
    #[error("{0}")]
    Usage(String),
}

/// Each line of a text on a line of its own, indented.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n  {line}")).collect()
}

fn gate_text(found: &[String]) -> String {
    let mut text = format!("the lab was stopped, but {} went wrong:", found.len());
    for one in found {
        text.push_str("\n  ");
        text.push_str(one);
    }
    text.push_str("\n  (a test can allow what it causes on purpose: NodeSpec::allow_broken, allow_plugin_death, may_fail)");
    text
}

/// As it is displayed, for it is what Rust prints of a test or `main` that fails.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// The error code in a Lightning node's answer, as in Core Lightning's
    /// `common/jsonrpc_errors.h` (for example -32602 for bad parameters); `None` for
    /// any other error.
    pub fn rpc_code(&self) -> Option<i32> {
        match self {
            Error::Rpc { code, .. } => *code,
            _ => None,
        }
    }

    /// The message in a Lightning node's answer, without the lab's text around it.
    pub fn rpc_message(&self) -> Option<&str> {
        match self {
            Error::Rpc { message, .. } => Some(message),
            _ => None,
        }
    }

    /// An [`Error::Usage`] with this text.
    pub fn usage(text: impl Into<String>) -> Error {
        Error::Usage(text.into())
    }

    /// Only the process that holds a lab may do what was asked for.
    pub(crate) fn not_ours(name: &str) -> Error {
        Error::usage(format!(
            "{name} belongs to another process: end the lab there, or with `lab down`"
        ))
    }
}

/// Turns an [`std::io::Error`] into ours, with what was being done.
pub trait IoContext<T> {
    /// `doing` is a phrase such as `"create folder"`; the path follows it.
    ///
    /// # Errors
    /// [`Error::Io`], if this is an error.
    fn doing(self, doing: &str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn doing(self, doing: &str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::Io {
            doing: format!("{doing} {}", path.as_ref().display()),
            error: e.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_printed_once() {
        let refused: std::io::Result<()> = Err(std::io::ErrorKind::PermissionDenied.into());
        let error = anyhow::Error::from(refused.doing("create", "x").expect_err("refused"));
        assert_eq!(format!("{error:#}"), "create x: permission denied");
    }
}
