//! A running lab whose every node has a recorder: where a scenario is played.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::checks::{difference, unexpected};
use super::oracle::{self, RECORDER};
use super::scenario::Scenario;
use super::witness::Witness;
use cln_lab::corpus::{Kind, Message};
use cln_lab::{
    Event, Events, Keep, Lab, Node, NodeKind, NodeSpec, Plugin, Probe, Result, Version, binaries,
    eventually,
};
use cln_topics::{Hook, Topic};

/// Plugins shipped with lightningd that no scenario needs. Each is a process, and
/// starts with the node.
///
/// `LabBuilder::lean` keeps what its capabilities need, and none of them needs
/// `offers` and `fetchinvoice`, which scenarios do. It never leaves out `autoclean`,
/// because lightningd waits for a plugin of its own beside `bcli` at its start; here
/// the recorder is that plugin.
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

/// A running lab whose nodes record every notification.
#[derive(Debug)]
pub(super) struct Fixture {
    lab: Lab,
    version: Option<Version>,
    /// On each node, if they are lightningd.
    witness: Option<Witness>,
    /// What nodes have answered, as they wrote it.
    answers: Mutex<Vec<(Kind, String, String)>>,
    /// Whether deprecated APIs are on.
    deprecated: bool,
    marks: AtomicU32,
}

impl Fixture {
    /// Starts as many nodes of this kind as the scenario needs, with its options; `log`
    /// is recorded only if it is among its topics. With a guest, a plugin of somebody's,
    /// failures are the caller's to report.
    pub(super) async fn start(
        kind: NodeKind,
        scenario: &Scenario,
        guest: Option<&Plugin>,
    ) -> Result<Fixture> {
        let version = version_of(kind).await?;
        let with_log = scenario.topics.contains(&"log");
        let recorder = binaries::built(&RECORDER.to_uppercase(), RECORDER)?;
        let log = if with_log { ",log" } else { "" };
        let recorder = Plugin::path(recorder)
            .option("eventlog-topics", format!("*{log}"))
            .option("eventlog-redact", false);
        let mut node = NodeSpec::new().kind(kind).plugin(recorder);
        if let Some(version) = &version {
            for plugin in LEFT_OUT {
                node = node.option("disable-plugin", plugin);
            }
            if oracle::available(version) {
                node = node.option(oracle::OPTION, oracle::FOLDER);
            }
        }
        let witness = match &version {
            Some(version) => Some(Witness::create(version, with_log, scenario.hooks)?),
            None => None,
        };
        if let Some(witness) = &witness {
            node = node.plugin(witness.plugin());
        }
        if let Some(guest) = guest {
            node = node.plugin(guest.clone());
        }
        let (before, older) = scenario.older;
        let is_older = |version: &Version| version.release() < before;
        let older = older
            .iter()
            .filter(|_| version.as_ref().is_some_and(is_older));
        for (name, value) in scenario.options.iter().chain(older) {
            node = match value {
                Some(value) => node.option(*name, value),
                None => node.flag(*name),
            };
        }
        let keep = if guest.is_some() {
            Keep::Never
        } else {
            Keep::Failed
        };
        let lab = Lab::builder()
            .keep(keep)
            // What the weather plugin logs at the worst level, on purpose.
            .allow_broken("plugin-weather.sh: hail")
            // One scenario kills it.
            .allow_plugin_death("weather.sh");
        Ok(Fixture {
            lab: (0..scenario.nodes)
                .fold(lab, |lab, _| lab.node(node.clone()))
                .start()
                .await?,
            version,
            witness,
            answers: Mutex::default(),
            deprecated: !scenario
                .options
                .contains(&("allow-deprecated-apis", Some("false"))),
            marks: AtomicU32::new(0),
        })
    }

