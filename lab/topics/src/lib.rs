//! Core Lightning's notification topics and hooks: one table of each, for the plugin that
//! records them, the embedded node and the command that plays them.
//!
//! [`TOPICS`] names each topic with the releases that send it, its sender, a
//! sentence, and the members of its payload. Source: the release tags'
//! `lightningd/notification.c` and the manifests of the plugins shipped with them.
//! [`HOOKS`] names each hook with the first release that has it.
//!
//! ```
//! use cln_topics::{Release, Topic, sent_by};
//!
//! let release: Release = "v23.02.2".parse().unwrap();
//! assert!(!sent_by(Some(release)).any(|topic| topic.name == "custommsg"));
//! assert_eq!(Topic::find("custommsg").unwrap().since.to_string(), "v24.02");
//! ```

mod hooks;

pub use hooks::{HOOKS, Hook, hooks_of};

use std::fmt;
use std::str::FromStr;

/// A release of Core Lightning: year and month, `v26.06`; before 2022 `v0.12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u16, pub u16);

impl Release {
    /// Later than any: the release assumed for a lightningd whose version cannot be
    /// read, such as a custom build.
    pub const NEWEST: Release = Release(u16::MAX, 0);
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Release(0, minor) => write!(f, "v0.{minor}"),
            Release(year, month) => write!(f, "v{year}.{month:02}"),
        }
    }
}

impl FromStr for Release {
    type Err = String;

    /// Reads the release in a version as lightningd prints it: `v23.02.2`,
    /// `v24.11-123-gabcdef-modded`, `26.06rc1`.
    ///
    /// # Errors
    /// Text that does not begin with two numbers and a dot between them.
    fn from_str(version: &str) -> Result<Release, String> {
        let text = version.trim();
        let numbers = text.strip_prefix('v').unwrap_or(text);
        let mut parts = numbers.splitn(3, |c: char| !c.is_ascii_digit());
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok());
        let release = number(parts.next()).zip(number(parts.next()));
        match release {
            Some((major, minor)) if numbers.contains('.') => Ok(Release(major, minor)),
            _ => Err(format!("`{text}` is not a version such as v26.06.6")),
        }
    }
}

/// Who sends a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// lightningd itself.
    Lightningd,
    /// A plugin that is shipped with it, by its name.
    Shipped(&'static str),
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sender::Lightningd => "lightningd",
            Sender::Shipped(plugin) => plugin,
        })
    }
}

/// A topic that lightningd or a plugin shipped with it sends.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// The name, as in a manifest's `subscriptions`.
    pub name: &'static str,
    /// The first release that sends it.
    pub since: Release,
    /// The first release that no longer does; `None` while it is sent.
    pub until: Option<Release>,
    /// Who sends it.
    pub sender: Sender,
    /// When it is sent, in one line.
    pub summary: &'static str,
    /// The payload's members, as v26.06 sends them.
    pub fields: &'static [Field],
}

/// One member of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// When it is there.
    pub presence: Presence,
}

/// When a member of a payload is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always.
    Always,
    /// Where it applies.
    Sometimes,
    /// While `allow-deprecated-apis` is true, as it is by default.
    Deprecated,
}

impl fmt::Display for Field {
    /// `name`, `name?` if it is not always there, `(name)` if it is deprecated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.presence {
            Presence::Always => f.write_str(self.name),
            Presence::Sometimes => write!(f, "{}?", self.name),
            Presence::Deprecated => write!(f, "({})", self.name),
        }
    }
}

const fn always(name: &'static str) -> Field {
    let presence = Presence::Always;
    Field { name, presence }
}

const fn maybe(name: &'static str) -> Field {
    let presence = Presence::Sometimes;
    Field { name, presence }
}

const fn old(name: &'static str) -> Field {
    let presence = Presence::Deprecated;
    Field { name, presence }
}

const fn topic(
    name: &'static str,
    since: (u16, u16),
    summary: &'static str,
    fields: &'static [Field],
) -> Topic {
    Topic {
        name,
        since: Release(since.0, since.1),
        until: None,
        sender: Sender::Lightningd,
        summary,
        fields,
    }
}

impl Topic {
    const fn of(mut self, plugin: &'static str) -> Topic {
        self.sender = Sender::Shipped(plugin);
        self
    }

