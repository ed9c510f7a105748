//! Records every notification that lightningd sends, without a plugin of the test's.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::error::IoContext;
use crate::node::{ShimReader, ShimWriter};
use crate::wire::{MessageReader, answer, payload_of, send};
use crate::{Events, Lab, Node, Result, Version};

/// The notifications that a node's plugins receive, recorded by the lab itself, for
/// tests of what lightningd sent.
///
/// The tap is a plugin whose handlers run in this process; it records until the node
/// ends. It is read as [`Events`]:
///
/// ```no_run
/// # async fn f() -> cln_lab::Result<()> {
/// # let lab = cln_lab::Lab::builder().nodes(2).start().await?;
/// let mut tap = lab.tap("l1").await?;
/// lab.l1().connect(lab.l2()).await?;
/// let connect = tap.expect("connect").await?;
/// assert_eq!(connect.payload["id"], lab.l2().id());
/// # lab.stop().await }
/// ```
#[derive(Debug)]
pub struct Tap {
    events: Events,
}

impl Deref for Tap {
    type Target = Events;

    fn deref(&self) -> &Events {
        &self.events
    }
}

impl DerefMut for Tap {
    fn deref_mut(&mut self) -> &mut Events {
        &mut self.events
    }
}

impl Lab {
    /// Taps the node of this name: [`Node::tap`].
    pub async fn tap(&self, name: &str) -> Result<Tap> {
        self.node(name)?.tap().await
    }
}

impl Node {
    /// Records from now on every notification that this version of lightningd sends,
    /// except `log`, which repeats every line of the node's log.
    ///
    /// The tap runs on this task's runtime: a test that blocks its only thread for long
    /// keeps the node from stopping.
    ///
    /// # Errors
    /// lightningd's, if it refuses the tap.
    pub async fn tap(&self) -> Result<Tap> {
        let release = self.implementation().lightningd().map(Version::release);
        let topics: Vec<&str> = cln_topics::sent_by(release)
            .map(|topic| topic.name)
            .filter(|name| *name != "log")
            .collect();
        self.tap_topics(&topics).await
    }

    /// Records the notifications of these topics, which may be `log` and those that
    /// other plugins send.
    ///
    /// `*` is not among them: with a name beside it some would come twice, and before
    /// v23.08 lightningd does not know it.
    ///
    /// # Errors
    /// lightningd's, if it refuses the tap.
    pub async fn tap_topics(&self, topics: &[&str]) -> Result<Tap> {
        let shim = self.shim("tap")?;
        let path = shim.dir.join("events.jsonl");
        let record = Record::create(&path)?;
        let manifest = json!({
            "options": [],
            "rpcmethods": [],
            "subscriptions": topics,
            "dynamic": true,
            "nonnumericids": true,
        });
        // It ends when lightningd closes its side of the pipe.
        tokio::spawn(serve(shim.reader, shim.writer, manifest, record));
        self.plugin_start(&shim.plugin).await?;
        drop(shim.placeholders);
        Ok(Tap {
            events: self.events(path),
        })
    }
}

/// Plays the plugin until lightningd closes its side, or sends `shutdown`: a plugin
/// that subscribes to that topic must then end on its own.
async fn serve(reader: ShimReader, mut writer: ShimWriter, manifest: Value, mut record: Record) {
    let mut messages = MessageReader::new(reader);
    loop {
        let message = match messages.next::<Value>().await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            // One of another plugin's, which lightningd hands on as it is.
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tracing::warn!(%error, "a tap leaves out a message");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a tap cannot read what lightningd sends");
                return;
            }
        };
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        if let Some(id) = message.get("id") {
            let result = match method.as_str() {
                "getmanifest" => manifest.clone(),
                _ => json!({}),
            };
            if send(&mut writer, &answer(id, result)).await.is_err() {
                return;
            }
            continue;
        }
        if let Err(error) = record.append(&method, message) {
            tracing::warn!(%error, "a tap cannot record");
            return;
        }
        if method == "shutdown" {
            return;
        }
    }
}

/// The file of a tap: one JSON object a line.
#[derive(Debug)]
struct Record {
    file: std::fs::File,
    recorded: u64,
}

impl Record {
    /// Some notifications carry preimages: nobody else may read the file.
    fn create(path: &Path) -> Result<Record> {
        let mut options = OpenOptions::new();
        options.create_new(true).append(true).mode(0o600);
        let file = options.open(path).doing("create", path)?;
        Ok(Record { file, recorded: 0 })
    }

    fn append(&mut self, topic: &str, message: Value) -> std::io::Result<()> {
        self.recorded += 1;
        let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        let (origin, payload) = origin_and_payload(topic, message);
        let mut line = Map::new();
        line.insert("seq".to_owned(), json!(self.recorded));
        line.insert("received_at".to_owned(), json!(now));
        line.insert("topic".to_owned(), json!(topic));
        if let Some(origin) = origin {
            line.insert("origin".to_owned(), origin);
        }
        line.insert("payload".to_owned(), payload);
        let mut bytes = Value::Object(line).to_string().into_bytes();
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

/// The plugin that sent a notification, if one did, and the payload. From v25.09 on,
/// `origin` stands beside `params`; before, `params` were `origin` and `payload`.
fn origin_and_payload(topic: &str, mut message: Value) -> (Option<Value>, Value) {
    let mut params = message["params"].take();
    if message["origin"].is_string() {
        return (Some(message["origin"].take()), payload_of(topic, params));
    }
    if params["origin"].is_string() && !params["payload"].is_null() {
        let origin = params["origin"].take();
        let member = if params[topic].is_object() {
            topic
        } else {
            "payload"
        };
        return (Some(origin), params[member].take());
    }
    (None, payload_of(topic, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_found_where_each_version_puts_it() {
        let new = json!({"method": "x", "origin": "p", "params": {"a": 1}});
        let old = json!({"method": "x", "params": {"origin": "p", "payload": {"a": 1}}});
        let both =
            json!({"method": "x", "params": {"origin": "p", "payload": {"b": 2}, "x": {"a": 1}}});
        for message in [new, old, both] {
            assert_eq!(
                origin_and_payload("x", message),
                (Some(json!("p")), json!({"a": 1}))
            );
        }
        let native = json!({"method": "connect", "params": {"connect": {"a": 1}}});
        assert_eq!(
            origin_and_payload("connect", native),
            (None, json!({"a": 1}))
        );
    }
}
