//! What may go wrong on a node.

use std::sync::Mutex;

use cln_topics::Release;
use serde::{Deserialize, Serialize};

use super::trouble::Trouble;
use crate::Implementation;
use crate::lock::lock;

/// BROKEN lines that a release logs by a fault of its own: from this release on, before
/// that one, what the line says.
const OF_LIGHTNINGD: &[(Release, Release, &str)] = &[
    // gossipd marks the gossip about a closed channel twice.
    (Release(24, 2), Release(24, 11), "gossip_store flag-2048 @"),
];

/// What a test allows to go wrong on a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Allowed {
    /// Text in a BROKEN line.
    pub broken: Vec<String>,
    /// Names of plugins that may die.
    pub plugin_deaths: Vec<String>,
    /// The daemon itself may die, or end with an error.
    pub failure: bool,
}

impl Allowed {
    pub fn is_empty(&self) -> bool {
        *self == Allowed::default()
    }

    /// Allows what `other` allows, too.
    pub fn extend(&mut self, other: &Allowed) {
        self.broken.extend_from_slice(&other.broken);
        self.plugin_deaths.extend_from_slice(&other.plugin_deaths);
        self.failure |= other.failure;
    }
}

/// What does not count as trouble on a node: what the test allows, and what the lab
/// itself caused.
#[derive(Debug, Default)]
pub(crate) struct Excused {
    allowed: Allowed,
    /// Log lines about plugins that were stopped on request, or refused.
    requested: Mutex<Vec<String>>,
    /// The lab's own taps and inline plugins, by name: the test itself ends them.
    ours: Mutex<Vec<String>>,
}

impl Excused {
    /// What the test allows, and what the release is known for.
    pub fn new(mut allowed: Allowed, of: &Implementation) -> Excused {
        if let Some(version) = of.lightningd() {
            let known = OF_LIGHTNINGD
                .iter()
                .filter(|(since, until, _)| (*since..*until).contains(&version.release()));
            allowed
                .broken
                .extend(known.map(|(_, _, text)| (*text).to_owned()));
        }
        Excused {
            allowed,
            ..Excused::default()
        }
    }

    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Excuses these log lines about a plugin that was stopped on request, or refused.
    pub fn add_requested(&self, lines: impl Iterator<Item = String>) {
        lock(&self.requested).extend(lines);
    }

    /// Excuses the end of one of the lab's own plugins.
    pub fn add_ours(&self, name: &str) {
        lock(&self.ours).push(name.to_owned());
    }

    pub fn excuses(&self, trouble: &Trouble) -> bool {
        match trouble {
            // lightningd logs a crash at this level.
            Trouble::Broken(_) if self.allowed.failure => true,
            Trouble::Broken(line) => self.allowed.broken.iter().any(|text| line.contains(text)),
            Trouble::PluginDied { plugin, line } => {
                let allowed = self.allowed.plugin_deaths.iter();
                let ours = lock(&self.ours);
                allowed
                    .chain(ours.iter())
                    .any(|name| name == plugin || name == "*")
                    || lock(&self.requested).contains(line)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_allowed_is_excused() {
        let allowed = Allowed {
            broken: vec!["Traceback".to_owned()],
            plugin_deaths: vec!["x".to_owned()],
            failure: false,
        };
        let excused = Excused::new(allowed, &Implementation::Embedded(String::new()));
        let died = |plugin: &str, why: &str| Trouble::PluginDied {
            plugin: plugin.to_owned(),
            line: format!("plugin-{plugin}: Killing plugin: {why}"),
        };
        assert!(excused.excuses(&Trouble::Broken("a Traceback".to_owned())));
        assert!(!excused.excuses(&Trouble::Broken("else".to_owned())));
        assert!(excused.excuses(&died("x", "why")));
        assert!(!excused.excuses(&died("y", "Failed to parse")));
        excused.add_requested(["plugin-y: Killing plugin: Failed to parse".to_owned()].into_iter());
        assert!(excused.excuses(&died("y", "Failed to parse")));
        assert!(!excused.excuses(&died("y", "exited")));
    }
    #[test]
    fn a_fault_of_one_release_is_excused_there_only() {
        let line = "x **BROKEN** gossipd: gossip_store flag-2048 @790 for 256 already set!";
        for (release, known) in [("v24.05", true), ("v26.06.6", false)] {
            let version = release.parse().expect("a version");
            let of = Implementation::Lightningd(version);
            let excused = Excused::new(Allowed::default(), &of);
            assert_eq!(
                excused.excuses(&Trouble::Broken(line.to_owned())),
                known,
                "{release}"
            );
        }
    }
}