    /// The table's entry for a name.
    pub fn find(name: &str) -> Option<&'static Topic> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// What some releases name the object with the payload of this topic, in place of
    /// the topic itself: `block` before v23.08; the plugin `pay` says `channel_hint`.
    pub fn other_name(topic: &str) -> Option<&'static str> {
        match topic {
            "block_added" => Some("block"),
            "channel_hint_update" => Some("channel_hint"),
            _ => None,
        }
    }

    /// True if this release sends it.
    pub fn is_sent_by(&self, release: Release) -> bool {
        release >= self.since && self.until.is_none_or(|until| release < until)
    }

    /// True if lightningd itself sends it: a plugin may not.
    pub fn is_native(&self) -> bool {
        self.sender == Sender::Lightningd
    }
}

/// Every topic, oldest first.
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    topic("connect", (0, 6), "a peer is connected",
        &[always("id"), always("direction"), always("address")]),
    topic("disconnect", (0, 6), "a peer is gone",
        &[always("id")]),
    topic("warning", (0, 7), "the node logs a line of level unusual or broken",
        &[always("level"), always("time"), always("timestamp"), always("source"), always("log")]),
    topic("channel_opened", (0, 7), "a peer funded a channel to us",
        &[always("id"), always("funding_msat"), always("funding_txid"), always("channel_ready")]),
    topic("invoice_payment", (0, 7), "an invoice of ours was paid",
        &[always("msat"), always("preimage"), maybe("outpoint"), always("label")]),
    topic("forward_event", (0, 7), "a payment through us is forwarded, settled or fails",
        &[maybe("created_index"), maybe("updated_index"), always("payment_hash"), always("in_channel"),
          always("in_htlc_id"), maybe("out_channel"), maybe("out_htlc_id"), always("in_msat"),
          maybe("out_msat"), maybe("fee_msat"), always("status"), maybe("failcode"),
          maybe("failreason"), maybe("style"), always("received_time"), maybe("resolved_time"),
          maybe("preimage")]),
    topic("sendpay_success", (0, 7), "a payment part we sent arrived",
        &[always("created_index"), always("id"), always("payment_hash"), always("groupid"),
          always("updated_index"), maybe("partid"), maybe("destination"), maybe("amount_msat"),
          always("amount_sent_msat"), always("created_at"), always("completed_at"), always("status"),
          always("payment_preimage"), maybe("label"), maybe("bolt11"), maybe("bolt12"),
          maybe("description")]),
    topic("sendpay_failure", (0, 7), "a payment part we sent failed",
        &[always("code"), always("message"), always("data")]),
    topic("coin_movement", (0, 9), "money moved, on chain or in a channel",
        &[always("version"), always("coin_type"), always("node_id"), always("type"),
          always("created_index"), always("account_id"), always("credit_msat"), always("debit_msat"),
          always("timestamp"), old("tags"), always("primary_tag"), always("extra_tags"),
          maybe("utxo"), maybe("peer_id"), maybe("originating_account"), old("txid"),
          maybe("spending_txid"), old("utxo_txid"), old("vout"), maybe("payment_hash"),
          maybe("output_msat"), maybe("output_count"), maybe("blockheight"), maybe("part_id"),
          maybe("group_id"), maybe("fees_msat")]),
    topic("invoice_creation", (0, 9), "an invoice was made",
        &[maybe("msat"), always("preimage"), always("label"), maybe("offer_id")]),
    topic("channel_state_changed", (0, 9), "a channel went from one state to another",
        &[always("peer_id"), always("channel_id"), maybe("short_channel_id"), always("timestamp"),
          maybe("old_state"), always("new_state"), always("cause"), maybe("message")]),
    topic("openchannel_peer_sigs", (0, 9), "the peer sends its signatures for a dual-funded open",
        &[always("channel_id"), always("signed_psbt")]),
    topic("channel_open_failed", (0, 9), "a dual-funded open failed",
        &[always("channel_id")]),
    topic("shutdown", (0, 10), "lightningd, or this plugin, is about to stop",
        &[]),
    topic("pay_success", (0, 10), "`pay` or `keysend` succeeded",
        &[always("payment_hash"), maybe("bolt11"), maybe("bolt12")]).of("pay"),
    topic("pay_failure", (0, 10), "`pay` or `keysend` gave up",
        &[always("payment_hash"), maybe("bolt11"), maybe("bolt12"), always("error")]).of("pay"),
    topic("balance_snapshot", (0, 11), "the node starts: all its balances",
        &[always("node_id"), always("blockheight"), always("timestamp"), always("accounts")]),
    topic("block_added", (22, 11), "a block was added to the chain",
        &[always("hash"), always("height")]),
    topic("custommsg", (24, 2), "a peer sent a message lightningd does not handle",
        &[always("peer_id"), always("payload")]),
    topic("deprecated_oneshot", (24, 2), "deprecated APIs are turned on or off for the next call",
        &[always("deprecated_ok")]),
    topic("log", (24, 5), "the node logs a line; only sent to plugins that name it",
        &[always("level"), always("time"), always("timestamp"), always("source"), always("log")]),
    topic("channel_hint_update", (24, 8), "`pay` learned something about a channel's capacity",
        &[always("timestamp"), always("scid"), always("estimated_capacity_msat"),
          always("total_capacity_msat"), always("enabled")]).of("pay"),
    topic("onionmessage_forward_fail", (24, 11), "an onion message could not be forwarded",
        &[always("source"), always("incoming"), always("path_key"), maybe("outgoing"),
          maybe("next_node_id"), maybe("next_short_channel_id_dir")]),
    topic("plugin_started", (25, 2), "a plugin started",
        &[always("plugin_name"), always("plugin_path"), always("methods")]),
    topic("plugin_stopped", (25, 2), "a plugin stopped",
        &[always("plugin_name"), always("plugin_path"), always("methods")]),
    topic("pay_part_start", (25, 9), "`xpay` sent a part of a payment",
        &[always("payment_hash"), always("groupid"), always("partid"), always("total_payment_msat"),
          always("attempt_msat"), always("hops")]).of("cln-xpay"),
    topic("pay_part_end", (25, 9), "a part of a payment of `xpay` succeeded or failed",
        &[always("status"), always("duration"), always("payment_hash"), always("groupid"),
          always("partid"), maybe("failed_msg"), maybe("failed_node_id"),
          maybe("failed_short_channel_id"), maybe("failed_direction"), maybe("error_code"),
          maybe("error_message")]).of("cln-xpay"),
];

