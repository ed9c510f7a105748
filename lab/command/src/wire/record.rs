//! What passed, as a file: one JSON object a line.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cln_lab::{Follower, IoContext, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Who wrote something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sender {
    /// lightningd, to the plugin's stdin.
    Lightningd,
    /// The plugin, on stdout.
    Plugin,
    /// The plugin, on stderr.
    Stderr,
    /// The tee itself, about the plugin's process.
    Tee,
}

impl Sender {
    /// A sign for it: → to the plugin, ← from it, ! its stderr, · the tee.
    pub fn mark(self) -> char {
        match self {
            Sender::Lightningd => '→',
            Sender::Plugin => '←',
            Sender::Stderr => '!',
            Sender::Tee => '·',
        }
    }
}

/// Something that passed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Passed {
    /// When, as RFC 3339 in UTC with microseconds.
    pub at: String,
    /// Who wrote it.
    pub from: Sender,
    /// A message, exactly as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Box<RawValue>>,
    /// Anything that is not a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What is wrong with it, if anything is; found when it is read.
    #[serde(skip)]
    pub mistake: Option<String>,
}

impl Passed {
    /// The message as JSON; null if it is none.
    pub fn json(&self) -> Value {
        let message = self.message.as_ref();
        message
            .and_then(|message| serde_json::from_str(message.get()).ok())
            .unwrap_or_default()
    }

    /// It, as it was written.
    pub fn text(&self) -> &str {
        let message = self.message.as_ref().map(|message| message.get());
        message.or(self.text.as_deref()).unwrap_or_default()
    }
}

/// The record of a plugin's wire.
#[derive(Debug)]
pub struct Wire {
    record: Follower,
    asked: HashSet<String>,
}

impl Wire {
    /// The record at this path, from its start; there may be none yet.
    pub fn open(path: impl Into<PathBuf>) -> Wire {
        Wire {
            record: Follower::new(path.into()),
            asked: HashSet::new(),
        }
    }

    /// What passed since the last look.
    ///
    /// # Errors
    /// If the record cannot be read, or is none.
    pub fn pending(&mut self) -> Result<Vec<Passed>> {
        let path = self.record.path().to_owned();
        let mut all = Vec::new();
        for line in self.record.lines()? {
            let mut passed: Passed = serde_json::from_str(&line)
                .map_err(std::io::Error::from)
                .doing("read", &path)?;
            passed.mistake = self.mistake(&passed);
            all.push(passed);
        }
        Ok(all)
    }

    /// What lightningd accepts without a word, and no plugin should send.
    fn mistake(&mut self, passed: &Passed) -> Option<String> {
        let message = passed.json();
        let id = message.get("id");
        match passed.from {
            Sender::Lightningd => {
                self.asked.extend(id.map(Value::to_string));
                None
            }
            Sender::Plugin if message.is_null() => {
                Some("this is no JSON-RPC message: stdout is only for those".to_owned())
            }
            // A request or a notification of its own.
            Sender::Plugin if message.get("method").is_some() => None,
            Sender::Plugin => {
                let known = id.is_some_and(|id| self.asked.remove(&id.to_string()));
                (!known).then(|| match id {
                    None | Some(Value::Null) => {
                        "an answer without an id: a notification must not be answered".to_owned()
                    }
                    Some(id) => format!(
                        "nothing was asked with the id {id}: it is returned exactly as it came"
                    ),
                })
            }
            Sender::Stderr | Sender::Tee => None,
        }
    }
}

/// Appends to a record.
#[derive(Debug)]
pub(super) struct Recorder(File);

impl Recorder {
    /// Its owner alone may read it: some messages carry secrets.
    pub fn open(path: &Path) -> Result<Recorder> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path);
        Ok(Recorder(file.doing("open", path)?))
    }

    pub fn message(&mut self, from: Sender, message: Box<RawValue>) -> std::io::Result<()> {
        self.append(from, Some(message), None)
    }

    pub fn text(&mut self, from: Sender, text: String) -> std::io::Result<()> {
        self.append(from, None, Some(text))
    }

    fn append(
        &mut self,
        from: Sender,
        message: Option<Box<RawValue>>,
        text: Option<String>,
    ) -> std::io::Result<()> {
        let passed = Passed {
            at: humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
            from,
            message,
            text,
            mistake: None,
        };
        // A message may have line ends between its tokens; a record may not.
        let line = serde_json::to_string(&passed)?.replace(['\n', '\r'], " ");
        self.0.write_all(format!("{line}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("wire");
        let mut recorder = Recorder::open(&path).expect("open");
        let mut write = |from, message: &str| match serde_json::from_str(message) {
            Ok(json) => recorder.message(from, json).expect("write"),
            Err(_) => recorder.text(from, message.to_owned()).expect("write"),
        };
        for (from, message) in [
            (Sender::Lightningd, r#"{"id":"a#1","method":"getmanifest"}"#),
            (Sender::Plugin, "{\"id\":\"a#1\",\n\"result\":{}}"),
            (Sender::Lightningd, r#"{"method":"connect"}"#),
            (Sender::Plugin, r#"{"method":"log","params":{}}"#),
            (Sender::Plugin, r#"{"id":null,"result":{}}"#),
            (Sender::Plugin, r#"{"result":{}}"#),
            (Sender::Plugin, r#"{"id":"a#1","result":{}}"#),
            (Sender::Plugin, "hello"),
            (Sender::Stderr, "hello"),
        ] {
            write(from, message);
        }
        let passed = Wire::open(&path).pending().expect("read");
        let mistakes: Vec<Option<&str>> = passed
            .iter()
            .map(|passed| {
                passed
                    .mistake
                    .as_deref()
                    .and_then(|text| text.split(':').next())
            })
            .collect();
        let unasked = Some("an answer without an id");
        assert_eq!(
            mistakes,
            [
                None,
                None,
                None,
                None,
                unasked,
                unasked,
                Some("nothing was asked with the id \"a#1\""),
                Some("this is no JSON-RPC message"),
                None
            ]
        );
    }
}
