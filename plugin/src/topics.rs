//! The topics lightningd sends, and which of them are asked for.
//!
//! A plugin's subscriptions are part of its manifest, and the manifest is asked
//! for before any option is known. So the plugin subscribes to everything the
//! running lightningd can send ([`subscriptions`]) and keeps what the option
//! `eventlog-topics` names ([`Wanted`]): a topic can then be added while the
//! node runs, and a topic of another plugin needs no entry in any table.

use std::collections::BTreeSet;

use log::Level;

/// One topic that lightningd or a plugin shipped with it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// The name, as in a manifest's `subscriptions`.
    pub name: &'static str,
    /// The first release that sends it.
    pub since: Release,
    /// What it tells, in one line.
    pub tells: &'static str,
}

/// A release of Core Lightning as (major, minor): `(0, 12)`, `(23, 2)`, `(26, 6)`.
pub type Release = (u32, u32);

/// The first release in which a plugin can subscribe to `*`.
const WILDCARD_SINCE: Release = (23, 8);

/// What the option stands at when nobody sets it: the workshop's three.
pub const DEFAULT: &str = "connect,disconnect,invoice_creation";

/// The topic that no group stands for: it is wanted only by its name.
const LOG: &str = "log";

/// Stands for every topic of [`TOPICS`] but `log`.
const ALL: &str = "all";

/// Stands for everything but `log`, topics of other plugins included.
const ANY: &str = "*";

const fn topic(name: &'static str, since: Release, tells: &'static str) -> Topic {
    Topic { name, since, tells }
}

/// Every topic lightningd and its shipped plugins send, oldest first.
///
/// Source: the release tags' `lightningd/notification.c`, and the shipped
/// plugins' manifests.
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    topic("connect",                    (0, 6),   "a peer is connected"),
    topic("disconnect",                 (0, 6),   "a peer is gone"),
    topic("warning",                    (0, 7),   "a line of level unusual or broken in the node's log"),
    topic("channel_opened",             (0, 7),   "a peer funded a channel to us"),
    topic("invoice_payment",            (0, 7),   "an invoice of ours was paid"),
    topic("forward_event",              (0, 7),   "a payment is forwarded, settled or failed through us"),
    topic("sendpay_success",            (0, 7),   "a payment part we sent arrived"),
    topic("sendpay_failure",            (0, 7),   "a payment part we sent failed"),
    topic("coin_movement",              (0, 9),   "money moved, on chain or in a channel"),
    topic("invoice_creation",           (0, 9),   "an invoice was made"),
    topic("channel_state_changed",      (0, 9),   "a channel went from one state to another"),
    topic("openchannel_peer_sigs",      (0, 9),   "the peer's signatures for a dual-funded open"),
    topic("channel_open_failed",        (0, 9),   "a dual-funded open failed"),
    topic("shutdown",                   (0, 10),  "lightningd, or this plugin, is about to stop"),
    topic("pay_success",                (0, 10),  "`pay` or `keysend` succeeded"),
    topic("pay_failure",                (0, 10),  "`pay` or `keysend` gave up"),
    topic("balance_snapshot",           (0, 11),  "all balances, once at every start"),
    topic("block_added",                (22, 11), "a block was added to the chain"),
    topic("custommsg",                  (24, 2),  "a peer sent a message lightningd does not handle"),
    topic("deprecated_oneshot",         (24, 2),  "deprecated APIs are on or off for the next call"),
    topic("log",                        (24, 5),  "a line of the node's log; only when named"),
    topic("channel_hint_update",        (24, 8),  "`pay` learned something about a channel's capacity"),
    topic("onionmessage_forward_fail",  (24, 11), "an onion message could not be forwarded"),
    topic("plugin_started",             (25, 2),  "a plugin started"),
    topic("plugin_stopped",             (25, 2),  "a plugin stopped"),
    topic("pay_part_start",             (25, 9),  "`xpay` sent a part of a payment"),
    topic("pay_part_end",               (25, 9),  "a part of a payment of `xpay` succeeded or failed"),
];

