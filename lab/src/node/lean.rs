//! Which of lightningd's own plugins a lean node leaves out.

use serde::{Deserialize, Serialize};

use super::Capability;

/// What a lean node can still do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Lean {
    keep: Vec<Capability>,
}

/// lightningd's own plugins, of all versions, and the capabilities that need each. Those
/// that none needs are always left out. Never left out are `bcli`, through which
/// lightningd sees the chain, and `autoclean`: at its start lightningd waits until the
/// last of its plugins is ready, and if there is none but `bcli`, which was ready
/// before, it waits for ever.
///
/// lightningd ends if one of them dies (they are "important"), but accepts one that is
/// disabled from the start, and a name that its version does not know.
const PLUGINS: &[(&str, &[Capability])] = {
    use Capability::{Channels, Payments, Wallet};
    &[
        ("bookkeeper", &[]),
        ("chanbackup", &[]),
        ("cln-askrene", &[Payments]),
        ("cln-bwatch", &[]),
        ("cln-renepay", &[]),
        ("cln-xpay", &[Payments]),
        ("commando", &[]),
        ("exposesecret", &[]),
        ("fetchinvoice", &[]),
        ("funder", &[]),
        ("keysend", &[Payments]),
        ("offers", &[]),
        ("pay", &[Payments]),
        ("recklessrpc", &[]),
        ("recover", &[]),
        // fundchannel, multifundchannel.
        ("spenderp", &[Channels]),
        ("sql", &[]),
        // listchannels, getroute, listincoming.
        ("topology", &[Channels]),
        // withdraw, txprepare.
        ("txprepare", &[Wallet]),
    ]
};

impl Lean {
    pub fn new(keep: impl IntoIterator<Item = Capability>) -> Lean {
        Lean {
            keep: keep.into_iter().collect(),
        }
    }

    /// True if a node can still do this. Payments imply channels, channels a wallet.
    pub fn keeps(&self, capability: Capability) -> bool {
        use Capability::{Channels, Payments, Wallet};
        let implied: &[Capability] = match capability {
            Wallet => &[Wallet, Channels, Payments],
            Channels => &[Channels, Payments],
            Payments => &[Payments],
        };
        implied.iter().any(|kept| self.keep.contains(kept))
    }

    /// The plugins to leave out.
    pub fn left_out(&self) -> impl Iterator<Item = &'static str> {
        PLUGINS
            .iter()
            .filter(|(_, needed_by)| !needed_by.iter().any(|need| self.keeps(*need)))
            .map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_is_needed() {
        let kept = |keep: &[Capability]| -> Vec<&str> {
            let left_out: Vec<&str> = Lean::new(keep.iter().copied()).left_out().collect();
            PLUGINS
                .iter()
                .map(|(name, _)| *name)
                .filter(|name| !left_out.contains(name))
                .collect()
        };
        assert!(kept(&[]).is_empty());
        assert_eq!(kept(&[Capability::Wallet]), ["txprepare"]);
        let channels = ["spenderp", "topology", "txprepare"];
        assert_eq!(kept(&[Capability::Channels]), channels);
        assert_eq!(kept(&[Capability::Payments]).len(), 7);
    }
}
