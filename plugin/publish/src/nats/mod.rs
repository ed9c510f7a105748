//! NATS JetStream: each record once. The stream itself says how far a node's records are
//! published; a file notes it for when the stream no longer can.

pub mod connect;
mod kept;
mod session;
pub mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

pub use self::session::Session;
use crate::nats::connect::Broker;
use crate::nats::kept::Kept;
use crate::nats::stream::Wanted;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::place::Place;
use crate::sink::{End, Sink};

/// A stream of a broker.
#[derive(Debug)]
pub struct Nats {
    broker: Broker,
    wanted: Wanted,
    node: Node,
    window: usize,
    lock: PathBuf,
    kept: Arc<Kept>,
}

impl Nats {
    /// The stream for the records of a node.
    ///
    /// # Errors
    /// The place cannot be read, or the address has a password.
    pub fn new(
        broker: Broker,
        wanted: Wanted,
        place: Place,
        node: &Node,
        outbox: &Outbox,
    ) -> Result<Self> {
        broker.fits()?;
        let mut lock = outbox.file.clone().into_os_string();
        lock.push(".publish.lock");
        Ok(Self {
            broker,
            wanted,
            node: node.clone(),
            window: outbox.window,
            lock: lock.into(),
            kept: Kept::read(place)?.into(),
        })
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
        let kept = self.kept.clone();
        Session::open(&self.broker, &self.wanted, &self.node, self.window, kept).await
    }

    async fn check(&self, _: &mut Session) -> Result<String> {
        let (stream, all) = (&self.wanted.stream, self.node.all());
        Ok(format!("stream {stream}, subjects {all}"))
    }
}
