//! One connection: from the last message that the stream has of this node, until it is
//! lost.
//!
//! Acknowledgements are awaited in order, with a bounded number in flight.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use eventlog::cursor::Cursor;
use eventlog::tail::{self, From, Item, Record, Tail};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};

use super::connect::{Broker, Connection};
use super::kept::{Kept, Noted};
use super::stream::Wanted;
use crate::node::{Node, SCHEMA};
use crate::outbox::Outbox;
use crate::progress::Progress;
use crate::sink::{self, Arrived, End};

/// How long the broker may take to acknowledge a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The header that says what was acknowledged without a gap when a message was sent: the
/// stream's sequence number and the record's cursor. What is behind it may lack some.
const CONFIRMED: &str = "Eventlog-Confirmed";

/// The headers of a message have fewer bytes.
const HEADERS: usize = 640;

/// What that header says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Confirmed {
    sequence: u64,
    /// `None`: nothing was.
    cursor: Option<Cursor>,
}

impl Confirmed {
    fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::default());
        }
        let (sequence, cursor) = text.split_once(' ')?;
        Some(Self {
            sequence: sequence.parse().ok()?,
            cursor: Some(cursor.parse().ok()?),
        })
    }
}

impl Confirmed {
    /// This, or the other one if it is later. Numbers are compared if both are of this
    /// stream: another one's is 0.
    fn or_later(self, other: Self) -> Self {
        let seq = |one: Self| one.cursor.map(|cursor| cursor.seq);
        let is_later = if self.sequence == 0 || other.sequence == 0 {
            seq(other) > seq(self)
        } else {
            other.sequence > self.sequence
        };
        if is_later { other } else { self }
    }
}

impl fmt::Display for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.cursor {
            None => f.write_str("0"),
            Some(cursor) => write!(f, "{} {cursor}", self.sequence),
        }
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    node: Node,
    context: Context,
    stream: Stream<Info>,
    connection: Connection,
    subjects: HashMap<String, Subject>,
    in_flight: FuturesOrdered<BoxFuture<'static, InFlight>>,
    /// Up to here everything is in the stream.
    confirmed: Confirmed,
    /// What is sent may be in the stream, or have been there.
    again: bool,
    kept: Arc<Kept>,
}

/// A record's cursor, its subject, and what the broker said.
type InFlight = (Cursor, String, Result<PublishAck, PublishError>);

/// What is known of a subject.
#[derive(Debug, Default)]
struct Subject {
    /// The stream's number of its last message.
    last: u64,
    in_flight: usize,
}

impl Session {
    pub(super) async fn open(
        broker: &Broker,
        wanted: &Wanted,
        node: &Node,
        window: usize,
        kept: Arc<Kept>,
    ) -> Result<Self, End> {
        let connection = broker.connect().await.map_err(End::Lost)?;
        let context = ContextBuilder::new()
            .timeout(PATIENCE)
            .max_ack_inflight(window * 2)
            .build(connection.client.clone());
        let stream = connection.while_there(async {
            let stream = wanted.find(&context).await;
            stream.map_err(End::Lost)
        });
        let stream = stream.await?;
        wanted.fits(&stream, node).map_err(End::Fatal)?;
        Ok(Self {
            node: node.clone(),
            context,
            stream,
            connection,
            subjects: HashMap::new(),
            in_flight: FuturesOrdered::new(),
            confirmed: Confirmed::default(),
            again: false,
            kept,
        })
    }

    /// Where the stream ends, with all before it in place.
    async fn mend(&mut self, outbox: &Outbox, progress: &Progress) -> Result<Option<Cursor>, End> {
        let last = self.last_of(&self.node.all()).await.map_err(End::Lost)?;
        let noted = self.noted().await.map_err(End::Lost)?;
        let Some(last) = last else {
            return Ok(self.without(noted));
        };
        let confirmed = self.confirmed_by(&last).map_err(End::Fatal)?;
        let confirmed = noted.map_or(confirmed, |noted| confirmed.or_later(noted));
        self.confirmed = confirmed;
        if confirmed.sequence >= last.sequence {
            // Its newest may be removed: the broker remembers them for a while.
            self.again = confirmed.sequence > last.sequence;
            return Ok(confirmed.cursor);
        }
        self.again = true;
        let cursor = self.fill(outbox, progress, &last, confirmed).await?;
        self.again = false;
        self.confirmed = Confirmed {
            sequence: last.sequence,
            cursor: Some(cursor),
        };
        Ok(Some(cursor))
    }