    /// Stops it; everything that was sent to the witness or answered.
    pub(super) async fn stop(self, scenario: &str) -> Result<Vec<Message>> {
        self.lab.stop().await?;
        let message = |kind, name: String, message| Message {
            kind,
            name,
            form: String::new(),
            deprecated: self.deprecated,
            scenario: scenario.to_owned(),
            message,
        };
        let mut messages = Vec::new();
        for heard in self
            .witness
            .iter()
            .map(Witness::heard)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
        {
            messages.push(message(
                Kind::Environment,
                String::new(),
                heard.environment.to_string(),
            ));
            for text in heard.messages {
                let (kind, name) = kind_of(&text)?;
                messages.push(message(kind, name, text));
            }
        }
        let answers = self
            .answers
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        messages.extend(
            answers
                .into_iter()
                .map(|(kind, name, text)| message(kind, name, text)),
        );
        Ok(messages)
    }

    /// Waits until this hook was called on a node with parameters for which `test` holds;
    /// `what` describes them in the error.
    pub(super) async fn hook_where(
        &self,
        node: &Node,
        hook: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let awaited = format!("the hook `{hook}` {what} on {}", node.name());
        eventually(awaited, ARRIVES, async || {
            let calls = self.calls(node, hook)?;
            Ok(match calls.iter().find(|params| test(params)) {
                Some(params) => Probe::Ready(params.clone()),
                None => Probe::NotYet(format!("called {} times: {calls:?}", calls.len())),
            })
        })
        .await
    }

    /// The parameters of every call of this hook, or other request, on a node so far.
    pub(super) fn calls(&self, node: &Node, method: &str) -> Result<Vec<Value>> {
        let mut calls = Vec::new();
        let heard = self
            .witness
            .iter()
            .map(Witness::heard)
            .collect::<Result<Vec<_>>>()?;
        for heard in heard
            .into_iter()
            .flatten()
            .filter(|heard| heard.node == node.name())
        {
            for message in heard.messages {
                let mut message: Value = serde_json::from_str(&message).unwrap_or_default();
                if message["method"] == method {
                    calls.push(message["params"].take());
                }
            }
        }
        Ok(calls)
    }

    /// The plugin on each node that keeps what it is sent.
    ///
    /// # Errors
    /// If the nodes are embedded, which have none.
    pub(super) fn witness(&self) -> Result<&Witness> {
        self.witness
            .as_ref()
            .ok_or_else(|| unexpected("a node", "it has no witness"))
    }

