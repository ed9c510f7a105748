//! A connected peer, in each shape in which lightningd shows one, and why there is
//! none.

use std::net::SocketAddr;

use lightning::bitcoin::secp256k1::PublicKey;
use serde_json::{Value, json};

/// Which side opened a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer.
    In,
    /// This node.
    Out,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// Why a connection did not come up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The peer's address is unknown.
    NoAddress,
    /// The host's name cannot be resolved; the resolver's message.
    BadHost(String),
    /// It could not be reached, or violated the protocol.
    Failed {
        addr: SocketAddr,
        /// For example `Connection establishment: Connection refused`.
        what: String,
    },
    /// It was up, and down again before the caller could be answered.
    Dropped,
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct Peer {
    pub id: PublicKey,
    pub direction: Direction,
    /// The other end of the TCP connection.
    pub address: SocketAddr,
    /// Its `init` features, hex.
    pub features: String,
    /// Our address as the peer sees it.
    pub remote_addr: Option<String>,
}

impl Peer {
    /// The address as in answers and notifications.
    fn address_json(&self) -> Value {
        let kind = if self.address.is_ipv4() {
            "ipv4"
        } else {
            "ipv6"
        };
        json!({ "type": kind, "address": self.address.ip().to_string(), "port": self.address.port() })
    }

    /// The answer of `connect`.
    pub fn connect_json(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "features": self.features,
            "direction": self.direction.name(),
            "address": self.address_json(),
        })
    }

    /// The body of the `connect` notification.
    pub fn notification(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "direction": self.direction.name(),
            "address": self.address_json(),
        })
    }

    /// The `peer` of the `peer_connected` hook.
    pub fn hook_json(&self) -> Value {
        let mut peer = json!({
            "id": self.id.to_string(),
            "direction": self.direction.name(),
            "addr": self.address.to_string(),
        });
        if let Some(remote) = &self.remote_addr {
            peer["remote_addr"] = json!(remote);
        }
        peer["features"] = json!(self.features);
        peer
    }

    /// The entry in `listpeers`.
    pub fn list_json(&self) -> Value {
        let mut peer = json!({
            "id": self.id.to_string(),
            "connected": true,
            "num_channels": 0,
            "netaddr": [self.address.to_string()],
        });
        if let Some(remote) = &self.remote_addr {
            peer["remote_addr"] = json!(remote);
        }
        peer["features"] = json!(self.features);
        peer
    }
}
