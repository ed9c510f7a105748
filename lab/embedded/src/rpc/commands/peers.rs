//! connect, disconnect, listpeers, ping.

use std::str::FromStr;

use lightning::bitcoin::secp256k1::PublicKey;
use serde_json::{Value, json};

use crate::config::DEFAULT_PORT;
use crate::log::Level;
use crate::p2p::connect;
use crate::p2p::peer::Failure;
use crate::rpc::call::{Call, Stop};
use crate::rpc::error::{
    CONNECT_ALL_ADDRESSES_FAILED, CONNECT_DISCONNECTED_DURING, CONNECT_NO_KNOWN_ADDRESS,
    LIGHTNINGD, RpcError,
};
use crate::rpc::params::{self, Token, opt, req};

/// A node id: 66 hex digits that are a point on the curve.
fn parse_id(text: &str) -> Option<PublicKey> {
    (text.len() == 66)
        .then(|| PublicKey::from_str(text).ok())
        .flatten()
}

fn node_id(name: &str, token: Token<'_>) -> Result<PublicKey, RpcError> {
    parse_id(&token.text()).ok_or_else(|| token.bad(name, "should be a node id"))
}

/// The peer to `connect` to: `id`, `id@host`, `id@host:port`.
struct Target {
    id: PublicKey,
    host: Option<String>,
    port: Option<u16>,
}

fn target(name: &str, token: Token<'_>) -> Result<Target, RpcError> {
    let text = token.text();
    let (id, at) = match text.split_once('@') {
        Some((id, at)) => (id, Some(at)),
        None => (text.as_str(), None),
    };
    let id = parse_id(id).ok_or_else(|| token.bad(name, "should be a node id"))?;
    let (mut host, mut port) = (None, None);
    if let Some(at) = at {
        // `[v6]:port`, `host:port`, or one of them without a port.
        let split = match at.rsplit_once(':') {
            Some((before, digits)) if before.ends_with(']') || !before.contains(':') => {
                digits.parse().ok().map(|port: u16| (before, port))
            }
            _ => None,
        };
        match split {
            Some((before, digits)) => {
                host = Some(before.to_owned());
                port = Some(digits);
            }
            None => host = Some(at.to_owned()),
        }
    }
    Ok(Target { id, host, port })
}

fn port(name: &str, token: Token<'_>) -> Result<u16, RpcError> {
    match token.text().parse() {
        Ok(0) => Err(token.bad(name, "should be non-zero")),
        Ok(port) => Ok(port),
        Err(_) => Err(token.bad(name, "should be a 16-bit integer")),
    }
}

/// `connect`
pub async fn connect(call: &Call) -> Result<Value, Stop> {
    let (mut to, mut host, mut at) = (None, None, None);
    call.params.read(vec![
        req("id", &mut to, target),
        opt("host", &mut host, params::string),
        opt("port", &mut at, port),
    ])?;
    let Some(to) = to else {
        return Err(RpcError::params("missing required parameter: id").into());
    };
    if to.host.is_some() && host.is_some() {
        return Err(
            RpcError::params("Can't specify host as both xxx@yyy and separate argument").into(),
        );
    }
    if to.port.is_some() && at.is_some() {
        return Err(RpcError::params(
            "Can't specify port as both xxx@yyy:port and separate argument",
        )
        .into());
    }
    let (host, at) = (to.host.or(host), to.port.or(at));
    if host.is_none() && at.is_some() {
        return Err(RpcError::params("Can't specify port without host").into());
    }
    call.done_if_check()?;
    let host = host.map(|host| (host, at.unwrap_or(DEFAULT_PORT)));
    match connect::connect(&call.node, to.id, host.clone()).await {
        Ok(peer) => Ok(peer.connect_json()),
        Err(failure) => Err(explain(failure, host).into()),
    }
}

fn explain(failure: Failure, host: Option<(String, u16)>) -> RpcError {
    match failure {
        Failure::NoAddress => RpcError::new(
            CONNECT_NO_KNOWN_ADDRESS,
            "Unable to connect, no address known for peer",
        ),
        Failure::BadHost(what) => {
            let (host, port) = host.unwrap_or_default();
            RpcError::new(LIGHTNINGD, format!("Host {host}:{port} not valid: {what}"))
        }
        Failure::Failed { addr, what } => RpcError::new(
            CONNECT_ALL_ADDRESSES_FAILED,
            format!("All addresses failed: {addr}: {what}. "),
        ),
        Failure::Dropped => RpcError::new(
            CONNECT_DISCONNECTED_DURING,
            "disconnected during connection",
        ),
    }
}

