//! Blocks and coins, as a node sees them.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::{Capability, Node};
use crate::bitcoin::Bitcoind;
use crate::{Error, Probe, Result, eventually};

/// How long a node may take to see a block: without `--dev-bitcoind-poll`, lightningd
/// looks every 30 s.
const BLOCK: Duration = Duration::from_secs(60);

/// An output that a node can spend.
#[derive(Debug, Clone)]
pub(super) struct Coin {
    /// `txid:vout`, as `utxos` of fundchannel takes it.
    pub outpoint: String,
    pub sat: u64,
}

impl Node {
    /// The height of the chain that it knows.
    pub async fn height(&self) -> Result<u64> {
        let info: Value = self.call("getinfo", json!({})).await?;
        info["blockheight"].as_u64().ok_or_else(|| Error::Answer {
            from: format!("{}: getinfo", self.name()),
            why: format!("blockheight is {}", info["blockheight"]),
        })
    }

    /// Waits until it has reached this height; the height it has then.
    pub async fn wait_height(&self, height: u64) -> Result<u64> {
        let what = format!("{} to be at block {height}", self.name());
        eventually(what, BLOCK, async || {
            self.check_alive().await?;
            let reached = self.height().await?;
            Ok(if reached >= height {
                Probe::Ready(reached)
            } else {
                Probe::NotYet(format!("at block {reached}"))
            })
        })
        .await
    }

    /// Waits until it has seen bitcoind's last block; the height it has then.
    pub async fn wait_block(&self) -> Result<u64> {
        let tip = self.bitcoind.height().await?;
        self.wait_height(tip).await
    }

    /// Sends it `sat` satoshi in one output, mines a block, and waits until it
    /// can spend them; the transaction's id.
    ///
    /// For several nodes at once, in one transaction and one block, see
    /// [`crate::Lab::fund_nodes`].
    ///
    /// # Errors
    /// [`Error::Usage`] if the node has no wallet.
    pub async fn fund(&self, sat: u64) -> Result<String> {
        fund(&self.bitcoind, &[(self, sat)]).await
    }

    /// A new address of its wallet (bech32, BIP 173).
    pub async fn new_address(&self) -> Result<String> {
        self.require(Capability::Wallet)?;
        let answer: Value = self
            .call("newaddr", json!({"addresstype": "bech32"}))
            .await?;
        let address = answer["bech32"].as_str().map(str::to_owned);
        address.ok_or_else(|| Error::Answer {
            from: format!("{}: newaddr", self.name()),
            why: format!("no bech32 in {answer}"),
        })
    }

    /// What its wallet can spend, in satoshi: confirmed and not reserved.
    pub async fn balance(&self) -> Result<u64> {
        Ok(self.coins().await?.iter().map(|coin| coin.sat).sum())
    }

    /// The outputs that make up its balance.
    pub(super) async fn coins(&self) -> Result<Vec<Coin>> {
        self.require(Capability::Wallet)?;
        let funds: Value = self.call("listfunds", json!({})).await?;
        let outputs = funds["outputs"].as_array().cloned().unwrap_or_default();
        Ok(outputs
            .iter()
            .filter(|output| output["status"] == "confirmed" && output["reserved"] != json!(true))
            .filter_map(|output| {
                Some(Coin {
                    outpoint: format!("{}:{}", output["txid"].as_str()?, output["output"]),
                    sat: msat(&output["amount_msat"])? / 1000,
                })
            })
            .collect())
    }
}

/// Sends coins to nodes, an output each, all in one transaction and one block, and
/// waits until each can spend its output.
pub(crate) async fn fund(bitcoind: &Bitcoind, wanted: &[(&Node, u64)]) -> Result<String> {
    let outputs = try_join_all(
        wanted
            .iter()
            .map(async |(node, sat)| Ok::<_, Error>((node.new_address().await?, *sat))),
    )
    .await?;
    let txid = bitcoind.send_many(&outputs).await?;
    bitcoind.mine_until_confirmed(&txid).await?;
    try_join_all(wanted.iter().map(async |(node, _)| {
        let what = format!("{} to have the coins of {txid}", node.name());
        eventually(what, BLOCK, async || {
            node.check_alive().await?;
            let coins = node.coins().await?;
            Ok(
                if coins.iter().any(|coin| coin.outpoint.starts_with(&txid)) {
                    Probe::Ready(())
                } else {
                    Probe::NotYet(format!("at block {}", node.height().await?))
                },
            )
        })
        .await
    }))
    .await?;
    Ok(txid)
}

/// An amount in millisatoshi as lightningd writes it: a number, or, in some answers
/// before v23.11, a string such as `"1000msat"`. `None` for anything else.
///
/// ```
/// use serde_json::json;
/// assert_eq!(cln_lab::msat(&json!(1000)), Some(1000));
/// assert_eq!(cln_lab::msat(&json!("1000msat")), Some(1000));
/// assert_eq!(cln_lab::msat(&json!("1000")), None);
/// ```
pub fn msat(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.strip_suffix("msat")?.parse().ok(),
        number => number.as_u64(),
    }
}
