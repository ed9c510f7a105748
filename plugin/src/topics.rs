//! The topics lightningd sends, and which of them are asked for.
//!
//! A plugin's subscriptions are part of its manifest, and the manifest is asked
//! for before any option is known. So the plugin subscribes to everything the
//! running lightningd can send ([`subscriptions`]) and keeps what the option
//! `eventlog-topics` names ([`Wanted`]): a topic can then be added while the
//! node runs, and a topic of another plugin needs no entry in any table.

use std::collections::BTreeSet;

use cln_topics::{Release, TOPICS, Topic, sent_by};
use log::Level;

/// The first release in which a plugin can subscribe to `*`.
const WILDCARD_SINCE: Release = Release(23, 8);

/// The option's default: the workshop's three.
pub const DEFAULT: &str = "connect,disconnect,invoice_creation";

/// The topic that no group includes: it is recorded only if named.
const LOG: &str = "log";

/// Means every topic of the table but `log`.
const ALL: &str = "all";

/// Means everything but `log`, topics of other plugins included.
const ANY: &str = "*";

/// The known name most like one that is not known, if any is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    TOPICS
        .iter()
        .map(|topic| (strsim::jaro_winkler(name, topic.name), topic.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The release in the environment variable `LIGHTNINGD_VERSION`, which lightningd
/// sets for its plugins in every version that knows `*`; `None` if it does not.
pub fn release_from_env() -> Option<Release> {
    let version = std::env::var("LIGHTNINGD_VERSION").ok()?;
    Some(version.parse().unwrap_or(Release::NEWEST))
}

/// What to subscribe to in the manifest.
///
/// From v23.08 on that is `*`, which stands for every topic but `log`, and `log`
/// where there is one. (`*` beside any other name delivers that one twice.)
/// Before, or where the version is not known, it is every name of the table
/// that this lightningd knows, and `more`: names a person gave beforehand.
pub fn subscriptions(release: Option<Release>, more: &[String]) -> Vec<String> {
    let log = Topic::find(LOG).filter(|log| release.is_some_and(|release| release >= log.since));
    if release.is_some_and(|release| release >= WILDCARD_SINCE) {
        return std::iter::once(ANY)
            .chain(log.map(|log| log.name))
            .map(str::to_owned)
            .collect();
    }
    let known = sent_by(release).map(|topic| topic.name.to_owned());
    known
        .chain(more.iter().cloned())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// The topics that are recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    all: bool,
    any: bool,
    names: BTreeSet<String>,
}

impl Wanted {
    /// Reads the option's values, each one name or several with commas between.
    ///
    /// # Errors
    /// A value with no name in it, or a name with a character no topic has.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut wanted = Self::default();
        for value in values {
            for name in value.split(',').map(str::trim) {
                match name {
                    "" => return Err(format!("`{value}` has an empty name in it")),
                    ALL => wanted.all = true,
                    ANY => wanted.any = true,
                    name if name.contains(|c: char| {
                        c.is_whitespace() || c.is_control() || "[]{}()\"'`\\".contains(c)
                    }) =>
                    {
                        return Err(format!("`{name}` is not a topic's name"));
                    }
                    name => {
                        wanted.names.insert(name.to_owned());
                    }
                }
            }
        }
        if !wanted.all && !wanted.any && wanted.names.is_empty() {
            return Err("name a topic".to_owned());
        }
        Ok(wanted)
    }

    /// Is this topic recorded?
    pub fn contains(&self, topic: &str) -> bool {
        self.names.contains(topic)
            || (topic != LOG && (self.any || (self.all && Topic::find(topic).is_some())))
    }

    /// The names, sorted; before them `all` and `*`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let groups = [(self.all, ALL), (self.any, ANY)];
        groups
            .into_iter()
            .filter_map(|(wanted, name)| wanted.then_some(name))
            .chain(self.names.iter().map(String::as_str))
    }

    /// A remark on each name that lightningd does not send. It may be another
    /// plugin's topic, so it is not an error.
    pub fn remarks(&self, release: Option<Release>, subscribed: &[String]) -> Vec<Remark> {
        let everything = subscribed.iter().any(|name| name == ANY);
        let remark = |name: &String| {
            let arrives = everything || subscribed.contains(name);
            let (level, remark) = match (Topic::find(name), nearest(name)) {
                (Some(topic), _) if release.is_some_and(|release| release < topic.since) => {
                    let since = topic.since;
                    (
                        Level::Warn,
                        format!("is sent from {since} on, not by this lightningd"),
                    )
                }
                (Some(_), _) => return None,
                (None, near) if !arrives => (
                    Level::Warn,
                    format!(
                        "is not one that lightningd sends{}, and before v23.08 a plugin's topic has \
                         to be named in the environment: start lightningd with EVENTLOG_TOPICS={name}",
                        near.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"))
                    ),
                ),
                (None, Some(near)) => (
                    Level::Warn,
                    format!(
                        "is not one that lightningd sends: did you mean `{near}`? \
                         It is recorded if a plugin sends it"
                    ),
                ),
                (None, None) => (
                    Level::Info,
                    "is not one that lightningd sends: it is recorded if a plugin sends it"
                        .to_owned(),
                ),
            };
            Some(Remark {
                level,
                message: format!("topic `{name}` {remark}"),
            })
        };
        self.names.iter().filter_map(remark).collect()
    }
}

