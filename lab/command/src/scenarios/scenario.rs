//! A scenario: what triggers a topic, and what must be recorded then.

use futures_util::future::LocalBoxFuture;

use super::fixture::{Fixture, version_of};
use cln_lab::corpus::Message;
use cln_lab::{Error, Event, NodeKind, Plugin, Result};
use cln_topics::{Hook, Release, Topic};

/// Something to do with nodes, and the notifications they must receive.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The topic it is for, or a name that starts with that.
    pub name: &'static str,
    /// The topics that it triggers and checks.
    pub topics: &'static [&'static str],
    /// The hooks that it triggers and checks.
    pub hooks: &'static [&'static str],
    /// What is done.
    pub does: &'static str,
    /// How many nodes it needs.
    pub nodes: usize,
    /// Options of every node, without their dashes.
    pub options: &'static [(&'static str, Option<&'static str>)],
    /// Options that only a lightningd before this release needs.
    pub older: (Release, &'static [(&'static str, Option<&'static str>)]),
    /// Whether the embedded node can play it.
    pub embedded: bool,
    /// The first release that can play it, if later than that of its topics.
    pub since: Release,
    pub(super) run: Run,
}

pub(super) type Run = for<'a> fn(&'a Fixture) -> LocalBoxFuture<'a, Result<()>>;

impl Scenario {
    pub(super) const fn new(
        name: &'static str,
        topics: &'static [&'static str],
        nodes: usize,
        does: &'static str,
        run: Run,
    ) -> Scenario {
        Scenario {
            name,
            topics,
            hooks: &[],
            does,
            nodes,
            options: &[],
            older: (Release(0, 0), &[]),
            embedded: false,
            since: Release(0, 0),
            run,
        }
    }

    pub(super) const fn embedded(mut self) -> Scenario {
        self.embedded = true;
        self
    }

    pub(super) const fn since(mut self, major: u16, minor: u16) -> Scenario {
        self.since = Release(major, minor);
        self
    }

    /// One for hooks.
    pub(super) const fn hooks(mut self, hooks: &'static [&'static str]) -> Scenario {
        self.hooks = hooks;
        self
    }

    pub(super) const fn options_before(
        mut self,
        (major, minor): (u16, u16),
        options: &'static [(&'static str, Option<&'static str>)],
    ) -> Scenario {
        self.older = (Release(major, minor), options);
        self
    }

    pub(super) const fn options(
        mut self,
        options: &'static [(&'static str, Option<&'static str>)],
    ) -> Scenario {
        self.options = options;
        self
    }

    /// Why nodes of this kind cannot play it; `None` if they can.
    ///
    /// # Errors
    /// If lightningd is wanted and not found.
    pub async fn skipped_because(&self, kind: NodeKind) -> Result<Option<String>> {
        let Some(version) = version_of(kind).await? else {
            let reason = "the embedded node cannot play it";
            return Ok((!self.embedded).then(|| reason.to_owned()));
        };
        let topics = self.topics.iter().filter_map(|name| Topic::find(name));
        let gone = topics
            .clone()
            .filter_map(|topic| topic.until)
            .find(|until| version.release() >= *until);
        if let Some(until) = gone {
            return Ok(Some(format!(
                "needs lightningd before {until}, this is {version}"
            )));
        }
        let hooks = self.hooks.iter().filter_map(|name| Hook::find(name));
        let since = topics.map(|topic| topic.since);
        let since = since
            .chain(hooks.map(|hook| hook.since))
            .chain([self.since]);
        let since = since.max();
        let since = since.unwrap_or(self.since);
        let old = version.release() < since;
        Ok(old.then(|| format!("needs lightningd {since} or later, this is {version}")))
    }

    /// Plays it on nodes of this kind, from its lab's start to its end. What was
    /// recorded is compared with the table and with what lightningd saved as sent.
    ///
    /// # Errors
    /// The first check that fails.
    pub async fn play(&self, kind: NodeKind) -> Result<Recording> {
        let fixture = Fixture::start(kind, self, None).await?;
        let lab = fixture.lab();
        lab.while_alive((self.run)(&fixture)).await?;
        let mut recording = Recording::default();
        for node in lab.nodes() {
            let (mut events, compared) = fixture.compared(node).await?;
            events.retain(|event| self.topics.contains(&event.topic.as_str()));
            let of_node = events
                .into_iter()
                .map(|event| (node.name().to_owned(), event));
            recording.events.extend(of_node);
            recording.compared += compared;
        }
        // In the order of arrival: the nodes share a clock.
        recording
            .events
            .sort_by(|(_, a), (_, b)| a.received_at.cmp(&b.received_at));
        recording.messages = fixture.stop(self.name).await?;
        Ok(recording)
    }

    /// Plays it with this plugin on each node, beside the recorder, and without the
    /// comparison: the lines of the nodes' logs and outputs that `looks_bad`.
    ///
    /// # Errors
    /// [`cln_lab::Error::Gate`] with what went wrong on the nodes, such as the plugin's
    /// end; else the first check that fails.
    pub async fn play_beside(
        &self,
        kind: NodeKind,
        plugin: &Plugin,
        looks_bad: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        let fixture = Fixture::start(kind, self, Some(plugin)).await?;
        let lab = fixture.lab();
        let played = lab.while_alive((self.run)(&fixture)).await;
        let mut bad = Vec::new();
        for node in lab.nodes() {
            let mut lines = node.log().lines_with("")?;
            lines.extend(node.output().lines_with("")?);
            bad.extend(lines.into_iter().filter(|line| looks_bad(line)));
        }
        let stopped = fixture.stop(self.name).await;
        // What went wrong on a node is why a check failed, not the other way round.
        match (played, stopped) {
            (_, Err(gate @ Error::Gate(_))) => Err(gate),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok(_)) => Ok(bad),
        }
    }
}

/// What the nodes of a scenario recorded.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// Every notification of the scenario's topics, with the node that received it,
    /// in the order of arrival.
    pub events: Vec<(String, Event)>,
    /// How many messages, of any topic, were compared with what lightningd saved as
    /// sent (`--dev-save-plugin-io`); 0 where it has no such option.
    pub compared: usize,
    /// Everything that lightningd sent to a plugin or answered, of any topic; nothing if
    /// the nodes are embedded.
    pub messages: Vec<Message>,
}
