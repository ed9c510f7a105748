//! Outgoing connections, with lightningd's words for what goes wrong.
//!
//! LDK reports only that a link is gone. How far it came shows in LDK's calls of
//! [`super::handler::LinkHandler`]; whether the peer closed it shows on a second
//! handle on the socket, which LDK does not read.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lightning::bitcoin::secp256k1::PublicKey;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::handler::Phase;
use super::listener::into_std;
use super::peer::{Failure, Peer};
use crate::node::Node;
use crate::options::os_error;

/// How long a connection may take to come up, as in lightningd.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A handshake that ends after this long was ended by LDK, because the peer sent
/// nothing (at the second tick, one every ten seconds).
const LDK_PATIENCE: Duration = Duration::from_secs(9);

/// How many times to try a link that crosses another.
const TRIES: usize = 4;

/// How long one of the sides waits for the other's link.
const GIVE_WAY: Duration = Duration::from_millis(250);

/// The peer with this id: the one that is connected, or by a new link to `host`.
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

/// Opens the link, and again if it crosses one that the peer opens at the same
/// time: LDK keeps the link it knows and drops the other, so two that cross can end
/// each other on both sides. The side with the smaller id tries again at once, the
/// other waits for it.
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

/// A failed attempt comes with how far it came.
type Attempt = Result<(), (Failure, Phase)>;

/// Opens the link; [`super::links`] answers the callers that wait for it.
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
        // lightningd tries each address; regtest peers are on this machine and listen
        // on IPv4.
        Ok(addrs) if !addrs.is_empty() => {
            Ok(*addrs.iter().find(|a| a.is_ipv4()).unwrap_or(&addrs[0]))
        }
        Ok(_) => Err(Failure::BadHost(
            "No address associated with hostname".into(),
        )),
        Err(e) => {
            let message = e.to_string();
            let message = message
                .strip_prefix("failed to lookup address information: ")
                .unwrap_or(&message);
            Err(Failure::BadHost(message.to_owned()))
        }
    }
}
