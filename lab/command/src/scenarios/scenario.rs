//! A scenario: what makes lightningd send a topic, and what must be recorded then.

use futures_util::future::LocalBoxFuture;

use super::fixture::{Stage, version_of};
use cln_lab::{Event, NodeKind, Result};
use cln_topics::{Release, Topic};

/// Something to do with nodes, and what they must be told of it.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name: the topic it is for, or begins with that.
    pub name: &'static str,
    /// The topics whose messages it makes and checks.
    pub topics: &'static [&'static str],
    /// What is done.
    pub does: &'static str,
    /// How many nodes it takes.
    pub nodes: usize,
    /// Options of lightningd's that every node has.
    pub options: &'static [(&'static str, Option<&'static str>)],
    /// Whether the embedded node can play it.
    pub embedded: bool,
    /// The first release that can, where its topics alone do not say.
    pub since: Release,
    pub(super) run: Run,
}

pub(super) type Run = for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<()>>;

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
            does,
            nodes,
            options: &[],
            embedded: false,
            since: Release(0, 0),
            run,
        }
    }

    /// The embedded node can play it, too.
    pub(super) const fn embedded(mut self) -> Scenario {
        self.embedded = true;
        self
    }

    /// Only from this release on.
    pub(super) const fn since(mut self, major: u16, minor: u16) -> Scenario {
        self.since = Release(major, minor);
        self
    }

    /// Each node has these options.
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
            let reason = "the embedded node cannot";
            return Ok((!self.embedded).then(|| reason.to_owned()));
        };
        let topics = self.topics.iter().filter_map(|name| Topic::find(name));
        let gone = topics
            .clone()
            .filter_map(|topic| topic.until)
            .find(|until| version.release() >= *until);
        if let Some(until) = gone {
            return Ok(Some(format!("until {until}, lightningd is {version}")));
        }
        let since = topics.map(|topic| topic.since).chain([self.since]).max();
        let since = since.unwrap_or(self.since);
        let old = version.release() < since;
        Ok(old.then(|| format!("from {since} on, lightningd is {version}")))
    }

    /// Plays it on nodes of this kind. What was recorded is checked by then, and
    /// its lab is gone.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub async fn play(&self, kind: NodeKind) -> Result<Report> {
        Stage::play(self, kind).await
    }
}

/// What the nodes of a scenario were told.
#[derive(Debug, Clone)]
pub struct Report {
    /// The scenario's name.
    pub scenario: &'static str,
    /// The scenario's topics.
    pub topics: &'static [&'static str],
    /// Everything that was recorded, in the order it came.
    pub recorded: Vec<Recorded>,
    /// How many messages were held against what lightningd says it sent: see
    /// `--dev-save-plugin-io`; 0 where it has no such option.
    pub compared: usize,
}

/// One notification that a node was told.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The node.
    pub node: String,
    /// The notification.
    pub event: Event,
}

impl Report {
    pub(super) fn new(scenario: &Scenario) -> Report {
        Report {
            scenario: scenario.name,
            topics: scenario.topics,
            recorded: Vec::new(),
            compared: 0,
        }
    }

    /// What was recorded of the scenario's own topics.
    pub fn told(&self) -> impl Iterator<Item = &Recorded> {
        let own = |recorded: &&Recorded| self.topics.contains(&recorded.event.topic.as_str());
        self.recorded.iter().filter(own)
    }
}