/// `disconnect`
pub async fn disconnect(call: &Call) -> Result<Value, Stop> {
    let (mut id, mut force) = (None, None);
    let peers = &call.node.peers;
    call.params.read(vec![
        req("id", &mut id, |name, token| {
            let text = token.text();
            let id = parse_id(&text).ok_or_else(|| token.bad(name, "invalid peer id"))?;
            match peers.get(&id) {
                Some(_) => Ok(id),
                None => Err(RpcError::params(format!("Unknown peer '{text}'"))),
            }
        }),
        // There are no channels that need the link.
        opt("force", &mut force, params::boolean),
    ])?;
    call.done_if_check()?;
    if let Some(id) = id {
        peers.disconnect(&id).await;
    }
    Ok(json!({}))
}

/// `listpeers`
pub async fn listpeers(call: &Call) -> Result<Value, Stop> {
    let (mut id, mut level) = (None, None);
    call.params.read(vec![
        opt("id", &mut id, node_id),
        // lightningd adds the peer's log; here it is only in the file.
        opt("level", &mut level, |name, token| {
            match token.text().parse::<Level>() {
                Ok(level) if level <= Level::Unusual => Ok(level),
                _ => Err(token.bad(name, "should be 'io', 'debug', 'info', or 'unusual'")),
            }
        }),
    ])?;
    call.done_if_check()?;
    let peers = match id {
        Some(id) => call.node.peers.get(&id).into_iter().collect(),
        None => call.node.peers.list(),
    };
    let peers: Vec<_> = peers.iter().map(|p| p.list_json()).collect();
    Ok(json!({ "peers": peers }))
}

/// `ping`
pub async fn ping(call: &Call) -> Result<Value, Stop> {
    let (mut id, mut len, mut pong_bytes) = (None, None, None);
    call.params.read(vec![
        req("id", &mut id, node_id),
        opt("len", &mut len, params::number),
        opt("pongbytes", &mut pong_bytes, params::number),
    ])?;
    let (len, pong_bytes) = (len.unwrap_or(128), pong_bytes.unwrap_or(128));
    // A message has at most 65535 bytes: two of type, two of each length.
    let fits = u16::try_from(len).ok().filter(|len| *len <= 65535 - 6);
    let Some(len) = fits else {
        return Err(RpcError::params(format!("{len} would result in oversize ping")).into());
    };
    let Ok(pong_bytes) = u16::try_from(pong_bytes) else {
        return Err(RpcError::params(format!("pongbytes {pong_bytes} > 65535")).into());
    };
    let peers = &call.node.peers;
    let gone = || RpcError::new(LIGHTNINGD, "Peer not connected");
    let Some(id) = id.filter(|id| peers.get(id).is_some()) else {
        return Err(gone().into());
    };
    call.done_if_check()?;
    // BOLT 1: a ping that asks for this many bytes or more gets no pong.
    if pong_bytes >= 65532 {
        peers.send_ping(&id, len, pong_bytes);
        return Ok(json!({ "totlen": 0 }));
    }
    match peers.ping(&id, len, pong_bytes).await {
        // Two bytes of type, two of length.
        Some(bytes) => Ok(json!({ "totlen": u32::from(bytes) + 4 })),
        None => Err(gone().into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::value::RawValue;

    const ID: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn targets() {
        for (at, host, port) in [
            ("", None, None),
            ("@127.0.0.1", Some("127.0.0.1"), None),
            ("@127.0.0.1:5", Some("127.0.0.1"), Some(5)),
            ("@[::1]:5", Some("[::1]"), Some(5)),
            ("@::1", Some("::1"), None),
            ("@[::1]", Some("[::1]"), None),
            ("@host:5", Some("host"), Some(5)),
            ("@host:x", Some("host:x"), None),
        ] {
            let raw = RawValue::from_string(format!("\"{ID}{at}\"")).unwrap();
            let target = target("id", Token(raw.get())).ok().unwrap();
            assert_eq!((target.host.as_deref(), target.port), (host, port), "{at}");
        }
    }
}
