//! Blocks and coins of bitcoind.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bitcoin::Bitcoind;
use crate::{Error, Probe, Result, eventually};

/// How long a transaction may take from its broadcast to the mempool.
const MEMPOOL: Duration = Duration::from_secs(30);

/// Blocks of one request, so that each is answered well before its deadline.
const MINED_AT_ONCE: u64 = 500;

impl Bitcoind {
    /// Mines `blocks` blocks to the wallet; their hashes, first to last.
    ///
    /// It does not wait for the nodes: see [`crate::Lab::mine`].
    pub async fn mine(&self, blocks: u64) -> Result<Vec<String>> {
        let address: String = self.call("getnewaddress", vec![]).await?;
        let mut hashes = Vec::new();
        while (hashes.len() as u64) < blocks {
            let count = MINED_AT_ONCE.min(blocks - hashes.len() as u64);
            let params = vec![json!(count), json!(address)];
            let mined: Vec<String> = self.call("generatetoaddress", params).await?;
            hashes.extend(mined);
        }
        Ok(hashes)
    }

    /// Sends `sat` satoshi from the wallet to an address; the transaction's id.
    /// It is in the mempool then, not in a block.
    ///
    /// # Errors
    /// bitcoind's: -5 if it is not a regtest address, -6 if the wallet does not have
    /// that much (it starts with one spendable coinbase of 50 BTC).
    pub async fn send_to(&self, address: &str, sat: u64) -> Result<String> {
        self.call("sendtoaddress", vec![json!(address), json!(btc(sat))])
            .await
    }

    /// Sends to several addresses in one transaction.
    pub(crate) async fn send_many(&self, outputs: &[(String, u64)]) -> Result<String> {
        let amounts: serde_json::Map<String, Value> = outputs
            .iter()
            .map(|(address, sat)| (address.clone(), json!(btc(*sat))))
            .collect();
        self.call("sendmany", vec![json!(""), Value::Object(amounts)])
            .await
    }

    /// The ids of the transactions that wait for a block.
    pub async fn mempool(&self) -> Result<Vec<String>> {
        self.call("getrawmempool", vec![]).await
    }

    /// Waits until all these transactions are in the mempool.
    ///
    /// # Errors
    /// [`Error::TimedOut`], naming the first that is not.
    pub async fn wait_for_mempool(&self, txids: &[String]) -> Result<()> {
        let what = format!("[{}] in bitcoind's mempool", txids.join(", "));
        eventually(what, MEMPOOL, async || {
            let mempool = self.mempool().await?;
            Ok(match txids.iter().find(|txid| !mempool.contains(txid)) {
                None => Probe::Ready(()),
                Some(txid) => Probe::NotYet(format!("{txid} is not among {mempool:?}")),
            })
        })
        .await
    }

    /// Waits for a transaction to be broadcast and mines until a block has it;
    /// the height of that block. Nothing is mined if one of the last 100 blocks has it
    /// already.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it is in neither the mempool nor a block.
    pub async fn mine_until_confirmed(&self, txid: &str) -> Result<u64> {
        let mut looked_at = self.height().await?.saturating_sub(100);
        let what = format!("transaction {txid} to be mined");
        eventually(what, MEMPOOL, async || {
            if self.mempool().await?.iter().any(|id| id == txid) {
                self.mine(1).await?;
            }
            while looked_at < self.height().await? {
                looked_at += 1;
                if self
                    .transactions_at(looked_at)
                    .await?
                    .contains(&json!(txid))
                {
                    return Ok(Probe::Ready(looked_at));
                }
            }
            Ok(Probe::NotYet(
                "it is in neither the mempool nor a block".to_owned(),
            ))
        })
        .await
    }

    async fn transactions_at(&self, height: u64) -> Result<Vec<Value>> {
        let hash = self.block_hash(height).await?;
        let mut block: Value = self.call("getblock", vec![json!(hash)]).await?;
        match block["tx"].take() {
            Value::Array(ids) => Ok(ids),
            other => Err(Error::Answer {
                from: "bitcoind: getblock".to_owned(),
                why: format!("`tx` is {other}"),
            }),
        }
    }

    /// The hash of the block at this height.
    pub async fn block_hash(&self, height: u64) -> Result<String> {
        self.call("getblockhash", vec![json!(height)]).await
    }

    /// Replaces the last `depth` blocks by `depth + 1` others, so that nodes see a
    /// reorganization; the new blocks' hashes. The transactions of the replaced blocks
    /// go back to the mempool and into the first new block.
    ///
    /// # Errors
    /// [`Error::Usage`] if the chain is not that long.
    pub async fn reorg(&self, depth: u64) -> Result<Vec<String>> {
        let height = self.height().await?;
        if depth == 0 || depth > height {
            return Err(Error::usage(format!(
                "a reorganization of {depth} blocks in a chain of {height}"
            )));
        }
        let first = self.block_hash(height - depth + 1).await?;
        self.call::<Value>("invalidateblock", vec![json!(first)])
            .await?;
        self.mine(depth + 1).await
    }
}

/// Satoshi as an exact decimal number of bitcoins, which bitcoind takes as a string.
fn btc(sat: u64) -> String {
    format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000)
}

#[cfg(test)]
mod tests {
    use super::btc;

    #[test]
    fn bitcoins_are_exact() {
        assert_eq!(btc(1), "0.00000001");
        assert_eq!(btc(2_099_999_999_999_999), "20999999.99999999");
    }
}
