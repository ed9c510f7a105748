//! Where a scenario is played: a lab whose every node has a recorder.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::oracle;
use super::scenario::{Recorded, Report, Scenario};
use cln_lab::{
    Error, Event, Lab, Node, NodeKind, NodeSpec, Plugin, Probe, Result, Version, binaries,
    eventually, msat,
};
use cln_topics::{Presence, Topic};

/// The plugin that records.
pub(super) const RECORDER: &str = "eventlog";

/// Shipped plugins that no scenario needs. Each is a process, and starts with the node.
const LEFT_OUT: [&str; 11] = [
    "autoclean",
    "bookkeeper",
    "chanbackup",
    "cln-renepay",
    "commando",
    "exposesecret",
    "funder",
    "keysend",
    "recklessrpc",
    "recover",
    "sql",
];

/// How long a notification may take: what needs a block comes with an old
/// lightningd after up to 30 s.
const ARRIVES: Duration = Duration::from_secs(60);

/// The start of the label of an invoice that only marks a place.
const MARK: &str = "mark-";

/// A running lab whose nodes record everything they are told.
#[derive(Debug)]
pub struct Stage {
    lab: Lab,
    version: Option<Version>,
    marks: AtomicU32,
}

impl Stage {
    /// Plays a scenario on nodes of these kinds, from its lab's start to its end.
    pub(super) async fn play(scenario: &Scenario, kind: NodeKind) -> Result<Report> {
        let version = version_of(kind).await?;
        let stage = Stage {
            lab: lab(scenario, kind, version.as_ref())?.start().await?,
            version,
            marks: AtomicU32::new(0),
        };
        stage.lab.while_alive((scenario.run)(&stage)).await?;
        let report = stage.report(scenario).await?;
        stage.lab.stop().await?;
        Ok(report)
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its first two nodes.
    pub fn pair(&self) -> (&Node, &Node) {
        (self.lab.l1(), self.lab.l2())
    }

    /// True if the nodes are a lightningd from this release on, or embedded.
    pub fn at_least(&self, year: u16, month: u16) -> bool {
        self.version
            .as_ref()
            .is_none_or(|version| version.at_least(year, month))
    }

    /// Everything a node has recorded by now.
    pub fn recorded(&self, node: &Node) -> Result<Vec<Event>> {
        let path = node.network_dir().join("eventlog.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => {
                let doing = format!("read {}", path.display());
                return Err(Error::Io { doing, source: e });
            }
        };
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().map(Event::parse).collect()
    }

    /// Waits for the first event of this topic on a node.
    pub async fn first(&self, node: &Node, topic: &str) -> Result<Event> {
        self.first_where(node, topic, "", |_| true).await
    }

