//! What was found: a code, what was sent, what came back.

use std::fmt;
use std::time::Duration;

use super::codes::Code;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It works today, but not everywhere or not for long.
    Warning,
    /// The plugin fails on a node of this release, or the node does.
    Error,
}

impl Level {
    /// `!` or `✗`.
    pub fn mark(self) -> &'static str {
        match self {
            Level::Warning => "!",
            Level::Error => "✗",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Warning => "warning",
            Level::Error => "error",
        })
    }
}

/// The parts of a check, in the order in which they are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// `getmanifest`, and what the answer says.
    Manifest,
    /// `init`.
    Init,
    /// The plugin's methods.
    Methods,
    /// The hooks it registered.
    Hooks,
    /// The topics it subscribed to.
    Topics,
    /// Pieces of messages, and many at once.
    Stream,
    /// `shutdown`, and the end of its input.
    End,
    /// On running nodes, where that is asked for.
    Node,
}

impl Stage {
    /// Those of recorded messages, in order.
    pub const RECORDED: [Stage; 7] = [
        Stage::Manifest,
        Stage::Init,
        Stage::Methods,
        Stage::Hooks,
        Stage::Topics,
        Stage::Stream,
        Stage::End,
    ];
    /// Those of a running node, in order.
    pub const ON_NODE: [Stage; 4] = [Stage::Manifest, Stage::Init, Stage::Methods, Stage::Node];

    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Manifest => "manifest",
            Stage::Init => "init",
            Stage::Methods => "methods",
            Stage::Hooks => "hooks",
            Stage::Topics => "topics",
            Stage::Stream => "stream",
            Stage::End => "end",
            Stage::Node => "node",
        }
    }
}

/// Something that is wrong on one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub code: &'static Code,
    /// How bad it is here.
    pub level: Level,
    /// When it was seen.
    pub stage: Stage,
    /// What it is about: a topic and form, an option. The same on every release.
    pub subject: String,
    /// What is wrong, in one line.
    pub text: String,
    /// The message that was sent.
    pub sent: Option<String>,
    /// What came back.
    pub came: Option<String>,
    /// The plugin had asked the node for something that nothing here can answer as the node
    /// would: it proves little.
    pub doubtful: bool,
}

impl Finding {
    /// A finding at the level of its code.
    pub fn new(
        code: &'static Code,
        subject: impl Into<String>,
        text: impl Into<String>,
    ) -> Finding {
        Finding {
            code,
            level: code.level,
            stage: code.stage,
            subject: subject.into(),
            text: text.into(),
            sent: None,
            came: None,
            doubtful: false,
        }
    }

    /// With the message that was sent.
    #[must_use]
    pub fn sent(mut self, message: impl Into<String>) -> Finding {
        self.sent = Some(message.into());
        self
    }

    /// With what came back.
    #[must_use]
    pub fn came(mut self, text: impl Into<String>) -> Finding {
        self.came = Some(text.into());
        self
    }

    /// At another level than its code's.
    #[must_use]
    pub fn level(mut self, level: Level) -> Finding {
        self.level = level;
        self
    }
}

/// What was seen of one release.
#[derive(Debug, Clone)]
pub struct Report {
    /// The release's version, or the name and version of the node that was played on.
    pub release: String,
    /// The stages that it has.
    pub stages: &'static [Stage],
    /// What went wrong.
    pub findings: Vec<Finding>,
    /// The stages that were played to their end.
    pub played: Vec<Stage>,
    /// The hooks and topics that were played.
    pub subjects: Vec<(Stage, String)>,
    /// How many messages were sent.
    pub sent: usize,
    /// The topics and hooks of the plugin that the release has, but of which no message was
    /// recorded: they were not played.
    pub unrecorded: Vec<String>,
    /// The time from the plugin's start to its answer to `init`.
    pub start: Duration,
    /// The time from the plugin's start to the end of the check.
    pub took: Duration,
}

impl Report {
    /// How bad a stage is: `None` if nothing was found.
    pub fn worst(&self, stage: Stage) -> Option<Level> {
        let levels = self
            .findings
            .iter()
            .filter(|finding| finding.stage == stage);
        levels.map(|finding| finding.level).max()
    }

    /// The mark of a stage: `✓`, `!`, `✗`, or `-` if it was not played.
    pub fn mark(&self, stage: Stage) -> &'static str {
        match self.worst(stage) {
            Some(level) => level.mark(),
            None if self.played.contains(&stage) => "✓",
            None => "-",
        }
    }
}