    /// Keeps what a node answered or printed.
    pub(super) fn keep(&self, kind: Kind, name: &str, text: String) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push((kind, name.to_owned(), text));
    }

    /// The lab.
    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its first two nodes.
    pub(super) fn pair(&self) -> (&Node, &Node) {
        (self.lab.l1(), self.lab.l2())
    }

    /// True if the nodes are a lightningd from this release on, or embedded.
    pub(super) fn at_least(&self, year: u16, month: u16) -> bool {
        self.version
            .as_ref()
            .is_none_or(|version| version.at_least(year, month))
    }

    /// Everything a node has recorded by now.
    pub(super) fn recorded(&self, node: &Node) -> Result<Vec<Event>> {
        Events::open(node.network_dir().join("eventlog.jsonl")).pending()
    }

    /// Waits for the first event of this topic on a node.
    pub(super) async fn first(&self, node: &Node, topic: &str) -> Result<Event> {
        self.first_where(node, topic, "", |_| true).await
    }

    /// Waits for the first event of this topic on a node for whose payload
    /// `test` holds; `what` describes it in the error.
    pub(super) async fn first_where(
        &self,
        node: &Node,
        topic: &str,
        what: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Result<Event> {
        let awaited = format!("{} to receive `{topic}` {what}", node.name());
        eventually(awaited, ARRIVES, async || {
            node.check_alive().await?;
            let events = self.recorded(node)?;
            let of_topic: Vec<&Event> = events.iter().filter(|e| e.topic == topic).collect();
            Ok(match of_topic.iter().find(|event| test(&event.payload)) {
                Some(event) => Probe::Ready((*event).clone()),
                None => Probe::NotYet(match of_topic.last() {
                    Some(last) => format!("{} of them, the last: {}", of_topic.len(), last.line),
                    None => format!("none among {} recorded", events.len()),
                }),
            })
        })
        .await
    }

    /// Everything of this topic that a node has received. A mark is made and waited
    /// for: what lightningd sent before it is recorded by then.
    pub(super) async fn all(&self, node: &Node, topic: &str) -> Result<Vec<Event>> {
        self.mark(node).await?;
        let mut events = self.recorded(node)?;
        events.retain(|event| event.topic == topic && !is_mark(event));
        Ok(events)
    }

    /// The one event of this topic that a node has received.
    ///
    /// # Errors
    /// [`cln_lab::Error::TimedOut`] if none comes, [`cln_lab::Error::Answer`] if there
    /// are more.
    pub(super) async fn only(&self, node: &Node, topic: &str) -> Result<Event> {
        let first = self.first(node, topic).await?;
        match &self.all(node, topic).await?[..] {
            [_] => Ok(first),
            more => Err(bad_record(
                node,
                format!("{} of `{topic}`, not one: {more:?}", more.len()),
            )),
        }
    }

    /// An error if a node has received anything of this topic.
    pub(super) async fn none(&self, node: &Node, topic: &str) -> Result<()> {
        match self.all(node, topic).await?.first() {
            None => Ok(()),
            Some(event) => Err(bad_record(
                node,
                format!("expected nothing of `{topic}`, there is {}", event.line),
            )),
        }
    }

    /// Everything a node has received, compared with the table and with what
    /// lightningd saved as sent; and how many messages the latter were.
    ///
    /// # Errors
    /// [`cln_lab::Error::Answer`] with the first difference.
    pub(super) async fn compared(&self, node: &Node) -> Result<(Vec<Event>, usize)> {
        if !node.is_stopped().await {
            self.mark(node).await?;
        }
        let mut events = self.recorded(node)?;
        let mut compared = 0;
        if self.version.as_ref().is_some_and(oracle::available) {
            let sent = oracle::saved(&node.network_dir())?;
            compared = oracle::compare(node.name(), &sent, &events)?;
        }
        for event in &events {
            if let Some(why) = self.difference(event) {
                return Err(bad_record(node, format!("{why}: {}", event.line)));
            }
        }
        events.retain(|event| !is_mark(event));
        Ok((events, compared))
    }

    /// How an event differs from the table, which has the payloads of v26.06.
    fn difference(&self, event: &Event) -> Option<String> {
        match Topic::find(&event.topic) {
            Some(topic) if self.at_least(26, 6) => difference(topic, &event.payload),
            // Another plugin's own.
            None if event.origin.is_none() => {
                Some(format!("topic `{}` is not in the table", event.topic))
            }
            _ => None,
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
}

/// What a message to a plugin is, and its name.
fn kind_of(message: &str) -> Result<(Kind, String)> {
    let json: Value = serde_json::from_str(message)
        .map_err(|error| unexpected(format!("message `{message}`"), error.to_string()))?;
    let method = json["method"].as_str().unwrap_or_default();
    let kind = match method {
        _ if json.get("id").is_none() => Kind::Notification,
        "getmanifest" => Kind::Manifest,
        "init" => Kind::Init,
        hook if Hook::find(hook).is_some() => Kind::Hook,
        _ => Kind::Request,
    };
    Ok((kind, method.to_owned()))
}

/// Which lightningd nodes of this kind are; `None` if they are embedded.
pub(super) async fn version_of(kind: NodeKind) -> Result<Option<Version>> {
    let (_, node) = kind.find().await?;
    Ok(node.lightningd().cloned())
}

fn is_mark(event: &Event) -> bool {
    let label = event.payload["label"].as_str();
    event.topic == "invoice_creation" && label.is_some_and(|label| label.starts_with(MARK))
}

fn bad_record(node: &Node, why: String) -> cln_lab::Error {
    unexpected(format!("{}: eventlog", node.name()), why)
}
