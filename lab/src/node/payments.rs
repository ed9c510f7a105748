//! Payments, with an invoice and without.

use bitcoin_hashes::hex::FromHex;
use bitcoin_hashes::{Hash, sha256};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Capability, Node, msat};
use crate::{Error, PATIENCE, Probe, Result, eventually};

/// A payment that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The proof of payment: 32 bytes, in hexadecimal.
    pub preimage: String,
    /// What the payee received, in millisatoshi.
    pub amount_msat: u64,
    /// What the payer sent, fees included, in millisatoshi.
    pub amount_sent_msat: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    payment_preimage: String,
    amount_msat: Value,
    amount_sent_msat: Value,
}

impl Node {
    /// Pays an invoice: `pay`, which lightningd forwards to `xpay` from v24.11 on.
    ///
    /// First it waits until the node has seen the last block: `xpay` adds no slack to
    /// its time locks, so a payer that is a block behind the payee would be refused. In
    /// the end it waits until the channel is settled: the payee can spend what it got.
    ///
    /// # Errors
    /// lightningd's: 205 if there is no route, 203 if the payee refused, …
    /// (lightning-pay(7)).
    pub async fn pay(&self, bolt11: &str) -> Result<Payment> {
        self.require(Capability::Payments)?;
        self.wait_block().await?;
        self.payment("pay", json!({"bolt11": bolt11})).await
    }

    /// Pays `amount_msat` millisatoshi to a node without an invoice: `xkeysend` from
    /// v26.06 on, `keysend` before.
    ///
    /// # Errors
    /// As [`Node::pay`].
    pub async fn keysend(&self, payee: &Node, amount_msat: u64) -> Result<Payment> {
        self.require(Capability::Payments)?;
        self.wait_block().await?;
        let version = self.implementation().lightningd();
        let method = if version.is_some_and(|version| version.at_least(26, 6)) {
            "xkeysend"
        } else {
            "keysend"
        };
        let params = json!({"destination": payee.id(), "amount_msat": amount_msat});
        self.payment(method, params).await
    }

    async fn payment(&self, method: &str, params: Value) -> Result<Payment> {
        let answer: Answer = self.call(method, params).await?;
        self.settled(&answer.payment_preimage).await?;
        let amount = |name: &str, value: &Value| {
            msat(value).ok_or_else(|| Error::Answer {
                from: format!("{}: {method}", self.name()),
                why: format!("{name} is {value}"),
            })
        };
        Ok(Payment {
            amount_msat: amount("amount_msat", &answer.amount_msat)?,
            amount_sent_msat: amount("amount_sent_msat", &answer.amount_sent_msat)?,
            preimage: answer.payment_preimage,
        })
    }
    /// Waits until no channel to a connected peer has this payment any more.
    async fn settled(&self, preimage: &str) -> Result<()> {
        let preimage = <Vec<u8>>::from_hex(preimage).unwrap_or_default();
        let payment_hash = sha256::Hash::hash(&preimage).to_string();
        let what = format!("{}'s payment to be settled", self.name());
        eventually(what, PATIENCE, async || {
            let listed: Value = self.call("listpeerchannels", json!({})).await?;
            let channels = listed["channels"].as_array().into_iter().flatten();
            let under_way = channels
                .filter(|channel| channel["peer_connected"] == true)
                .flat_map(|channel| channel["htlcs"].as_array().into_iter().flatten())
                .find(|htlc| htlc["payment_hash"] == payment_hash);
            Ok(match under_way {
                Some(htlc) => Probe::NotYet(htlc.to_string()),
                None => Probe::Ready(()),
            })
        })
        .await
    }
}
