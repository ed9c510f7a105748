//! Describes a node: everything that can be set for it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Allowed, Lean, Plugin};
use crate::{Error, Implementation, Result, binaries};

/// Which program a node runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    /// The value of `LAB_NODE`: `auto`, `lightningd` or `embedded`; `auto` if it is not
    /// set.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other value.
    pub fn from_env() -> Result<NodeKind> {
        match std::env::var_os("LAB_NODE") {
            Some(text) if !text.is_empty() => text.to_string_lossy().parse(),
            _ => Ok(NodeKind::Auto),
        }
    }

    /// The program that nodes of this kind run here, and which it is.
    ///
    /// # Errors
    /// [`Error::NotFound`], or what is wrong with the one that is found: it cannot be
    /// run, or is of the other kind.
    pub async fn find(self) -> Result<(PathBuf, Implementation)> {
        let program = self.program()?;
        let is = binaries::implementation(&program).await?;
        self.check(&program, &is)?;
        Ok((program, is))
    }

    fn program(self) -> Result<PathBuf> {
        match self {
            NodeKind::Embedded => binaries::embedded(),
            NodeKind::Lightningd => binaries::lightningd(),
            // A LIGHTNINGD that cannot be run is a mistake to report, not a reason to
            // run something else.
            NodeKind::Auto => match binaries::lightningd() {
                Err(error) if std::env::var_os("LIGHTNINGD").is_none_or(|v| v.is_empty()) => {
                    binaries::embedded().map_err(|embedded| neither(error, embedded))
                }
                found => found,
            },
        }
    }

    fn check(self, program: &Path, is: &Implementation) -> Result<()> {
        let (variable, wanted) = match (self, is) {
            (NodeKind::Embedded, Implementation::Lightningd(_)) => {
                ("CLN_EMBEDDED", "the embedded node")
            }
            (NodeKind::Lightningd, Implementation::Embedded(_)) => ("LIGHTNINGD", "lightningd"),
            _ => return Ok(()),
        };
        Err(Error::usage(format!(
            "a node is to be {wanted}, but {} is {is}: correct {variable}, or unset it",
            program.display()
        )))
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

/// Describes one node of a lab.
///
/// Whatever can be set for a node is a member here, also what
/// [`LabBuilder`](crate::LabBuilder) sets for all nodes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeSpec {
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<NodeKind>,
    program: Option<PathBuf>,
    /// Each a line of the `config` file: name, and value if it takes one.
    pub(crate) options: Vec<(String, Option<String>)>,
    /// Arguments of its command line.
    pub(crate) arguments: Vec<String>,
    /// Plugins it starts with, which must be active before it counts as up.
    pub(crate) plugins: Vec<Plugin>,
    /// Variables of its environment, over those of this process.
    pub(crate) env: Vec<(String, String)>,
    /// Which of lightningd's own plugins it runs without.
    pub(crate) lean: Option<Lean>,
    pub(crate) allowed: Allowed,
}

impl NodeSpec {
    /// A node that differs in nothing from the others of its lab.
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

    /// Runs this executable, a lightningd or a `cln-embedded`; its `--version` says
    /// which of the two it is.
    #[must_use]
    pub fn lightningd(mut self, program: impl Into<PathBuf>) -> NodeSpec {
        self.program = Some(program.into());
        self
    }

    /// Adds an option of lightningd, without its dashes.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl ToString) -> NodeSpec {
        self.options.push((name.into(), Some(value.to_string())));
        self
    }

    /// Adds an option of lightningd that takes no value.
    #[must_use]
    pub fn flag(mut self, name: impl Into<String>) -> NodeSpec {
        self.options.push((name.into(), None));
        self
    }

    /// Adds an argument to its command line, which counts over its `config` file:
    /// `--fee-base=10`. An option can be in the file instead: [`NodeSpec::option`].
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> NodeSpec {
        self.arguments.push(argument.into());
        self
    }

    /// True if this option is set for the node.
    pub(super) fn sets(&self, name: &str) -> bool {
        let argument = |argument: &String| {
            let option = argument.trim_start_matches("--");
            option.split('=').next() == Some(name)
        };
        self.options.iter().any(|(option, _)| option == name) || self.arguments.iter().any(argument)
    }

    /// Starts this plugin with the node.
    #[must_use]
    pub fn plugin(mut self, plugin: Plugin) -> NodeSpec {
        self.plugins.push(plugin);
        self
    }

    /// Sets a variable of its environment, which its plugins inherit. The last one of
    /// a name counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> NodeSpec {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Allows BROKEN lines with this text in its log; any other is an error of
    /// [`Lab::stop`](crate::Lab::stop).
    #[must_use]
    pub fn allow_broken(mut self, text: impl Into<String>) -> NodeSpec {
        self.allowed.broken.push(text.into());
        self
    }

    /// Allows the plugin of this file name (`*`: any plugin) to die while the node
    /// runs; the death of any other is an error of [`Lab::stop`](crate::Lab::stop), and
    /// of whatever waits for events of this node.
    #[must_use]
    pub fn allow_plugin_death(mut self, name: impl Into<String>) -> NodeSpec {
        self.allowed.plugin_deaths.push(name.into());
        self
    }

    /// Allows the node itself to crash, or to end with an error.
    #[must_use]
    pub fn may_fail(mut self) -> NodeSpec {
        self.allowed.failure = true;
        self
    }

    /// This spec, for every node, with what `own` sets for one of them: of lists both,
    /// of single values the node's own.
    pub(crate) fn with(&self, own: &NodeSpec) -> NodeSpec {
        let mut spec = self.clone();
        spec.options.extend_from_slice(&own.options);
        spec.arguments.extend_from_slice(&own.arguments);
        spec.plugins.extend_from_slice(&own.plugins);
        spec.env.extend_from_slice(&own.env);
        spec.allowed.extend(&own.allowed);
        NodeSpec {
            name: own.name.clone().or(spec.name),
            kind: own.kind.or(spec.kind),
            program: own.program.clone().or(spec.program),
            lean: own.lean.clone().or(spec.lean),
            ..spec
        }
    }

    /// What it sets that stays for a node's life, if it sets any of that.
    pub(super) fn sets_for_life(&self) -> Option<&'static str> {
        if self.name.is_some() {
            Some("its name")
        } else if self.kind.is_some() || self.program.is_some() {
            Some("its program")
        } else if self.lean.is_some() {
            Some("what it leaves out")
        } else if !self.allowed.is_empty() {
            Some("what may go wrong on it")
        } else {
            None
        }
    }

    /// The executable for the node.
    ///
    /// # Errors
    /// [`Error::NotFound`] with what to do.
    pub(crate) fn program(&self) -> Result<PathBuf> {
        match &self.program {
            Some(path) => Ok(path.clone()),
            None => self.kind.unwrap_or_default().program(),
        }
    }

    /// Checks that this executable, found for the node, is of the node's kind.
    ///
    /// # Errors
    /// [`Error::Usage`] with the variable that names another.
    pub(crate) fn check(&self, program: &Path, is: &Implementation) -> Result<()> {
        match &self.program {
            Some(_) => Ok(()),
            None => self.kind.unwrap_or_default().check(program, is),
        }
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
