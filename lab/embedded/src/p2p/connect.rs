//! Reaching out to a peer, with lightningd's words for what goes wrong.
//!
//! LDK says only that a link is gone. How far it came is known from what LDK
//! asked of [`super::handler::LinkHandler`]; whether the peer closed it is
//! known from a second handle on the socket, which LDK does not read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lightning::bitcoin::secp256k1::PublicKey;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::handler::Phase;
use super::into_std;
use super::peer::Peer;
use crate::node::Node;
use crate::options::os_error;

/// How long a connection may take to come up, as in lightningd.
const TIMEOUT: Duration = Duration::from_secs(60);

/// After this long without a word from the peer, LDK's clock ended the
/// handshake (it does so at the second tick, every ten seconds).
const LDK_PATIENCE: Duration = Duration::from_secs(9);

/// How often a link is tried that crossed another.
const TRIES: usize = 4;

/// How long the side that gives way waits for the other's link.
const GIVE_WAY: Duration = Duration::from_millis(250);

/// Why a connection did not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody knows where the peer is.
    NoAddress,
    /// The host's name means nothing; lightningd's words for it.
    BadHost(String),
    /// It could not be reached, or did not speak as it should.
    Failed {
        /// Where it was tried.
        addr: SocketAddr,
        /// `Connection establishment: Connection refused` and the like.
        what: String,
    },
    /// It was up, and gone before anything could be said of it.
    Dropped,
}

/// The peer with this id: the one that is connected, or a new link to `host`.
///
/// # Errors
/// Why there is none.
pub async fn connect(
    node: &Arc<Node>,
    id: PublicKey,
    host: Option<(String, u16)>,
) -> Result<Peer, Failure> {
    let addr = match host {
        Some((host, port)) => Some(resolve(&host, port).await?),
        None => None,
    };
    if let Some(peer) = node.peers.get(&id) {
        node.log.debug(
            "lightningd",
            format!("Already connected via {}", peer.address),
        );
        return Ok(peer);
    }
    if id == node.keys.public {
        return Err(if addr.is_some() {
            Failure::Dropped
        } else {
            Failure::NoAddress
        });
    }
    let (tx, rx) = oneshot::channel();
    let first = {
        let mut state = node.peers.state();
        let under_way = state.waiting.contains_key(&id) || state.deciding.contains_key(&id);
        if !under_way && addr.is_none() {
            return Err(Failure::NoAddress);
        }
        state.waiting.entry(id).or_default().push(tx);
        !under_way
    };
    if let (true, Some(addr)) = (first, addr) {
        let node = node.clone();
        tokio::spawn(async move {
            if let Err(failure) = reach_uncrossed(&node, id, addr).await {
                let waiting = node.peers.state().waiting.remove(&id).unwrap_or_default();
                for waiter in waiting {
                    let _ = waiter.send(Err(failure.clone()));
                }
            }
        });
    }
    rx.await.unwrap_or(Err(Failure::Dropped))
}

/// Opens the link, again if it crossed one that the peer opened at the same
/// time: LDK keeps the link it knows and drops the other, so two that cross can
/// end each other on both sides. The side with the smaller id tries again at
/// once, the other gives it time.
async fn reach_uncrossed(node: &Arc<Node>, id: PublicKey, addr: SocketAddr) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        let (failure, phase) = match reach(node, id, addr).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        tries += 1;
        if phase != Phase::Init || tries == TRIES {
            return Err(failure);
        }
        if node.keys.public > id && node.peers.comes_up(&id, GIVE_WAY).await {
            return Ok(());
        }
        if node.peers.comes_up(&id, Duration::ZERO).await {
            return Ok(());
        }
    }
}

/// What became of an attempt, and how far it came.
type Attempt = Result<(), (Failure, Phase)>;

/// Opens the link; the events of the link tell who waits for it that it is up.
async fn reach(node: &Arc<Node>, id: PublicKey, addr: SocketAddr) -> Attempt {
    let fail = |what: String| (Failure::Failed { addr, what }, Phase::Handshake);
    let started = Instant::now();
    let deadline = started + TIMEOUT;
    node.log
        .debug(&format!("{id}-connectd"), format!("Connecting to {addr}"));
    let establishment = |e: &io::Error| fail(format!("Connection establishment: {}", os_error(e)));
    let stream = timeout_at(deadline, TcpStream::connect(addr))
        .await
        .map_err(|_| fail("Connection establishment: Connection timed out".into()))?
        .and_then(into_std)
        .map_err(|e| establishment(&e))?;
    let witness = stream.try_clone().map_err(|e| establishment(&e))?;

    let up = node.peers.handler.follow(id);
    let closed = lightning_net_tokio::setup_outbound(node.peers.manager.clone(), id, stream);
    let ended = tokio::select! {
        () = closed => true,
        () = tokio::time::sleep_until(deadline) => false,
        // The link outlives the attempt once it is up.
        _ = up => false,
    };
    let phase = node.peers.handler.unfollow(&id);
    if phase == Phase::Up {
        return Ok(());
    }
    let doing = if phase == Phase::Init {
        "Exchanging init messages"
    } else {
        "Cryptographic handshake"
    };
    if !ended {
        node.peers.manager.disconnect_by_node_id(id);
        // Whatever it waited for so long, it will not do better now.
        return Err(fail(format!("{doing}: Connection timed out")));
    }
    let why = why_ended(&witness, started, phase);
    Err((fail(format!("{doing}: {why}")).0, phase))
}

fn why_ended(witness: &std::net::TcpStream, started: Instant, phase: Phase) -> &'static str {
    let mut byte = [0];
    let closed_by_peer = match witness.peek(&mut byte) {
        Ok(len) => len == 0,
        Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
    };
    match phase {
        Phase::Handshake if closed_by_peer => "peer closed connection (wrong key?)",
        _ if closed_by_peer => "peer closed connection",
        _ if started.elapsed() > LDK_PATIENCE => "Connection timed out",
        _ => "Protocol error",
    }
}

async fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = tokio::net::lookup_host((host, port)).await;
    match found.map(|addrs| addrs.collect::<Vec<_>>()) {
        // lightningd tries each address; regtest peers are on this machine, where
        // an IPv4 address is the one that is listened on.
        Ok(addrs) if !addrs.is_empty() => {
            Ok(*addrs.iter().find(|a| a.is_ipv4()).unwrap_or(&addrs[0]))
        }
        Ok(_) => Err(Failure::BadHost(
            "No address associated with hostname".into(),
        )),
        Err(e) => {
            let words = e.to_string();
            let words = words
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&words);
            Err(Failure::BadHost(words.to_owned()))
        }
    }
}
