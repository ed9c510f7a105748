//! Whose records they are.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use eventlog::cursor::Cursor;
use eventlog::tail::{From, Item, Tail};
use serde::Deserialize;

/// The version of the records' shape, in the header `Eventlog-Schema`.
pub const SCHEMA: &str = "1";

/// A network or an id has at most this many bytes, and a topic so many in a subject: brokers
/// take no longer ones than of 255 bytes.
const TOKEN: usize = 70;
const TOPIC: usize = 100;

/// The node whose records are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// lightningd's name of the network: `bitcoin`, `regtest`, …
    pub network: String,
    /// Its public key, as hexadecimal digits.
    pub id: String,
}

impl Node {
    /// The node that recorded to this file. What is not given is found: the network is
    /// the name of the file's folder, the id is in the records; for the first of them it
    /// waits.
    ///
    /// # Errors
    /// The folder has no name, the records name several nodes, or cannot be read.
    pub fn find(file: &Path, network: Option<&str>, id: Option<&str>) -> Result<Self> {
        let folder = || {
            // Not the file: that may be missing for the moment of a rotation.
            let folder = file.parent().filter(|folder| *folder != Path::new(""));
            let folder = folder.unwrap_or(Path::new(".")).canonicalize().ok()?;
            folder.file_name()?.to_str().map(str::to_owned)
        };
        let network = match network {
            Some(network) => network.to_owned(),
            None => folder().context("the network: name it with --network")?,
        };
        let id = match id {
            Some(id) => id.to_owned(),
            None => first_id(file)?,
        };
        for token in [&network, &id] {
            let fits = (1..=TOKEN).contains(&token.len());
            if !fits || token.contains(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
                bail!(
                    "`{token}` cannot be part of a subject: up to {TOKEN} letters, digits and - can"
                );
            }
        }
        Ok(Self { network, id })
    }

    /// The subject of all its messages.
    pub fn all(&self) -> String {
        format!("cln.{}.{}.>", self.network, self.id)
    }

    /// The subject of a topic's messages, of up to 255 bytes. What has a meaning in subjects
    /// is replaced in the topic, and a long one is cut: another plugin may send any name.
    pub fn subject(&self, topic: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let mut topic = topic.replace(|c| !plain(c), "_");
        topic.truncate(TOPIC);
        let topic = if topic.is_empty() {
            "_"
        } else {
            topic.as_str()
        };
        format!("cln.{}.{}.{topic}", self.network, self.id)
    }

    /// A record's message id: `<node id>/<epoch>/<seq>`.
    pub fn message_id(&self, cursor: Cursor) -> String {
        format!("{}/{}/{}", self.id, cursor.epoch, cursor.seq)
    }

    /// The record of a message id of this node.
    pub fn cursor(&self, message_id: &str) -> Option<Cursor> {
        let (epoch, seq) = message_id
            .strip_prefix(&self.id)?
            .strip_prefix('/')?
            .split_once('/')?;
        format!("{epoch}:{seq}").parse().ok()
    }
}

/// The node's id in the first record that has one.
fn first_id(file: &Path) -> Result<String> {
    #[derive(Deserialize)]
    struct Line {
        node_id: Option<String>,
    }
    let mut tail = Tail::open(file, From::Oldest)?;
    let mut waited = false;
    loop {
        while let Some(item) = tail.next()? {
            let Item::Record(record) = item else { continue };
            let line: Line = serde_json::from_str(&record.line)?;
            if let Some(id) = line.node_id {
                return Ok(id);
            }
        }
        if !tail.wait(Some(Duration::from_secs(5)))? && !waited {
            tracing::info!(
                "{}: waiting for a record with the node's id",
                file.display()
            );
            waited = true;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_is_missing_for_a_moment_has_a_network() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("regtest");
        std::fs::create_dir(&folder).unwrap();
        let node = Node::find(&folder.join("eventlog.jsonl"), None, Some("02ab"));
        assert_eq!(node.unwrap().network, "regtest");
    }

    #[test]
    fn subjects_and_ids() {
        let node = Node {
            network: "regtest".to_owned(),
            id: "02ab".to_owned(),
        };
        assert_eq!(node.subject("connect"), "cln.regtest.02ab.connect");
        assert_eq!(node.subject("a.b*> c"), "cln.regtest.02ab.a_b___c");
        assert_eq!(node.subject(&"x".repeat(5000)).len(), 17 + TOPIC);
        let cursor: Cursor = "00000000000000aa:7".parse().unwrap();
        let id = node.message_id(cursor);
        assert_eq!(id, "02ab/00000000000000aa/7");
        assert_eq!(node.cursor(&id), Some(cursor));
        assert_eq!(node.cursor("02abc/00000000000000aa/7"), None);
    }
}
