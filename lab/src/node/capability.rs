//! What a node can do.

use serde::{Deserialize, Serialize};

use super::Node;
use crate::{Error, Implementation, Result};

/// Something that not every implementation of a node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Capability {
    /// Coins on chain: `newaddr`, `listfunds`, `withdraw`.
    Wallet,
    /// Channels: `fundchannel`, `close`, and the gossip about them.
    Channels,
    /// Payments: `pay`, `keysend`.
    Payments,
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Capability::Wallet => "an on-chain wallet",
            Capability::Channels => "channels",
            Capability::Payments => "payments",
        })
    }
}

impl Node {
    /// True if it can do this. A test that needs more than every node has checks this
    /// rather than which program the node is.
    pub fn supports(&self, capability: Capability) -> bool {
        match (self.implementation(), capability) {
            (Implementation::Lightningd(_), _) => {
                let lean = self.spec().lean;
                lean.is_none_or(|lean| lean.keeps(capability))
            }
            (
                Implementation::Embedded(_),
                Capability::Wallet | Capability::Channels | Capability::Payments,
            ) => false,
        }
    }

    /// Checks that it can do this.
    ///
    /// # Errors
    /// [`Error::Usage`] that says what is missing and what to do.
    pub fn require(&self, capability: Capability) -> Result<()> {
        if self.supports(capability) {
            return Ok(());
        }
        if self.spec().lean.is_some() {
            return Err(Error::usage(format!(
                "{} is lean and lacks {capability}: add Capability::{capability:?} to what `lean` keeps",
                self.name()
            )));
        }
        Err(Error::usage(format!(
            "{} is the {}, which does not support {capability}: start the lab with lightningd (`lab up --node lightningd`; LAB_NODE=lightningd for a test)",
            self.name(),
            self.implementation()
        )))
    }
}