    /// What was acknowledged when this message was sent, or that it was itself.
    fn confirmed_by(&self, last: &StreamMessage) -> Result<Confirmed> {
        let header = last.headers.get(CONFIRMED);
        match header.and_then(|text| Confirmed::parse(text.as_str())) {
            // The number is one of an earlier stream.
            Some(confirmed) if confirmed.sequence >= last.sequence => Ok(Confirmed {
                sequence: 0,
                ..confirmed
            }),
            Some(confirmed) => Ok(confirmed),
            None => Ok(Confirmed {
                sequence: last.sequence,
                cursor: Some(self.cursor(last)?),
            }),
        }
    }

    /// What was acknowledged to earlier sessions, unless the stream has lost it since. The
    /// number is 0 if that was another stream.
    async fn noted(&self) -> Result<Option<Confirmed>> {
        let Some(noted) = self.kept.get() else {
            return Ok(None);
        };
        let (name, cursor) = (self.name(), noted.cursor);
        if noted.created != self.created() {
            tracing::warn!("stream {name}: it was made anew after {cursor} was acknowledged");
            return Ok(Some(Confirmed {
                sequence: 0,
                cursor: Some(cursor),
            }));
        }
        let there = self.stream.get_raw_message(noted.sequence).await;
        let lost = match there {
            Ok(message) => self.cursor(&message).is_err(),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                self.stream.cached_info().state.last_sequence < noted.sequence
            }
            Err(error) => {
                return Err(error).with_context(|| format!("message {}", noted.sequence));
            }
        };
        if lost {
            tracing::warn!("stream {name}: it has lost {cursor}, which it had acknowledged");
            return Ok(None);
        }
        Ok(Some(Confirmed {
            sequence: noted.sequence,
            cursor: Some(cursor),
        }))
    }

    /// Where to go on if the stream holds no message of the node.
    fn without(&mut self, noted: Option<Confirmed>) -> Option<Cursor> {
        self.again = true;
        let (name, place, state) = (
            self.name(),
            &self.kept.place,
            &self.stream.cached_info().state,
        );
        if let Some(noted) = noted {
            tracing::warn!(
                "stream {name}: it holds no message of this node: it goes on after what was \
                 acknowledged, as {place} has it; without that file it starts with the oldest"
            );
            self.confirmed = noted;
            return noted.cursor;
        }
        if state.messages < state.last_sequence {
            tracing::warn!(
                "stream {name}: it holds no message of this node, messages were removed from it, \
                 and {place} is missing: all records are published, those that were removed again"
            );
        }
        None
    }

    /// Sends again what is missing before the last record that the stream has: a broker of
    /// several servers may lose one message and keep the next, if it gets another leader in
    /// between. Gives that record.
    async fn fill(
        &mut self,
        outbox: &Outbox,
        progress: &Progress,
        last: &StreamMessage,
        confirmed: Confirmed,
    ) -> Result<Cursor, End> {
        let last_cursor = self.cursor(last).map_err(End::Fatal)?;
        let mut present = HashSet::from([last_cursor]);
        let mut number = confirmed.sequence + 1;
        while number < last.sequence {
            let next = self.stream.raw_message_builder().sequence(number);
            let next = next.next_by_subject(self.node.all()).send().await;
            let next = next.map_err(|error| End::Lost(error.into()))?;
            present.extend(self.cursor(&next).ok());
            number = next.sequence + 1;
        }
        // One that was sent again stands behind later ones.
        let all = present.iter().copied().chain(confirmed.cursor);
        let to = all.max_by_key(|cursor| cursor.seq).unwrap_or(last_cursor);
        let between = to.seq - confirmed.cursor.map_or(0, |cursor| cursor.seq);
        present.retain(|cursor| confirmed.cursor.is_none_or(|from| cursor.seq > from.seq));
        if present.len() as u64 == between {
            return Ok(to);
        }
        let first = self.stream.cached_info().state.first_sequence;
        let removed = first > confirmed.sequence + 1;
        if first > confirmed.sequence
            && let Some(cursor) = confirmed.cursor
        {
            let name = self.name();
            tracing::warn!("stream {name}: what it acknowledged, up to {cursor}, was removed");
        }
        let from = confirmed.cursor.map_or(From::Oldest, From::After);
        let mut tail = match Tail::open(&outbox.file, from) {
            Ok(tail) => tail,
            Err(tail::Error::Cursor(gap)) => {
                let gap = anyhow::Error::from(gap);
                let why = format!("before {to} the stream may lack some, which cannot be sent");
                return outbox.gap(gap.context(why), progress).map(|()| to);
            }
            Err(error) => return Err(End::Fatal(error.into())),
        };
        while let Some(item) = tail.next().map_err(|error| End::Fatal(error.into()))? {
            let Item::Record(record) = item else { continue };
            if record.cursor == to {
                break;
            }
            if !outbox.wants(&record) || present.contains(&record.cursor) {
                continue;
            }
            if removed {
                let gap = anyhow::anyhow!(
                    "{}: the stream lacks it: it was refused or lost, or came there and was removed",
                    record.cursor
                );
                return outbox.gap(gap, progress).map(|()| to);
            }
            tracing::warn!("{}: it was missing in the stream", record.cursor);
            self.put(record).await?;
            if let Some(acknowledged) = self.in_flight.next().await {
                self.acknowledged(acknowledged)?;
            }
            self.confirmed = confirmed; // until all are there
        }
        Ok(to)
    }

    fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }

    fn created(&self) -> i128 {
        self.stream.cached_info().created.unix_timestamp_nanos()
    }

    /// Notes what is confirmed.
    fn keep(&self) {
        if let Confirmed {
            sequence,
            cursor: Some(cursor),
        } = self.confirmed
        {
            self.kept.set(Noted {
                cursor,
                sequence,
                created: self.created(),
            });
        }
    }

    async fn put(&mut self, record: Record) -> Result<(), End> {
        let name = self.node.subject(&record.topic);
        if !self.subjects.contains_key(&name) {
            let last = self.last_of(&name).await.map_err(End::Lost)?;
            let last = last.map_or(0, |message| message.sequence);
            self.subjects
                .insert(name.clone(), Subject { last, in_flight: 0 });
        }
        let subject = self.subjects.entry(name.clone()).or_default();
        let (cursor, length) = (record.cursor, record.line.len());
        let most = self.context.client().server_info().max_payload;
        if length + HEADERS > most {
            return Err(End::Refused(anyhow::anyhow!(
                "{cursor}, {length} bytes, and {HEADERS} for its headers: the broker takes {most} \
                 (max_payload)"
            )));
        }
        let mut message = PublishMessage::build()
            .message_id(self.node.message_id(cursor))
            .expected_stream(&self.stream.cached_info().config.name)
            .header("Content-Type", "application/json")
            .header("Eventlog-Schema", SCHEMA)
            .header(CONFIRMED, self.confirmed.to_string().as_str())
            .payload(record.line.into());
        // Another publisher of this node is refused. What is behind one in flight has no
        // number to expect yet; its first one had.
        if subject.in_flight == 0 {
            message = message.expected_last_subject_sequence(subject.last);
        }
        subject.in_flight += 1;
        let sent = self.context.send_publish(name.clone(), message).await;
        let sent = sent.map_err(|error| {
            let error = anyhow::Error::from(error);
            End::Lost(error.context(format!("{cursor}, {length} bytes: it cannot be sent")))
        })?;
        self.in_flight
            .push_back(Box::pin(async move { (cursor, name, sent.await) }));
        Ok(())
    }

    async fn last_of(&self, subject: &str) -> Result<Option<StreamMessage>> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("the last message of {subject}")),
        }
    }

    fn cursor(&self, message: &StreamMessage) -> Result<Cursor> {
        let id = message.headers.get(async_nats::header::NATS_MESSAGE_ID);
        let cursor = id.and_then(|id| self.node.cursor(id.as_str()));
        cursor.with_context(|| {
            format!(
                "message {} of the stream, {}, is not from eventlog-publish: its id is {:?}",
                message.sequence, message.subject, id
            )
        })
    }

    /// Takes the next acknowledgement.
    fn acknowledged(&mut self, (cursor, name, acknowledged): InFlight) -> Result<Arrived, End> {
        match acknowledged {
            Ok(ack) if ack.duplicate && !self.again => Err(End::Conflict(anyhow::anyhow!(
                "{cursor}: it is in the stream already, and this session has not sent it"
            ))),
            Ok(ack) if !ack.duplicate && ack.sequence <= self.confirmed.sequence => Err(End::Lost(
                anyhow::anyhow!("stream {}: it was made anew", self.name()),
            )),
            Ok(ack) => {
                let subject = self.subjects.entry(name).or_default();
                subject.in_flight -= 1;
                subject.last = subject.last.max(ack.sequence);
                self.confirmed = Confirmed {
                    sequence: subject.last.max(self.confirmed.sequence),
                    cursor: Some(cursor),
                };
                Ok(Arrived {
                    count: u64::from(!ack.duplicate),
                    last: cursor,
                })
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                let why = format!("{cursor}: {name} has a message that is not ours");
                Err(End::Conflict(anyhow::Error::from(error).context(why)))
            }
            Err(error) => {
                let refused = error.kind() == PublishErrorKind::Other;
                let why = format!("{cursor}: it was not acknowledged");
                let error = anyhow::Error::from(error).context(why);
                Err(if refused {
                    End::Refused(error)
                } else {
                    End::Lost(error)
                })
            }
        }
    }
}

