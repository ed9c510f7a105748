//! The topics: what each tells, since when, in which fields.

use std::fmt;

use crate::Version;

/// A release of Core Lightning: year and month, `v26.06`; before 2022 `v0.12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u16, pub u16);

impl Release {
    /// True if this version is of this release or a later one.
    pub fn includes(self, version: &Version) -> bool {
        version.at_least(self.0, self.1)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Release(0, minor) => write!(f, "v0.{minor}"),
            Release(year, month) => write!(f, "v{year}.{month:02}"),
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

/// One topic of lightningd's or of a plugin shipped with it.
#[derive(Debug, Clone, Copy)]
pub struct Topic {
    /// The name, as in a manifest's `subscriptions`.
    pub name: &'static str,
    /// The first release that sends it.
    pub since: Release,
    /// Who sends it.
    pub sender: Sender,
    /// What it tells, in one line.
    pub tells: &'static str,
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
    /// Where there is something to tell.
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
    tells: &'static str,
    fields: &'static [Field],
) -> Topic {
    Topic {
        name,
        since: Release(since.0, since.1),
        sender: Sender::Lightningd,
        tells,
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

    /// What is wrong with a payload: a member that is missing or that the table
    /// does not have. `None` if it is as the table says.
    pub fn objection(&self, payload: &serde_json::Value) -> Option<String> {
        let Some(members) = payload.as_object() else {
            return Some("it is no object".to_owned());
        };
        let missing = self
            .fields
            .iter()
            .find(|field| field.presence == Presence::Always && !members.contains_key(field.name));
        if let Some(field) = missing {
            return Some(format!("`{}` is missing", field.name));
        }
        let unknown = members
            .keys()
            .find(|key| self.fields.iter().all(|field| field.name != *key));
        unknown.map(|key| format!("`{key}` is not in the table"))
    }
}

/// Every topic, oldest first. Whatever the scenarios see is held against it:
/// see [`Topic::objection`].
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    topic("connect", (0, 6), "a peer is connected",
        &[always("id"), always("direction"), always("address")]),
    topic("disconnect", (0, 6), "a peer is gone",
        &[always("id")]),
    topic("warning", (0, 7), "a line of level unusual or broken in the node's log",
        &[always("level"), always("time"), always("timestamp"), always("source"), always("log")]),
    topic("channel_opened", (0, 7), "a peer funded a channel to us",
        &[always("id"), always("funding_msat"), always("funding_txid"), always("channel_ready")]),
    topic("invoice_payment", (0, 7), "an invoice of ours was paid",
        &[always("msat"), always("preimage"), maybe("outpoint"), always("label")]),
    topic("forward_event", (0, 7), "a payment is forwarded, settled or failed through us",
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
    topic("openchannel_peer_sigs", (0, 9), "the peer's signatures for a dual-funded open",
        &[always("channel_id"), always("signed_psbt")]),
    topic("channel_open_failed", (0, 9), "a dual-funded open failed",
        &[always("channel_id")]),
    topic("shutdown", (0, 10), "lightningd, or this plugin, is about to stop",
        &[]),
    topic("pay_success", (0, 10), "`pay` or `keysend` succeeded",
        &[always("payment_hash"), maybe("bolt11"), maybe("bolt12")]).of("pay"),
    topic("pay_failure", (0, 10), "`pay` or `keysend` gave up",
        &[always("payment_hash"), maybe("bolt11"), maybe("bolt12"), always("error")]).of("pay"),
    topic("balance_snapshot", (0, 11), "all balances, once at every start",
        &[always("node_id"), always("blockheight"), always("timestamp"), always("accounts")]),
    topic("block_added", (22, 11), "a block was added to the chain",
        &[always("hash"), always("height")]),
    topic("custommsg", (24, 2), "a peer sent a message lightningd does not handle",
        &[always("peer_id"), always("payload")]),
    topic("deprecated_oneshot", (24, 2), "deprecated APIs are on or off for the next call",
        &[always("deprecated_ok")]),
    topic("log", (24, 5), "a line of the node's log; only when named",
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

/// The topics that this version sends; all of them if there is no version to ask.
/// `log`, which repeats every line of the node's log, is left out: one asks for it
/// by name.
pub(crate) fn known_to(version: Option<&Version>) -> impl Iterator<Item = &'static str> {
    TOPICS
        .iter()
        .filter(move |topic| version.is_none_or(|version| topic.since.includes(version)))
        .map(|topic| topic.name)
        .filter(|name| *name != "log")
}

/// True for a topic that lightningd itself sends: a plugin may not.
pub(crate) fn is_native(name: &str) -> bool {
    Topic::find(name).is_some_and(|topic| topic.sender == Sender::Lightningd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_version_sends_what_it_knows() {
        let old: Version = "v23.02.2".parse().expect("a version");
        assert_eq!(known_to(Some(&old)).count(), 18);
        let new: Version = "v26.06.6".parse().expect("a version");
        assert_eq!(known_to(Some(&new)).count(), TOPICS.len() - 1);
        assert!(!known_to(None).any(|name| name == "log"));
    }

    #[test]
    fn a_payload_is_held_against_its_members() {
        let topic = Topic::find("invoice_creation").expect("a topic");
        let objection = |payload| topic.objection(&payload);
        assert_eq!(objection(json!({"preimage": "00", "label": "l"})), None);
        let missing = objection(json!({"preimage": "00"}));
        assert_eq!(missing.as_deref(), Some("`label` is missing"));
        let more = objection(json!({"preimage": "00", "label": "l", "x": 1}));
        assert_eq!(more.as_deref(), Some("`x` is not in the table"));
        assert!(objection(json!([])).is_some());
    }

    #[test]
    fn releases_are_written_as_lightningd_does() {
        assert_eq!(Release(0, 9).to_string(), "v0.9");
        assert_eq!(Release(24, 2).to_string(), "v24.02");
    }
}
