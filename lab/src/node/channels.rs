//! Opens channels and waits until they can be used everywhere; closes them.

use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::wallet::Coin;
use super::{Capability, Node, fund};
use crate::bitcoin::Bitcoind;
use crate::{Error, Probe, Result, eventually};

/// The default capacity of a channel, in satoshi.
pub const CHANNEL_SAT: u64 = 1_000_000;

/// What an opener needs on top of the capacity, for the fee and the emergency reserve
/// that lightningd keeps for anchor channels, in satoshi.
const RESERVE: u64 = 100_000;

/// Nodes announce a channel after this many confirmations (BOLT 7).
const ANNOUNCED: u64 = 6;

/// How long both sides may take until a confirmed channel is CHANNELD_NORMAL.
const NORMAL: Duration = Duration::from_secs(60);

/// How long gossip about a channel may take. Without `--dev-fast-gossip` a channel is
/// announced after a minute, and each node forwards it after another.
const GOSSIP: Duration = Duration::from_secs(240);

/// Describes a channel to open.
#[derive(Debug, Clone, Copy)]
pub struct OpenChannel<'a> {
    from: &'a Node,
    to: &'a Node,
    sat: u64,
    push_msat: u64,
    public: bool,
}

impl<'a> OpenChannel<'a> {
    /// A public channel of [`CHANNEL_SAT`], all of it on the side of `from`.
    pub fn new(from: &'a Node, to: &'a Node) -> OpenChannel<'a> {
        OpenChannel {
            from,
            to,
            sat: CHANNEL_SAT,
            push_msat: 0,
            public: true,
        }
    }

    /// Sets its capacity, in satoshi.
    #[must_use]
    pub fn sat(mut self, sat: u64) -> OpenChannel<'a> {
        self.sat = sat;
        self
    }

    /// Gives the other side this much of it, in millisatoshi. Not possible in a
    /// dual-funded open.
    #[must_use]
    pub fn push_msat(mut self, msat: u64) -> OpenChannel<'a> {
        self.push_msat = msat;
        self
    }

    /// Makes it private: it is not announced.
    #[must_use]
    pub fn private(mut self) -> OpenChannel<'a> {
        self.public = false;
        self
    }

    /// Its opener and the other side.
    pub(crate) fn ends(&self) -> [&'a Node; 2] {
        [self.from, self.to]
    }

    /// What its opener must have in one output.
    fn needs(&self) -> u64 {
        self.sat + RESERVE
    }
}

/// An open channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id (BOLT 2), 64 hexadecimal digits.
    pub channel_id: String,
    /// Where it is in the chain: `105x1x0`, block, transaction, output (BOLT 7).
    pub short_channel_id: String,
    /// The transaction that funds it.
    pub funding_txid: String,
    /// Its capacity in satoshi.
    pub sat: u64,
}

impl Node {
    /// Opens a public channel of `sat` satoshi to another node and waits until it can be
    /// used: it is CHANNELD_NORMAL on both sides, and both know both its directions.
    /// Connects and funds the node if necessary, and mines.
    ///
    /// That takes about two seconds; with a lightningd before v23.11, which looks for
    /// blocks every 30 s and forwards gossip once a minute, it takes minutes.
    ///
    /// For several at once, in the same blocks, see [`crate::Lab::open_channels`].
    ///
    /// # Errors
    /// [`Error::Usage`] if a node does not support channels; lightningd's, for example
    /// 300 to 305 (lightning-fundchannel(7)).
    pub async fn open_channel(&self, peer: &Node, sat: u64) -> Result<Channel> {
        let spec = OpenChannel::new(self, peer).sat(sat);
        let mut opened = open_channels(&self.bitcoind, &[spec], &[self, peer]).await?;
        opened.pop().ok_or_else(|| Error::Answer {
            from: self.name().to_owned(),
            why: "no channel".to_owned(),
        })
    }

