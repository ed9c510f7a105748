//! bitcoind: how high the chain is, and each new block as it comes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoincore_rpc::jsonrpc::error::Error as JsonRpcError;
use bitcoincore_rpc::{Auth, Client, Error, RpcApi};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::config::BitcoinConfig;

/// How many blocks are remembered, to see where a new branch starts.
const REMEMBERED: usize = 100;

/// bitcoind's error while it starts.
const RPC_IN_WARMUP: i32 = -28;

/// A block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// Blocks before it.
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
    /// A chain of which nothing is known yet.
    pub fn new(config: BitcoinConfig) -> Self {
        Self {
            config,
            client: Mutex::new(None),
            recent: Mutex::new(VecDeque::new()),
            tip: watch::Sender::new(Block::default()),
        }
    }

    /// The height of the last block seen.
    pub fn height(&self) -> u32 {
        self.tip.borrow().height
    }

    /// To wait for a height with.
    pub fn watch(&self) -> watch::Receiver<Block> {
        self.tip.subscribe()
    }

    /// Connects to bitcoind and looks at its chain. While bitcoind says that it
    /// is starting, it waits.
    ///
    /// # Errors
    /// What was tried and what bitcoind, or its absence, said.
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
        *self.lock_client() = Some(Arc::new(client));
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

    /// Asks bitcoind for its tip; gives the blocks that were not there at the
    /// last look, oldest first (at the first look: none). After a
    /// reorganisation these are the blocks of the new branch.
    ///
    /// # Errors
    /// bitcoind does not answer, or not with what was asked for.
    pub async fn poll(&self) -> Result<Vec<Block>, Error> {
        #[derive(Deserialize)]
        struct Header {
            height: u32,
            previousblockhash: Option<String>,
        }
        let mut hash: String = self.call("getbestblockhash", vec![]).await?;
        let (first_look, oldest) = {
            let recent = self.lock_recent();
            if recent.back().is_some_and(|b| b.hash == hash) {
                return Ok(vec![]);
            }
            (recent.is_empty(), recent.front().map_or(0, |b| b.height))
        };
        // Back from the tip to a block that is known, or to the height of the
        // oldest that is remembered.
        let mut new = VecDeque::new();
        loop {
            let header: Header = self.call("getblockheader", vec![json!(hash)]).await?;
            let height = header.height;
            new.push_front(Block { height, hash });
            let known = |hash: &String| self.lock_recent().iter().any(|b| &b.hash == hash);
            match header.previousblockhash {
                Some(before) if !first_look && height > oldest && !known(&before) => hash = before,
                _ => break,
            }
        }
        let mut recent = self.lock_recent();
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

    /// Says that this is the tip now, to whoever waits for a height.
    pub fn reached(&self, block: &Block) {
        self.tip.send_replace(block.clone());
    }

    async fn call<T>(&self, method: &'static str, params: Vec<Value>) -> Result<T, Error>
    where
        T: for<'de> Deserialize<'de> + Send + 'static,
    {
        let Some(client) = self.lock_client().clone() else {
            return Err(Error::ReturnedError("not connected to bitcoind".into()));
        };
        tokio::task::spawn_blocking(move || client.call(method, &params))
            .await
            .map_err(|e| Error::ReturnedError(e.to_string()))?
    }

    fn lock_client(&self) -> std::sync::MutexGuard<'_, Option<Arc<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_recent(&self) -> std::sync::MutexGuard<'_, VecDeque<Block>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
