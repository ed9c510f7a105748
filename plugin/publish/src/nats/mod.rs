//! NATS JetStream: each record once. The stream itself says how far a node's records are
//! published, so that there is no other place that could disagree.

pub mod connect;
mod session;
pub mod stream;

use std::path::PathBuf;

use anyhow::Result;

pub use self::session::Session;
use crate::nats::connect::Broker;
use crate::nats::stream::Wanted;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::sink::{End, Sink};

/// A stream of a broker.
#[derive(Debug)]
pub struct Nats {
    broker: Broker,
    wanted: Wanted,
    node: Node,
    window: usize,
    lock: PathBuf,
}

impl Nats {
    /// The stream for the records of a node.
    pub fn new(broker: Broker, wanted: Wanted, node: Node, outbox: &Outbox) -> Self {
        let mut lock = outbox.file.clone().into_os_string();
        lock.push(".publish.lock");
        Self {
            broker,
            wanted,
            node,
            window: outbox.window,
            lock: lock.into(),
        }
    }
}

impl Sink for Nats {
    type Session = Session;

    const KIND: &str = "nats";
    const CONNECTS: bool = true;

    fn name(&self) -> String {
        self.broker.public()
    }

    fn lock(&self) -> PathBuf {
        self.lock.clone()
    }

    async fn open(&self) -> Result<Session, End> {
        Session::open(&self.broker, &self.wanted, &self.node, self.window).await
    }

    async fn check(&self, _: &mut Session) -> Result<String> {
        let (stream, all) = (&self.wanted.stream, self.node.all());
        Ok(format!("stream {stream}, subjects {all}"))
    }
}