    /// Closes the channel with another node by mutual agreement, mines the closing
    /// transaction, and waits until both sides have seen it; the transaction's id.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no channel between the two, or more than one.
    pub async fn close(&self, peer: &Node) -> Result<String> {
        self.require(Capability::Channels)?;
        let mut open = self.channels_with(peer).await?;
        open.retain(|channel| channel["state"] == "CHANNELD_NORMAL");
        let channel_id = match (open.pop(), open.is_empty()) {
            (Some(channel), true) => text(&channel, "channel_id"),
            (channel, _) => {
                return Err(Error::usage(format!(
                    "{} has {} open channels with {}: close needs exactly one",
                    self.name(),
                    open.len() + usize::from(channel.is_some()),
                    peer.name()
                )));
            }
        };
        let answer: Value = self.call("close", json!({"id": channel_id})).await?;
        // A list from v24.11 on, where a splice can leave several.
        let txid = match answer["txids"].get(0).or(answer.get("txid")) {
            Some(Value::String(txid)) => txid.clone(),
            _ => {
                return Err(Error::Answer {
                    from: format!("{}: close", self.name()),
                    why: format!("no transaction in {answer}"),
                });
            }
        };
        self.bitcoind.mine_until_confirmed(&txid).await?;
        for (node, other) in [(self, peer), (peer, self)] {
            let what = format!("{} to see channel {channel_id} closed", node.name());
            eventually(what, NORMAL, async || {
                node.check_alive().await?;
                let channels = node.channels_with(other).await?;
                let ours = channels.iter().find(|c| c["channel_id"] == channel_id);
                Ok(match ours.map(|channel| text(channel, "state")) {
                    Some(state) if state != "ONCHAIN" && state != "CLOSED" => {
                        Probe::NotYet(format!("it is {state}"))
                    }
                    _ => Probe::Ready(()),
                })
            })
            .await?;
        }
        Ok(txid)
    }

    /// Its channels with another node, as `listpeerchannels` shows them.
    pub async fn channels_with(&self, peer: &Node) -> Result<Vec<Value>> {
        self.require(Capability::Channels)?;
        let mut answer: Value = self
            .call("listpeerchannels", json!({"id": peer.id()}))
            .await?;
        match answer["channels"].take() {
            Value::Array(channels) => Ok(channels),
            _ => Ok(Vec::new()),
        }
    }