/// The table's entry for a name.
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The known name most like one that is not known, if any is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    TOPICS
        .iter()
        .map(|topic| (strsim::jaro_winkler(name, topic.name), topic.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Taken for the release of a lightningd that tells a version of its own making:
/// one so new that nothing is missing.
const UNNAMED: Release = (u32::MAX, 0);

/// The release in the environment variable `LIGHTNINGD_VERSION`, which lightningd
/// sets for its plugins in every version that knows `*`; `None` if it does not.
pub fn release_from_env() -> Option<Release> {
    let version = std::env::var("LIGHTNINGD_VERSION").ok()?;
    Some(release(&version).unwrap_or(UNNAMED))
}

/// Reads a release from lightningd's version string: `v23.02.2`,
/// `v24.11-123-gabcdef-modded`, `26.06`. `None` if it is not of that form.
pub fn release(version: &str) -> Option<Release> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    Some((major, minor))
}

/// What to subscribe to in the manifest.
///
/// From v23.08 on that is `*`, which brings every topic but `log`, and `log`
/// where there is one. (`*` beside any other name delivers that one twice.)
/// Before, or where the version is not known, it is every name of the table
/// that this lightningd knows, and `more`: names a person gave beforehand.
pub fn subscriptions(release: Option<Release>, more: &[String]) -> Vec<String> {
    let log = find(LOG).filter(|log| release.is_some_and(|release| release >= log.since));
    if release.is_some_and(|release| release >= WILDCARD_SINCE) {
        return std::iter::once(ANY)
            .chain(log.map(|log| log.name))
            .map(str::to_owned)
            .collect();
    }
    let known = TOPICS
        .iter()
        .filter(|topic| release.is_none_or(|release| release >= topic.since))
        .map(|topic| topic.name.to_owned());
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
                    name if name.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                        return Err(format!("`{name}` is not a topic's name"));
                    }
                    name => {
                        wanted.names.insert(name.to_owned());
                    }
                }
            }
        }
        if !wanted.all && !wanted.any && wanted.names.is_empty() {
            return Err("name a topic (lightning-cli passes a list on only with -k)".to_owned());
        }
        Ok(wanted)
    }

    /// Is this topic recorded?
    pub fn contains(&self, topic: &str) -> bool {
        self.names.contains(topic)
            || (topic != LOG && (self.any || (self.all && find(topic).is_some())))
    }

    /// The names, sorted; before them `all` and `*`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let groups = [(self.all, ALL), (self.any, ANY)];
        groups
            .into_iter()
            .filter_map(|(wanted, name)| wanted.then_some(name))
            .chain(self.names.iter().map(String::as_str))
    }

    /// Names that lightningd will not send of itself: each with the sentence
    /// that says so. It may be another plugin's topic, so it is no error.
    pub fn remarks(&self, release: Option<Release>, subscribed: &[String]) -> Vec<Remark> {
        let everything = subscribed.iter().any(|name| name == ANY);
        let remark = |name: &String| {
            let arrives = everything || subscribed.contains(name);
            let (level, says) = match (find(name), nearest(name)) {
                (Some(topic), _) if release.is_some_and(|release| release < topic.since) => {
                    let (major, minor) = topic.since;
                    (
                        Level::Warn,
                        format!("is sent from v{major}.{minor:02} on, not by this lightningd"),
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
                message: format!("topic `{name}` {says}"),
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
    fn versions_are_read() {
        assert_eq!(release("v23.02.2"), Some((23, 2)));
        assert_eq!(release("v24.11-123-gabcdef-modded"), Some((24, 11)));
        assert_eq!(release("26.06"), Some((26, 6)));
        assert_eq!(release("embedded-0.1.0"), None);
        assert_eq!(release(""), None);
    }

    #[test]
    fn subscriptions_follow_the_version() {
        assert_eq!(subscriptions(Some((26, 6)), &[]), ["*", "log"]);
        assert_eq!(subscriptions(Some((23, 8)), &[]), ["*"]);
        let old = subscriptions(Some((23, 2)), &["mine".to_owned()]);
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
    fn an_unknown_name_is_told_with_the_nearest() {
        let wanted = Wanted::parse(["conect,custommsg,mine"]).unwrap();
        let new = wanted.remarks(Some((26, 6)), &["*".to_owned()]);
        let levels: Vec<_> = new.iter().map(|remark| remark.level).collect();
        assert_eq!(levels, [Level::Warn, Level::Info]);
        assert!(
            new[0].message.contains("did you mean `connect`?"),
            "{new:?}"
        );
        let old = wanted.remarks(Some((23, 2)), &subscriptions(Some((23, 2)), &[]));
        assert!(old[0].message.contains("EVENTLOG_TOPICS=conect"), "{old:?}");
        assert!(old[0].message.contains("`connect`?"), "{old:?}");
        assert!(old[1].message.contains("from v24.02 on"), "{old:?}");
        assert_eq!(nearest("zzz"), None);
    }
}