impl sink::Session for Session {
    async fn last(&mut self) -> Result<Option<Cursor>, End> {
        let last = self.connection.while_there(async {
            let last = self.last_of(&self.node.all()).await.map_err(End::Lost)?;
            let last = last.map(|last| {
                Ok(Confirmed {
                    sequence: last.sequence,
                    cursor: Some(self.cursor(&last)?),
                })
            });
            let last = last.transpose().map_err(End::Fatal)?;
            let noted = self.noted().await.map_err(End::Lost)?;
            let known = match (last, noted) {
                (Some(last), Some(noted)) => Some(last.or_later(noted)),
                (last, noted) => last.or(noted),
            };
            Ok(known.and_then(|known| known.cursor))
        });
        last.await
    }

    async fn resume(
        &mut self,
        outbox: &Outbox,
        progress: &Progress,
    ) -> Result<Option<Cursor>, End> {
        let connection = self.connection.clone();
        let mended = connection.while_there(self.mend(outbox, progress)).await?;
        if self.confirmed.sequence > 0 {
            self.keep();
        }
        Ok(mended)
    }

    async fn send(&mut self, record: Record) -> Result<(), End> {
        let connection = self.connection.clone();
        connection.while_there(self.put(record)).await
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    async fn arrived(&mut self) -> Result<Arrived, End> {
        loop {
            tokio::select! {
                biased;
                () = self.connection.lost.notified() => {
                    return Err(End::Lost(anyhow::anyhow!("the connection was lost")));
                }
                () = self.kept.due() => self.kept.write(),
                Some(acknowledged) = self.in_flight.next() => {
                    let arrived = self.acknowledged(acknowledged)?;
                    self.keep();
                    return Ok(arrived);
                }
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kept.write();
    }
}