    /// Waits until it knows both directions of these channels from gossip, so that it
    /// can find routes through them.
    pub async fn wait_for_gossip(&self, channels: &[Channel]) -> Result<()> {
        for channel in channels {
            let scid = &channel.short_channel_id;
            let what = format!("{} to know both directions of {scid}", self.name());
            eventually(what, GOSSIP, async || {
                self.check_alive().await?;
                let known: Value = self
                    .call("listchannels", json!({"short_channel_id": scid}))
                    .await?;
                let known = known["channels"].as_array().map_or(&[][..], Vec::as_slice);
                let active = known.iter().filter(|c| c["active"] == json!(true)).count();
                Ok(match active {
                    2 => Probe::Ready(()),
                    n => Probe::NotYet(format!("it knows {n}")),
                })
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the channel is CHANNELD_NORMAL for this node.
    async fn wait_normal(&self, peer: &Node, funding_txid: &str, public: bool) -> Result<Channel> {
        let what = format!(
            "the channel of {} with {} to be CHANNELD_NORMAL",
            self.name(),
            peer.name()
        );
        eventually(what, NORMAL, async || {
            self.check_alive().await?;
            let channels = self.channels_with(peer).await?;
            let Some(channel) = channels.iter().find(|c| c["funding_txid"] == funding_txid) else {
                return Ok(Probe::NotYet(format!("none funded by {funding_txid}")));
            };
            let state = text(channel, "state");
            let scid = text(channel, "short_channel_id");
            if state != "CHANNELD_NORMAL" || scid.is_empty() {
                return Ok(Probe::NotYet(format!(
                    "it is {state}, at block {}: {}",
                    self.height().await?,
                    channel["status"]
                )));
            }
            // A private channel is not in gossip; the peer sends its terms for
            // forwarding directly (shown there from v23.11 on).
            let version = self.implementation().lightningd();
            let shown = version.is_some_and(|version| version.at_least(23, 11));
            if !public && shown && channel["updates"]["remote"].is_null() {
                return Ok(Probe::NotYet("the peer's update is missing".to_owned()));
            }
            Ok(Probe::Ready(Channel {
                channel_id: text(channel, "channel_id"),
                short_channel_id: scid,
                funding_txid: funding_txid.to_owned(),
                sat: super::msat(&channel["total_msat"]).unwrap_or(0) / 1000,
            }))
        })
        .await
    }
}

/// Opens channels, all in the same blocks, and waits until both sides can use them and
/// `audience` knows the public ones.
pub(crate) async fn open_channels(
    bitcoind: &Bitcoind,
    specs: &[OpenChannel<'_>],
    audience: &[&Node],
) -> Result<Vec<Channel>> {
    for node in specs.iter().flat_map(OpenChannel::ends) {
        node.require(Capability::Channels)?;
    }
    for spec in specs {
        if !spec.from.is_connected(spec.to).await? {
            spec.from.connect(spec.to).await?;
        }
    }
    let coins = coins_for(bitcoind, specs).await?;
    // A node that is a block behind refuses, or is refused.
    let ends = specs.iter().flat_map(OpenChannel::ends);
    try_join_all(ends.map(Node::wait_block)).await?;
    let mut txids = Vec::with_capacity(specs.len());
    for (spec, coin) in specs.iter().zip(&coins) {
        txids.push(fundchannel(spec, coin).await?);
    }
    bitcoind.wait_for_mempool(&txids).await?;
    bitcoind.mine(ANNOUNCED).await?;

    let channels = try_join_all(specs.iter().zip(&txids).map(async |(spec, txid)| {
        let (ours, _theirs) = futures_util::future::try_join(
            spec.from.wait_normal(spec.to, txid, spec.public),
            spec.to.wait_normal(spec.from, txid, spec.public),
        )
        .await?;
        Ok::<_, Error>(ours)
    }))
    .await?;
    let public: Vec<Channel> = specs
        .iter()
        .zip(&channels)
        .filter(|(spec, _)| spec.public)
        .map(|(_, channel)| channel.clone())
        .collect();
    try_join_all(audience.iter().map(|node| node.wait_for_gossip(&public))).await?;
    Ok(channels)
}

/// `fundchannel` with exactly this coin; the funding transaction's id.
async fn fundchannel(spec: &OpenChannel<'_>, coin: &Coin) -> Result<String> {
    let mut params = json!({
        "id": spec.to.id(),
        "amount": spec.sat,
        "announce": spec.public,
        "utxos": [coin.outpoint],
    });
    if spec.push_msat > 0 {
        params["push_msat"] = json!(spec.push_msat);
    }
    let answer: Value = spec.from.call("fundchannel", params).await?;
    match &answer["txid"] {
        Value::String(txid) => Ok(txid.clone()),
        other => Err(Error::Answer {
            from: format!("{}: fundchannel", spec.from.name()),
            why: format!("txid is {other}"),
        }),
    }
}

/// A coin for each channel: one that its opener has already, else a new one. All new
/// ones come in one transaction and one block.
async fn coins_for(bitcoind: &Bitcoind, specs: &[OpenChannel<'_>]) -> Result<Vec<Coin>> {
    let mut chosen = choose(specs).await?;
    let missing: Vec<(&Node, u64)> = specs
        .iter()
        .zip(&chosen)
        .filter(|(_, coin)| coin.is_none())
        .map(|(spec, _)| (spec.from, spec.needs()))
        .collect();
    if !missing.is_empty() {
        fund(bitcoind, &missing).await?;
        chosen = choose(specs).await?;
    }
    chosen
        .into_iter()
        .zip(specs)
        .map(|(coin, spec)| {
            coin.ok_or_else(|| Error::Answer {
                from: format!("{}: listfunds", spec.from.name()),
                why: format!("no output of {} sat though it was funded", spec.needs()),
            })
        })
        .collect()
}

/// For each channel the smallest sufficient coin of its opener that no other of these
/// channels takes.
async fn choose(specs: &[OpenChannel<'_>]) -> Result<Vec<Option<Coin>>> {
    let mut chosen: Vec<Option<Coin>> = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut coins = spec.from.coins().await?;
        coins.retain(|coin| {
            let taken = |other: &Coin| other.outpoint == coin.outpoint;
            coin.sat >= spec.needs() && !chosen.iter().flatten().any(taken)
        });
        chosen.push(coins.into_iter().min_by_key(|coin| coin.sat));
    }
    Ok(chosen)
}

/// A member that is a string; empty if it is anything else.
fn text(object: &Value, member: &str) -> String {
    object[member].as_str().unwrap_or_default().to_owned()
}
