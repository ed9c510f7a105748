//! What a node of a lab is to be.

use std::path::PathBuf;

use crate::node::{Allowed, Plugin};
use crate::{Error, Result, binaries};

/// Which program the nodes are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeKind {
    /// lightningd if it is found, else the embedded node.
    #[default]
    Auto,
    /// lightningd; an error if it is not found.
    Lightningd,
    /// The embedded node, `cln-embedded`.
    Embedded,
}

impl NodeKind {
    /// What `LAB_NODE` says: `auto`, `lightningd` or `embedded`; `auto` if it is not set.
    pub fn from_env() -> Result<NodeKind> {
        match std::env::var("LAB_NODE") {
            Ok(text) if !text.is_empty() => text.parse(),
            _ => Ok(NodeKind::Auto),
        }
    }
}

impl std::str::FromStr for NodeKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<NodeKind> {
        match text {
            "auto" => Ok(NodeKind::Auto),
            "lightningd" => Ok(NodeKind::Lightningd),
            "embedded" => Ok(NodeKind::Embedded),
            _ => Err(Error::usage(format!(
                "node kind `{text}`: use auto, lightningd or embedded"
            ))),
        }
    }
}

/// One node of a lab to be.
#[derive(Debug, Clone, Default)]
pub struct NodeSpec {
    name: Option<String>,
    kind: Option<NodeKind>,
    program: Option<PathBuf>,
    pub(crate) options: Vec<(String, Option<String>)>,
    pub(crate) plugins: Vec<Plugin>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) allowed: Allowed,
}

impl NodeSpec {
    /// A node like any other of its lab.
    pub fn new() -> NodeSpec {
        NodeSpec::default()
    }

    /// Names it; by default nodes are `l1`, `l2`, … by their place.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> NodeSpec {
        self.name = Some(name.into());
        self
    }

    /// Chooses the program for this node.
    #[must_use]
    pub fn kind(mut self, kind: NodeKind) -> NodeSpec {
        self.kind = Some(kind);
        self
    }

    /// Runs this very executable, a lightningd or a `cln-embedded`: which of the two
    /// it is, its `--version` says.
    #[must_use]
    pub fn lightningd(mut self, program: impl Into<PathBuf>) -> NodeSpec {
        self.program = Some(program.into());
        self
    }

    /// Adds an option of lightningd's, without its dashes.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> NodeSpec {
        self.options.push((name.into(), Some(value.to_string())));
        self
    }

    /// Adds an option of lightningd's that takes no value.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>) -> NodeSpec {
        self.options.push((name.into(), None));
        self
    }

    /// Starts this plugin with the node.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> NodeSpec {
        self.plugins.push(plugin);
        self
    }

    /// Sets a variable of its environment, which its plugins have as well. A later
    /// one of the same name stands.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> NodeSpec {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets its log have BROKEN lines with this text; any other is an error of
    /// [`Lab::stop`](crate::Lab::stop).
    #[must_use]
    pub fn allow_broken(mut self, text: impl Into<String>) -> NodeSpec {
        self.allowed.broken.push(text.into());
        self
    }

    /// Lets the plugin of this file name (`*`: any plugin) die while the node runs; any other that
    /// does is an error of [`Lab::stop`](crate::Lab::stop), and of whatever waits
    /// for events of this node.
    #[must_use]
    pub fn allow_plugin_death(mut self, name: impl Into<String>) -> NodeSpec {
        self.allowed.plugin_deaths.push(name.into());
        self
    }

    /// Lets the node itself crash, or end with an error.
    #[must_use]
    pub fn may_fail(mut self) -> NodeSpec {
        self.allowed.failure = true;
        self
    }
}

/// The executable for a node.
///
/// # Errors
/// [`Error::NotFound`] with what to do.
pub(crate) fn program(spec: &NodeSpec, default: NodeKind) -> Result<PathBuf> {
    match (&spec.program, spec.kind.unwrap_or(default)) {
        (Some(path), _) => Ok(path.clone()),
        (None, NodeKind::Embedded) => binaries::embedded(),
        (None, NodeKind::Lightningd) => binaries::lightningd(),
        // A LIGHTNINGD that cannot be run is a mistake to report, not a reason to
        // run something else.
        (None, NodeKind::Auto) => match binaries::lightningd() {
            Err(error) if std::env::var_os("LIGHTNINGD").is_none_or(|v| v.is_empty()) => {
                binaries::embedded().map_err(|embedded| neither(error, embedded))
            }
            found => found,
        },
    }
}

/// Neither lightningd nor the embedded node is there: both remedies.
fn neither(lightningd: Error, embedded: Error) -> Error {
    match (lightningd, embedded) {
        (
            Error::NotFound { tried, remedy, .. },
            Error::NotFound {
                tried: tried_embedded,
                remedy: remedy_embedded,
                ..
            },
        ) => Error::NotFound {
            what: "lightningd, and the embedded node (cln-embedded) in its place,".to_owned(),
            tried: format!("{tried}; for the embedded node {tried_embedded}"),
            remedy: format!("for lightningd: {remedy}\n  for the embedded node: {remedy_embedded}"),
        },
        (_, error) => error,
    }
}

/// The nodes' names, each once, and fit to be a folder's.
pub(crate) fn names(specs: &[NodeSpec]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::with_capacity(specs.len());
    for (n, spec) in specs.iter().enumerate() {
        let name = spec.name.clone().unwrap_or_else(|| format!("l{}", n + 1));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name == "bitcoind" || !name.chars().all(plain) {
            return Err(Error::usage(format!(
                "node name `{name}`: use letters, digits, - and _, and not `bitcoind`"
            )));
        }
        if names.contains(&name) {
            return Err(Error::usage(format!("two nodes are named `{name}`")));
        }
        names.push(name);
    }
    Ok(names)
}