    /// Waits for the first event of this topic on a node for whose payload
    /// `test` holds; `what` says in an error what was looked for.
    pub async fn first_where(
        &self,
        node: &Node,
        topic: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Event> {
        let awaited = format!("{} to be told `{topic}` {what}", node.name());
        eventually(awaited, ARRIVES, async || {
            node.check_alive().await?;
            let events = self.recorded(node)?;
            let told: Vec<&Event> = events.iter().filter(|e| e.topic == topic).collect();
            Ok(match told.iter().find(|event| test(&event.payload)) {
                Some(event) => Probe::Ready((*event).clone()),
                None => Probe::NotYet(match told.last() {
                    Some(last) => format!("{} of them, the last: {}", told.len(), last.line),
                    None => format!("none among {} recorded", events.len()),
                }),
            })
        })
        .await
    }

    /// Everything of this topic that a node was told up to now. A mark is made
    /// and waited for: what lightningd sent before it is recorded then.
    pub async fn all(&self, node: &Node, topic: &str) -> Result<Vec<Event>> {
        self.mark(node).await?;
        let mut events = self.recorded(node)?;
        events.retain(|event| event.topic == topic && !is_mark(event));
        Ok(events)
    }

    /// The one event of this topic that a node was told.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if none comes, [`Error::Answer`] if there are more.
    pub async fn only(&self, node: &Node, topic: &str) -> Result<Event> {
        let first = self.first(node, topic).await?;
        match &self.all(node, topic).await?[..] {
            [_] => Ok(first),
            more => Err(unexpected(
                node,
                format!("{} of `{topic}`, not one: {more:?}", more.len()),
            )),
        }
    }

    /// An error if a node was told anything of this topic.
    pub async fn none(&self, node: &Node, topic: &str) -> Result<()> {
        match self.all(node, topic).await?.first() {
            None => Ok(()),
            Some(event) => Err(unexpected(
                node,
                format!(
                    "nothing of `{topic}` may come here, there is {}",
                    event.line
                ),
            )),
        }
    }

    /// Makes an invoice that means nothing, and waits until its creation is
    /// recorded: one plugin's notifications come in the order they were sent.
    async fn mark(&self, node: &Node) -> Result<()> {
        let label = format!("{MARK}{}", self.marks.fetch_add(1, Ordering::Relaxed));
        node.invoice("any", &label, "a mark").await?;
        self.first_where(node, "invoice_creation", "of a mark", |payload| {
            payload["label"] == label.as_str()
        })
        .await
        .map(drop)
    }

    /// What was recorded, held against the table and against what lightningd
    /// says it sent.
    async fn report(&self, scenario: &Scenario) -> Result<Report> {
        let mut report = Report::new(scenario);
        for node in self.lab.nodes() {
            if !node.is_stopped().await {
                self.mark(node).await?;
            }
            let events = self.recorded(node)?;
            if self.has_oracle() {
                let sent = oracle::saved(&node.network_dir())?;
                report.compared += oracle::compare(node.name(), &sent, &events)?;
            }
            for event in events {
                self.hold_against_table(node, &event)?;
                if !is_mark(&event) {
                    let node = node.name().to_owned();
                    report.recorded.push(Recorded { node, event });
                }
            }
        }
        // As they came: the nodes share a clock.
        report
            .recorded
            .sort_by(|a, b| a.event.received_at.cmp(&b.event.received_at));
        Ok(report)
    }

    fn has_oracle(&self) -> bool {
        self.version.as_ref().is_some_and(oracle::available)
    }

    /// Every topic is in the table, and its payload is as the table says.
    fn hold_against_table(&self, node: &Node, event: &Event) -> Result<()> {
        let Some(topic) = Topic::find(&event.topic) else {
            // Another plugin's own.
            if event.origin.is_some() {
                return Ok(());
            }
            let why = format!(
                "topic `{}` is not in the table: {}",
                event.topic, event.line
            );
            return Err(unexpected(node, why));
        };
        if !self.at_least(26, 6) {
            return Ok(());
        }
        match objection(topic, &event.payload) {
            None => Ok(()),
            Some(why) => Err(unexpected(node, format!("{why}: {}", event.line))),
        }
    }
}

/// Which lightningd nodes of this kind are; `None` if they are embedded.
pub(super) async fn version_of(kind: NodeKind) -> Result<Option<Version>> {
    match kind {
        NodeKind::Embedded => Ok(None),
        NodeKind::Lightningd => binaries::implementation(&binaries::lightningd()?)
            .await
            .map(|node| node.lightningd().cloned()),
        NodeKind::Auto => binaries::lightningd_version().await,
    }
}

fn lab(
    scenario: &Scenario,
    kind: NodeKind,
    version: Option<&Version>,
) -> Result<cln_lab::LabBuilder> {
    let recorder: PathBuf = binaries::built(&RECORDER.to_uppercase(), RECORDER)?;
    let topics = match scenario.topics.contains(&"log") {
        true => "*,log",
        false => "*",
    };
    let recorder = Plugin::path(recorder)
        .option("eventlog-topics", topics)
        .option("eventlog-redact", false);
    let lab = Lab::builder()
        // What the weather plugin says at the worst level, on purpose.
        .allow_broken("plugin-weather.sh: hail")
        // One scenario kills it.
        .allow_plugin_death("weather.sh");
    Ok((0..scenario.nodes).fold(lab, |lab, _| {
        let mut node = NodeSpec::new().kind(kind).plugin(recorder.clone());
        if version.is_some() {
            node = LEFT_OUT
                .iter()
                .fold(node, |node, plugin| node.option("disable-plugin", plugin));
        }
        for (name, value) in scenario.options {
            node = match value {
                Some(value) => node.option(*name, value),
                None => node.flag(*name),
            };
        }
        if version.is_some_and(oracle::available) {
            node = node.option(oracle::OPTION, oracle::FOLDER);
        }
        lab.node(node)
    }))
}

fn is_mark(event: &Event) -> bool {
    let label = event.payload["label"].as_str();
    event.topic == "invoice_creation" && label.is_some_and(|label| label.starts_with(MARK))
}

fn unexpected(node: &Node, why: String) -> Error {
    Error::Answer {
        from: format!("{}: eventlog", node.name()),
        why,
    }
}

/// An error unless the event's member at `path` (`id`, or `address/port`) is this.
pub(super) fn same(event: &Event, path: &str, expected: impl Into<Value>) -> Result<()> {
    let expected = expected.into();
    let seen = event.payload.pointer(&format!("/{path}"));
    holds(seen.unwrap_or(&Value::Null) == &expected, || {
        format!("`{path}` should be {expected}: {}", event.line)
    })
}

/// An error unless the event's member at `path` is this amount, in millisatoshi.
pub(super) fn amount(event: &Event, path: &str, expected: u64) -> Result<()> {
    let seen = event.payload.pointer(&format!("/{path}"));
    holds(seen.and_then(msat) == Some(expected), || {
        format!("`{path}` should be {expected} msat: {}", event.line)
    })
}

/// An error unless the events came in this order.
pub(super) fn in_order(events: &[&Event]) -> Result<()> {
    let ordered = events.is_sorted_by(|a, b| a.seq < b.seq);
    holds(ordered, || {
        let lines: Vec<&str> = events.iter().map(|event| event.line.as_str()).collect();
        format!("expected in this order:\n    {}", lines.join("\n    "))
    })
}

/// An error that says `otherwise` unless this holds.
pub(super) fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    match condition {
        true => Ok(()),
        false => Err(Error::Answer {
            from: "scenario".to_owned(),
            why: otherwise(),
        }),
    }
}

