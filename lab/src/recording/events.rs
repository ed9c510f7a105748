//! Reads what a plugin recorded, waits for it, and checks it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::node::Guard;
use crate::wait::{poll, remember};
use crate::wire::payload_of;
use crate::{Error, Follower, Lab, Node, Notification, PATIENCE, Probe, Result};

/// One recorded notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its topic: `connect`, `invoice_creation`, …
    pub topic: String,
    /// Its payload, the object under the topic's name.
    pub payload: Value,
    /// Its sequence number, from 1; `None` if the recorder writes none.
    pub seq: Option<u64>,
    /// When it was received, RFC 3339; `None` if the recorder writes none.
    pub received_at: Option<String>,
    /// The plugin that sent it, for a custom notification.
    pub origin: Option<String>,
    /// The line as recorded.
    pub line: String,
}

impl Event {
    /// Parses a line of either form that recorders write: a JSON object with `topic`
    /// and `payload`, as `eventlog` does, or the workshop's `TOPIC notification: …`,
    /// followed by the message, its payload, or for `disconnect` the bare id.
    ///
    /// # Errors
    /// [`Error::Answer`] if it has neither form.
    pub fn parse(line: &str) -> Result<Event> {
        let bad = |why: String| Error::Answer {
            from: format!("recorded line `{line}`"),
            why,
        };
        if line.starts_with('{') {
            let mut object: Map<String, Value> =
                serde_json::from_str(line).map_err(|e| bad(e.to_string()))?;
            let text = |object: &Map<String, Value>, key: &str| {
                object.get(key).and_then(Value::as_str).map(str::to_owned)
            };
            let topic = text(&object, "topic").ok_or_else(|| bad("no `topic`".to_owned()))?;
            return Ok(Event {
                payload: object.remove("payload").unwrap_or(Value::Null),
                seq: object.get("seq").and_then(Value::as_u64),
                received_at: text(&object, "received_at"),
                origin: text(&object, "origin"),
                topic,
                line: line.to_owned(),
            });
        }
        let Some((topic, rest)) = line.split_once(" notification: ") else {
            return Err(bad(
                "neither a JSON object nor `TOPIC notification: …`".to_owned()
            ));
        };
        let payload = match serde_json::from_str::<Value>(rest) {
            Ok(value) => payload_in(topic, value),
            Err(_) => serde_json::json!({"id": rest}),
        };
        Ok(Event {
            topic: topic.to_owned(),
            payload,
            seq: None,
            received_at: None,
            origin: None,
            line: line.to_owned(),
        })
    }

    /// The payload as a type, for example one of `cln_rpc::notifications`. Those are
    /// strict and follow one version of lightningd; [`Event::payload`] has everything.
    ///
    /// # Errors
    /// [`Error::Answer`] if it is not of this type.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.payload.clone()).map_err(|e| Error::Answer {
            from: format!("recorded line `{}`", self.line),
            why: e.to_string(),
        })
    }
}

/// The payload of a message as it was received. Anything else is a payload already.
fn payload_in(topic: &str, mut value: Value) -> Value {
    if value.get("method").is_none() || value.get("params").is_none() {
        return value;
    }
    payload_of(topic, value["params"].take())
}

/// A recorder's file, read as it grows, across rotations. It starts at the file's
/// beginning, so nothing that was recorded before is missed ([`Events::from_now`]
/// leaves it out); each `expect…` continues where the one before it ended.
///
/// A line that cannot be parsed is an error once; the lines after it are not lost.
///
/// If it belongs to a node ([`Node::events`], a [`crate::Tap`]), a wait ends as soon as
/// the node or one of its plugins dies.
#[derive(Debug)]
pub struct Events {
    file: Follower,
    /// Lines that were read and not parsed yet.
    unread: VecDeque<String>,
    /// Events that were not taken yet.
    pending: VecDeque<Event>,
    patience: Duration,
    guard: Option<Guard>,
}

impl Lab {
    /// What `eventlog` records on the node of this name, in its default file. For
    /// another file see [`Node::events`].
    pub fn events(&self, node: &str) -> Result<Events> {
        Ok(self.node(node)?.events("eventlog.jsonl"))
    }
}

impl Node {
    /// What a plugin of this node records in `file`, a path relative to
    /// [`Node::network_dir`], where plugins run.
    pub fn events(&self, file: impl AsRef<Path>) -> Events {
        let mut events = Events::open(self.network_dir().join(file));
        events.guard = Some(self.guard());
        events
    }
}

impl Events {
    /// Reads `path`, which need not exist yet.
    pub fn open(path: impl AsRef<Path>) -> Events {
        Events {
            file: Follower::new(path.as_ref()),
            unread: VecDeque::new(),
            pending: VecDeque::new(),
            patience: PATIENCE,
            guard: None,
        }
    }

