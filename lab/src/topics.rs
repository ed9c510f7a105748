//! The topics that lightningd and the plugins shipped with it send.

use crate::Version;

/// One topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Its name, as in a manifest's `subscriptions`.
    pub name: &'static str,
    /// The first release that sends it: year and month, `(23, 8)`; before v22 the
    /// numbers were others: `(0, 12)`.
    pub since: (u16, u16),
}

/// Every topic, oldest first. Source: `lightningd/notification.c` and the shipped
/// plugins' manifests of each release.
#[rustfmt::skip]
pub const TOPICS: &[Topic] = &[
    Topic { name: "connect",                   since: (0, 6) },
    Topic { name: "disconnect",                since: (0, 6) },
    Topic { name: "warning",                   since: (0, 7) },
    Topic { name: "channel_opened",            since: (0, 7) },
    Topic { name: "invoice_payment",           since: (0, 7) },
    Topic { name: "forward_event",             since: (0, 7) },
    Topic { name: "sendpay_success",           since: (0, 7) },
    Topic { name: "sendpay_failure",           since: (0, 7) },
    Topic { name: "coin_movement",             since: (0, 9) },
    Topic { name: "invoice_creation",          since: (0, 9) },
    Topic { name: "channel_state_changed",     since: (0, 9) },
    Topic { name: "openchannel_peer_sigs",     since: (0, 9) },
    Topic { name: "channel_open_failed",       since: (0, 9) },
    Topic { name: "shutdown",                  since: (0, 10) },
    Topic { name: "pay_success",               since: (0, 10) },
    Topic { name: "pay_failure",               since: (0, 10) },
    Topic { name: "balance_snapshot",          since: (0, 11) },
    Topic { name: "block_added",               since: (22, 11) },
    Topic { name: "custommsg",                 since: (24, 2) },
    Topic { name: "deprecated_oneshot",        since: (24, 2) },
    Topic { name: "log",                       since: (24, 5) },
    Topic { name: "channel_hint_update",       since: (24, 8) },
    Topic { name: "onionmessage_forward_fail", since: (24, 11) },
    Topic { name: "plugin_started",            since: (25, 2) },
    Topic { name: "plugin_stopped",            since: (25, 2) },
    Topic { name: "pay_part_start",            since: (25, 9) },
    Topic { name: "pay_part_end",              since: (25, 9) },
];

/// The topics that this version sends; all of them if there is no version to ask.
/// `log`, which repeats every line of the node's log, is left out: one asks for it
/// by name.
pub(crate) fn known_to(version: Option<&Version>) -> impl Iterator<Item = &'static str> {
    TOPICS
        .iter()
        .filter(move |topic| {
            version.is_none_or(|version| version.at_least(topic.since.0, topic.since.1))
        })
        .map(|topic| topic.name)
        .filter(|name| *name != "log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_sends_what_it_knows() {
        let old: Version = "v23.02.2".parse().expect("a version");
        assert_eq!(known_to(Some(&old)).count(), 18);
        let new: Version = "v26.06.6".parse().expect("a version");
        assert_eq!(known_to(Some(&new)).count(), TOPICS.len() - 1);
        assert!(!known_to(None).any(|name| name == "log"));
    }
}