/// The member of an answer that must be a string.
pub(super) fn text<'a>(answer: &'a Value, path: &str) -> Result<&'a str> {
    let member = answer.pointer(&format!("/{path}"));
    member.and_then(Value::as_str).ok_or_else(|| Error::Answer {
        from: "a node".to_owned(),
        why: format!("no string `{path}` in {answer}"),
    })
}

/// The hash of a preimage, both in hexadecimal.
pub(super) fn hash_of(preimage: &str) -> Result<String> {
    crate::hash_of(preimage).ok_or_else(|| Error::Answer {
        from: format!("preimage `{preimage}`"),
        why: "not 32 bytes in hexadecimal".to_owned(),
    })
}

/// What is wrong with a payload by the table: a member that is missing or that the
/// table does not have. `None` if nothing is.
fn objection(topic: &Topic, payload: &Value) -> Option<String> {
    let Some(members) = payload.as_object() else {
        return Some("not an object".to_owned());
    };
    let missing = topic
        .fields
        .iter()
        .find(|field| field.presence == Presence::Always && !members.contains_key(field.name));
    if let Some(field) = missing {
        return Some(format!("`{}` is missing", field.name));
    }
    let unknown = members
        .keys()
        .find(|key| topic.fields.iter().all(|field| field.name != *key));
    unknown.map(|key| format!("`{key}` is not in the table"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payload_is_held_against_its_members() {
        let topic = Topic::find("invoice_creation").expect("a topic");
        let objection = |payload| objection(topic, &payload);
        assert_eq!(objection(json!({"preimage": "00", "label": "l"})), None);
        let missing = objection(json!({"preimage": "00"}));
        assert_eq!(missing.as_deref(), Some("`label` is missing"));
        let more = objection(json!({"preimage": "00", "label": "l", "x": 1}));
        assert_eq!(more.as_deref(), Some("`x` is not in the table"));
        assert!(objection(json!([])).is_some());
    }
}
