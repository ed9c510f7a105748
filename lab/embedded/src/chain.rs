//! bitcoind: the height of the chain, and each new block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoincore_rpc::jsonrpc::error::Error as JsonRpcError;
use bitcoincore_rpc::{Auth, Client, Error, RpcApi};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::config::BitcoinConfig;
use crate::lock::lock;

/// How many blocks to remember, to find where a new branch starts.
const REMEMBERED: usize = 100;

/// bitcoind's error while it starts.
const RPC_IN_WARMUP: i32 = -28;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    pub height: u32,
    /// Hex, in the usual (reversed) order.
    pub hash: String,
}

/// The chain as last seen.
pub struct Chain {
    config: BitcoinConfig,
    client: Mutex<Option<Arc<Client>>>,
    recent: Mutex<VecDeque<Block>>,
    tip: watch::Sender<Block>,
}

impl Chain {
    pub fn new(config: BitcoinConfig) -> Self {
        Self {
            config,
            client: Mutex::new(None),
            recent: Mutex::new(VecDeque::new()),
            tip: watch::Sender::new(Block::default()),
        }
    }

    pub fn height(&self) -> u32 {
        self.tip.borrow().height
    }

    /// Reports each new tip.
    pub fn watch(&self) -> watch::Receiver<Block> {
        self.tip.subscribe()
    }

    /// Connects to bitcoind and reads its tip; waits while bitcoind is still starting.
    ///
    /// # Errors
    /// What was tried, and the error.
    pub async fn connect(&self) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Info {
            chain: String,
        }
        let url = self.config.url();
        let auth = match (&self.config.user, &self.config.password) {
            (Some(user), Some(password)) => Auth::UserPass(user.clone(), password.clone()),
            (None, None) => Auth::CookieFile(self.config.cookie()),
            _ => {
                return Err(
                    "bitcoin-rpcuser and bitcoin-rpcpassword go together: give both or none".into(),
                );
            }
        };
        let how = match &auth {
            Auth::CookieFile(path) => format!("with the cookie {}", path.display()),
            _ => "with bitcoin-rpcuser and bitcoin-rpcpassword".into(),
        };
        let failed = |e: &dyn std::fmt::Display| {
            format!("Could not connect to bitcoind at {url} {how}: {e}. Is bitcoind running?")
        };
        let client = Client::new(&url, auth).map_err(|e| failed(&e))?;
        *lock(&self.client) = Some(Arc::new(client));
        let info: Info = loop {
            match self.call("getblockchaininfo", vec![]).await {
                Err(Error::JsonRpc(JsonRpcError::Rpc(e))) if e.code == RPC_IN_WARMUP => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                other => break other.map_err(|e| failed(&e))?,
            }
        };
        if info.chain != "regtest" {
            return Err(format!(
                "bitcoind at {url} is on {}, and the embedded node runs on regtest only",
                info.chain
            ));
        }
        self.poll().await.map_err(|e| failed(&e))?;
        Ok(())
    }

    /// Asks bitcoind for its tip; gives the blocks since the last time, oldest first
    /// (the first time: none). After a reorganisation these are the blocks of the new
    /// branch.
    pub async fn poll(&self) -> Result<Vec<Block>, Error> {
        #[derive(Deserialize)]
        struct Header {
            height: u32,
            previousblockhash: Option<String>,
        }
        let mut hash: String = self.call("getbestblockhash", vec![]).await?;
        let (first_look, oldest) = {
            let recent = lock(&self.recent);
            if recent.back().is_some_and(|b| b.hash == hash) {
                return Ok(vec![]);
            }
            (recent.is_empty(), recent.front().map_or(0, |b| b.height))
        };
        // Back from the tip to a known block, or to the height of the oldest
        // remembered one.
        let mut new = VecDeque::new();
        loop {
            let header: Header = self.call("getblockheader", vec![json!(hash)]).await?;
            let height = header.height;
            new.push_front(Block { height, hash });
            let known = |hash: &String| lock(&self.recent).iter().any(|b| &b.hash == hash);
            match header.previousblockhash {
                Some(before) if !first_look && height > oldest && !known(&before) => hash = before,
                _ => break,
            }
        }
        let mut recent = lock(&self.recent);
        if let Some(first) = new.front() {
            recent.retain(|b| b.height < first.height);
        }
        recent.extend(new.iter().cloned());
        let excess = recent.len().saturating_sub(REMEMBERED);
        recent.drain(..excess);
        Ok(if first_look {
            if let Some(tip) = new.back() {
                self.reached(tip);
            }
            vec![]
        } else {
            new.into()
        })
    }

    /// Reports this block as the tip to those that [`watch`](Self::watch).
    pub fn reached(&self, block: &Block) {
        self.tip.send_replace(block.clone());
    }

    async fn call<T>(&self, method: &'static str, params: Vec<Value>) -> Result<T, Error>
    where
        T: for<'de> Deserialize<'de> + Send + 'static,
    {
        let Some(client) = lock(&self.client).clone() else {
            return Err(Error::ReturnedError("not connected to bitcoind".into()));
        };
        tokio::task::spawn_blocking(move || client.call(method, &params))
            .await
            .map_err(|e| Error::ReturnedError(e.to_string()))?
    }
}
