//! The hooks of lightningd, and the releases that have each.

use crate::Release;

/// A hook: a request that lightningd sends to a plugin, and whose answer it follows.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// The name, as in a manifest's `hooks`.
    pub name: &'static str,
    /// The first release that has it. An earlier one refuses a plugin that names it.
    pub since: Release,
    /// When it is called, in one line.
    pub summary: &'static str,
}

impl Hook {
    /// The table's entry for a name.
    pub fn find(name: &str) -> Option<&'static Hook> {
        HOOKS.iter().find(|hook| hook.name == name)
    }
}

const fn hook(name: &'static str, since: (u16, u16), summary: &'static str) -> Hook {
    Hook {
        name,
        since: Release(since.0, since.1),
        summary,
    }
}

/// Every hook that a release from v23.02 on has, oldest first. Source: the release tags'
/// calls of `REGISTER_PLUGIN_HOOK`, and `db_write` in `lightningd/plugin_hook.c`.
#[rustfmt::skip]
pub const HOOKS: &[Hook] = &[
    hook("peer_connected", (0, 7), "a peer has connected"),
    hook("db_write", (0, 7), "the database is about to change"),
    hook("invoice_payment", (0, 7), "a payment for an invoice has arrived"),
    hook("openchannel", (0, 7), "a peer wants to open a channel"),
    hook("htlc_accepted", (0, 7), "an HTLC has arrived"),
    hook("rpc_command", (0, 8), "a client calls a method"),
    hook("custommsg", (0, 8), "a peer sent a message lightningd does not handle"),
    hook("commitment_revocation", (0, 9), "a commitment was revoked: its penalty is known"),
    hook("openchannel2", (0, 9), "a peer wants to open a dual-funded channel"),
    hook("openchannel2_changed", (0, 9), "the peer has changed the funding transaction"),
    hook("openchannel2_sign", (0, 9), "the funding transaction is to be signed"),
    hook("rbf_channel", (0, 10), "a peer wants to replace the funding transaction"),
    hook("onion_message_recv", (22, 11), "an onion message has arrived, not by a path of ours"),
    hook("onion_message_recv_secret", (22, 11), "an onion message has arrived by a path of ours"),
    hook("recover", (23, 8), "the node starts with --recover"),
];

/// The hooks that a release has.
pub fn hooks_of(release: Release) -> impl Iterator<Item = &'static Hook> {
    HOOKS.iter().filter(move |hook| hook.since <= release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_the_hooks_it_knows() {
        assert!(HOOKS.is_sorted_by_key(|hook| hook.since));
        assert_eq!(hooks_of(Release(23, 5)).count(), HOOKS.len() - 1);
        assert_eq!(hooks_of(Release(23, 8)).count(), HOOKS.len());
        assert_eq!(
            Hook::find("recover").map(|hook| hook.since),
            Some(Release(23, 8))
        );
    }
}
