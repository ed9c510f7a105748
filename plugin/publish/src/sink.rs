//! Where records go: the one shape that every kind of broker has here.
//!
//! A sink says itself how far it has a node's records, and acknowledges what it is sent in
//! the order it was sent. Nothing is sent again over the same session: when one record is
//! not acknowledged the session ends, and the next one looks at what arrived.

use std::path::PathBuf;

use eventlog::cursor::Cursor;
use eventlog::tail::Record;

use crate::outbox::Outbox;
use crate::progress::Progress;

/// Where records go.
#[allow(async_fn_in_trait)] // nothing here runs on another thread
pub trait Sink {
    /// A connection to it.
    type Session: Session;

    /// Its kind: `nats`, `webhook`, …
    const KIND: &str;

    /// Is a session a connection? Else it is known to be there once a record arrived.
    const CONNECTS: bool;

    /// Its address, without what may be a secret in it.
    fn name(&self) -> String;

    /// The file to lock: two publishers of the same records to it would be one too many.
    fn lock(&self) -> PathBuf;

    /// Connects, once.
    ///
    /// # Errors
    /// It cannot be reached, or does not fit.
    async fn open(&self) -> Result<Self::Session, End>;

    /// Tries what a session would need, and says what it found.
    ///
    /// # Errors
    /// What is wrong.
    async fn check(&self, session: &mut Self::Session) -> anyhow::Result<String>;
}

/// One connection, until it is lost.
#[allow(async_fn_in_trait)]
pub trait Session {
    /// The last of the node's records that arrived, `None` if none ever did.
    ///
    /// # Errors
    /// It cannot be known.
    async fn last(&mut self) -> Result<Option<Cursor>, End>;

    /// The same, with all before it in place: what was lost there is sent again.
    ///
    /// # Errors
    /// It cannot be known, or sent.
    async fn resume(
        &mut self,
        _outbox: &Outbox,
        _progress: &Progress,
    ) -> Result<Option<Cursor>, End> {
        self.last().await
    }

    /// Takes a record to be sent behind those before it.
    ///
    /// # Errors
    /// It cannot be sent.
    async fn send(&mut self, record: Record) -> Result<(), End>;

    /// How many records it took that have not arrived yet.
    fn in_flight(&self) -> usize;

    /// Waits for the next ones to arrive. With nothing in flight it waits until the session
    /// is lost. It may be dropped and called again.
    ///
    /// # Errors
    /// They did not.
    async fn arrived(&mut self) -> Result<Arrived, End>;
}

/// Records that arrived, and all before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// How many.
    pub count: u64,
    /// The last of them.
    pub last: Cursor,
}

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// It was asked to, and all that was in flight has arrived.
    Stopped,
    /// Another one may do better: the connection was lost, or the other side is not ready.
    Lost(anyhow::Error),
    /// The other side refused a record, and may take it later.
    Refused(anyhow::Error),
    /// Somebody else has published records of this node.
    Conflict(anyhow::Error),
    /// A person has to do something.
    Fatal(anyhow::Error),
}

impl End {
    /// Why, for those who do not try again.
    pub(crate) fn reason(self) -> anyhow::Error {
        match self {
            Self::Stopped => anyhow::anyhow!("stopped"),
            Self::Lost(error) | Self::Refused(error) => error,
            Self::Conflict(error) | Self::Fatal(error) => error,
        }
    }
}