/// The topics that a release sends; every one where the release is not known.
pub fn sent_by(release: Option<Release>) -> impl Iterator<Item = &'static Topic> {
    TOPICS
        .iter()
        .filter(move |topic| release.is_none_or(|release| topic.is_sent_by(release)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_sends_what_it_knows() {
        assert_eq!(sent_by(Some(Release(23, 2))).count(), 18);
        assert_eq!(sent_by(Some(Release::NEWEST)).count(), TOPICS.len());
        assert_eq!(sent_by(None).count(), TOPICS.len());
        let topic = Topic {
            until: Some(Release(25, 5)),
            ..*Topic::find("custommsg").expect("a topic")
        };
        let sent =
            [(24, 1), (24, 2), (25, 4), (25, 5)].map(|(y, m)| topic.is_sent_by(Release(y, m)));
        assert_eq!(sent, [false, true, true, false]);
    }

    #[test]
    fn names_are_unique_and_oldest_come_first() {
        assert!(TOPICS.is_sorted_by_key(|topic| topic.since));
        for (n, topic) in TOPICS.iter().enumerate() {
            assert!(TOPICS[..n].iter().all(|other| other.name != topic.name));
        }
    }

    #[test]
    fn releases_are_written_and_read_as_lightningd_does() {
        assert_eq!(Release(0, 9).to_string(), "v0.9");
        assert_eq!(Release(24, 2).to_string(), "v24.02");
        for (text, release) in [
            ("v23.02.2", Release(23, 2)),
            ("v24.11-123-gabcdef-modded", Release(24, 11)),
            ("v26.06rc1\n", Release(26, 6)),
            ("26.06", Release(26, 6)),
        ] {
            assert_eq!(text.parse(), Ok(release), "{text}");
        }
        for text in ["", "embedded-0.1.0", "v26", "basic-abc", "v26-06"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
    }
}