    /// Leaves out what has been recorded up to now.
    pub fn from_now(mut self) -> Result<Events> {
        self.skip_to_now()?;
        Ok(self)
    }

    /// Sets how long to wait for what is expected: [`PATIENCE`] by default. Scaled by
    /// [`crate::timeout_factor`].
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Events {
        self.patience = patience;
        self
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// What has been recorded and not taken yet, without waiting.
    pub fn pending(&mut self) -> Result<Vec<Event>> {
        self.read()?;
        Ok(self.pending.iter().cloned().collect())
    }

    /// Takes everything recorded up to now.
    pub fn skip_to_now(&mut self) -> Result<()> {
        self.read()?;
        self.pending.clear();
        Ok(())
    }

    /// Waits for the next event of any topic.
    pub async fn next(&mut self) -> Result<Event> {
        self.find("the next notification".to_owned(), None, |_| true)
            .await
    }

    /// Waits for a notification of this topic; those before it are skipped.
    ///
    /// # Errors
    /// [`Error::TimedOut`], which lists what was recorded instead; [`Error::Died`] or
    /// [`Error::PluginDied`].
    pub async fn expect(&mut self, topic: &str) -> Result<Event> {
        let awaited = format!("a `{topic}` notification");
        self.find(awaited, Some(topic), |event| event.topic == topic)
            .await
    }

    /// Waits for a notification of this topic for which `test` holds; those before it are
    /// skipped. `what` describes it in errors.
    ///
    /// # Errors
    /// As [`Events::expect`].
    pub async fn expect_where(
        &mut self,
        topic: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Event> {
        let awaited = format!("a `{topic}` notification {what}");
        self.find(awaited, Some(topic), |event| {
            event.topic == topic && test(&event.payload)
        })
        .await
    }

    /// Waits for a notification of this type; those before it are skipped. The types of
    /// `cln_rpc::notifications` are strict and follow one version of lightningd: where
    /// that is in the way, use [`Events::expect`].
    ///
    /// ```no_run
    /// # async fn f(events: &mut cln_lab::Events) -> cln_lab::Result<()> {
    /// use cln_rpc::notifications::ConnectNotification;
    ///
    /// let connect = events.expect_typed::<ConnectNotification>().await?;
    /// println!("{}", connect.address.port.unwrap_or(0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Events::expect`]; [`Error::Answer`] if the payload is not of this type.
    pub async fn expect_typed<T: Notification>(&mut self) -> Result<T> {
        self.expect(T::TOPIC).await?.typed()
    }

    /// Checks that no notification of this topic, besides those taken, comes for this
    /// long, scaled by [`crate::timeout_factor`]. Others stay to be taken.
    ///
    /// If something else is known to come later, it is faster and more certain to expect
    /// that with [`Events::expect_in_order`].
    ///
    /// # Errors
    /// [`Error::Answer`] as soon as there is one.
    pub async fn expect_none(&mut self, topic: &str, within: Duration) -> Result<()> {
        let awaited = format!("no `{topic}` notification in {}", self.path().display());
        let waited = poll(awaited, within, async || {
            self.check()?;
            self.read()?;
            match self.pending.iter().find(|event| event.topic == topic) {
                None => Ok(Probe::<()>::NotYet("none".to_owned())),
                Some(event) => Err(Error::Answer {
                    from: self.path().display().to_string(),
                    why: format!("expected no `{topic}`, but there is: {}", event.line),
                }),
            }
        })
        .await;
        match waited {
            Err(Error::TimedOut { .. }) => Ok(()),
            other => other,
        }
    }

    /// Waits for the next events, and checks that they are of these topics in this
    /// order, with no other event before or between them.
    ///
    /// # Errors
    /// [`Error::Answer`] as soon as another topic comes; [`Error::TimedOut`].
    pub async fn expect_in_order(&mut self, topics: &[&str]) -> Result<Vec<Event>> {
        let mut events: Vec<Event> = Vec::with_capacity(topics.len());
        for (n, topic) in topics.iter().enumerate() {
            let what = format!("`{topic}`, number {} of [{}]", n + 1, topics.join(", "));
            let event = self.find(what, Some(topic), |_| true).await?;
            if event.topic != *topic {
                return Err(Error::Answer {
                    from: self.path().display().to_string(),
                    why: format!(
                        "expected [{}] in this order; number {} is `{}`: {}",
                        topics.join(", "),
                        n + 1,
                        event.topic,
                        event.line
                    ),
                });
            }
            events.push(event);
        }
        Ok(events)
    }

    async fn find(
        &mut self,
        what: String,
        topic: Option<&str>,
        test: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let awaited = format!("{what} in {}", self.path().display());
        let found = poll(awaited, self.patience, async || {
            // In this order: what was recorded before a death is found.
            let alive = self.check();
            self.read()?;
            if let Some(at) = self.pending.iter().position(&test) {
                self.pending.drain(..at);
                if let Some(event) = self.pending.pop_front() {
                    return Ok(Probe::Ready(event));
                }
            }
            alive?;
            Ok(Probe::NotYet(String::new()))
        })
        .await;
        match found {
            Err(Error::TimedOut { what, waited, .. }) => {
                let error = Error::TimedOut {
                    what,
                    waited,
                    last_seen: self.near_misses(topic),
                };
                remember(&error);
                Err(error)
            }
            found => found,
        }
    }

    fn check(&mut self) -> Result<()> {
        match &mut self.guard {
            Some(guard) => guard.check(),
            None => Ok(()),
        }
    }

    /// What was recorded instead: first events of the same topic.
    fn near_misses(&self, topic: Option<&str>) -> String {
        const SHOWN: usize = 10;
        let mut text = if !self.path().exists() {
            "the file does not exist".to_owned()
        } else if self.pending.is_empty() {
            "nothing further recorded".to_owned()
        } else {
            format!("{} recorded instead", self.pending.len())
        };
        let (same, others): (Vec<&Event>, Vec<&Event>) = self
            .pending
            .iter()
            .partition(|event| topic == Some(event.topic.as_str()));
        for (title, events) in [("of this topic", same), ("of others", others)] {
            if events.is_empty() {
                continue;
            }
            text.push_str(&format!("\n  {title}:"));
            if events.len() > SHOWN {
                text.push_str(&format!(" (the last {SHOWN} of {})", events.len()));
            }
            for event in &events[events.len().saturating_sub(SHOWN)..] {
                text.push_str(&format!("\n    {}", event.line));
            }
        }
        if let Some(guard) = &self.guard {
            text.push_str(&guard.stopped());
        }
        text
    }

    /// Reads what was recorded since the last look.
    fn read(&mut self) -> Result<()> {
        let lines = self.file.lines()?;
        self.unread.extend(lines);
        // One line that cannot be parsed is an error once; those after it stay.
        while let Some(line) = self.unread.pop_front() {
            if !line.trim().is_empty() {
                let event = Event::parse(&line)?;
                // The recorder's own: no notification from lightningd.
                if event.topic != "eventlog_started" {
                    self.pending.push_back(event);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_of_a_line_are_read() {
        let event = Event::parse(
            r#"{"seq":3,"received_at":"2026-01-01T00:00:00.000001Z","topic":"connect","payload":{"id":"02aa"}}"#,
        )
        .expect("json");
        assert_eq!((event.seq, event.topic.as_str()), (Some(3), "connect"));
        assert_eq!(event.payload, json!({"id": "02aa"}));

        for line in [
            r#"connect notification: {"jsonrpc":"2.0","method":"connect","params":{"connect":{"id":"02aa"}}}"#,
            r#"connect notification: {"jsonrpc":"2.0","method":"connect","params":{"id":"02aa"}}"#,
            r#"connect notification: {"id":"02aa"}"#,
            "connect notification: 02aa",
        ] {
            let event = Event::parse(line).expect(line);
            assert_eq!(
                (event.topic.as_str(), &event.payload),
                ("connect", &json!({"id": "02aa"})),
                "{line}"
            );
        }
        for line in ["", "hello", "{", "{}", "[1]"] {
            assert!(Event::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn one_bad_line_costs_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let line = |topic: &str| format!("{topic} notification: {{}}\n");
        std::fs::write(
            &path,
            line("a") + "bad\n" + &line("b") + "worse\n" + &line("c"),
        )
        .expect("write");
        let mut events = Events::open(&path);
        for bad in ["bad", "worse"] {
            let error = events.pending().expect_err(bad).to_string();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
        let pending = events.pending().expect("all are read");
        let topics: Vec<&str> = pending.iter().map(|event| event.topic.as_str()).collect();
        assert_eq!(topics, ["a", "b", "c"]);
    }

    #[test]
    fn a_rotation_loses_no_event() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        let record = |numbers: std::ops::Range<u64>| {
            use std::io::Write;
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.append(true).create(true).open(&path).expect("open");
            for seq in numbers {
                writeln!(file, r#"{{"seq":{seq},"topic":"a","payload":{{}}}}"#).expect("write");
            }
        };
        let mut events = Events::open(&path);
        record(0..2);
        assert_eq!(events.pending().expect("two").len(), 2);
        // Between two looks: more in the old file, and more yet in the new one than
        // was read of the old.
        record(2..4);
        std::fs::rename(&path, dir.path().join("f.1")).expect("rename");
        record(4..10);
        let seqs: Vec<Option<u64>> = events
            .pending()
            .expect("ten")
            .iter()
            .map(|e| e.seq)
            .collect();
        assert_eq!(seqs, (0..10).map(Some).collect::<Vec<_>>());
    }
}