/// A line for the node's log about a topic that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// `Warn` if it looks like a mistake.
    pub level: Level,
    /// The line.
    pub message: String,
}

impl Remark {
    /// Puts it into the node's log.
    pub fn log(&self) {
        log::log!(self.level, "{}", self.message);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn subscriptions_follow_the_version() {
        assert_eq!(subscriptions(Some(Release(26, 6)), &[]), ["*", "log"]);
        assert_eq!(subscriptions(Some(Release(23, 8)), &[]), ["*"]);
        let old = subscriptions(Some(Release(23, 2)), &["mine".to_owned()]);
        assert!(old.contains(&"block_added".to_owned()));
        assert!(old.contains(&"mine".to_owned()));
        assert!(!old.contains(&"custommsg".to_owned()));
        assert!(!old.contains(&"*".to_owned()));
        let unknown = subscriptions(None, &[]);
        assert_eq!(unknown.len(), TOPICS.len());
    }

    #[test]
    fn all_leaves_out_log_and_any_takes_custom_topics() {
        let all = Wanted::parse(["all"]).unwrap();
        assert!(all.contains("connect") && all.contains("pay_part_end"));
        assert!(!all.contains("log") && !all.contains("mine"));
        let any = Wanted::parse(["*"]).unwrap();
        assert!(any.contains("mine") && !any.contains("log"));
        let both = Wanted::parse(["all, log", "mine"]).unwrap();
        assert!(both.contains("log") && both.contains("mine"));
    }

    #[test]
    fn bad_values_are_refused() {
        assert!(Wanted::parse([]).is_err());
        assert!(Wanted::parse(["connect,,x"]).is_err());
        assert!(Wanted::parse(["conn ect"]).is_err());
    }

    #[test]
    fn an_unknown_name_is_logged_with_the_nearest() {
        let wanted = Wanted::parse(["conect,custommsg,mine"]).unwrap();
        let new = wanted.remarks(Some(Release(26, 6)), &["*".to_owned()]);
        let levels: Vec<_> = new.iter().map(|remark| remark.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Info]);
        assert!(
            new[0].message.contains("did you mean `connect`?"),
            "{new:?}"
        );
        let old = wanted.remarks(
            Some(Release(23, 2)),
            &subscriptions(Some(Release(23, 2)), &[]),
        );
        assert!(old[0].message.contains("EVENTLOG_TOPICS=conect"), "{old:?}");
        assert!(old[0].message.contains("`connect`?"), "{old:?}");
        assert!(old[1].message.contains("from v24.02 on"), "{old:?}");
        assert_eq!(nearest("zzz"), None);
    }
}
