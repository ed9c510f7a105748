//! One connection: from the last message that the stream has of this node, until it is
//! lost.
//!
//! Acknowledgements are awaited in order, with a bounded number in flight. Nothing is
//! sent again over the same connection: when one message is not acknowledged the session
//! ends, and the next one looks at what the stream has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{Info, LastRawMessageErrorKind, Stream};
use eventlog::cursor::Cursor;
use eventlog::tail::{self, From, Item, Record, Tail};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::connect::{Broker, Connection};
use crate::node::Node;
use crate::publisher::Progress;
use crate::stream::Wanted;

/// How long the broker may take to acknowledge a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// The header with the stream's sequence number up to which every record was
/// acknowledged when a message was sent: what is behind it may lack some.
const CONFIRMED: &str = "Eventlog-Confirmed";

/// The version of the records' shape, in the header `Eventlog-Schema`.
const SCHEMA: &str = "1";

/// What is published, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only these topics; any if empty.
    pub topics: HashSet<String>,
    /// The most messages in flight.
    pub window: usize,
    /// Only what the disk has confirmed.
    pub durable: bool,
    /// Go on where records are no longer kept.
    pub skip_gap: bool,
}

/// Why a session ended.
#[derive(Debug)]
pub enum End {
    /// It was asked to, and all that was in flight is acknowledged.
    Stopped,
    /// Another one may do better: the connection was lost, or the broker is not ready.
    Lost(anyhow::Error),
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
            Self::Lost(error) | Self::Conflict(error) | Self::Fatal(error) => error,
        }
    }
}

/// A session.
pub(crate) struct Session<'a> {
    node: &'a Node,
    settings: &'a Settings,
    progress: &'a Progress,
    context: Context,
    stream: Stream<Info>,
    connection: Connection,
    subjects: HashMap<String, Subject>,
    in_flight: FuturesOrdered<BoxFuture<'static, InFlight>>,
    /// Up to here everything is in the stream.
    confirmed: u64,
}

/// A record, its subject, and what the broker said.
type InFlight = (Record, String, Acknowledged);
type Acknowledged = Result<PublishAck, async_nats::jetstream::context::PublishError>;

/// What is known of a subject.
#[derive(Debug, Default)]
struct Subject {
    /// The stream's number of its last message.
    last: u64,
    in_flight: usize,
}

impl<'a> Session<'a> {
    pub(crate) async fn open(
        broker: &Broker,
        wanted: &Wanted,
        node: &'a Node,
        settings: &'a Settings,
        progress: &'a Progress,
    ) -> Result<Session<'a>, End> {
        let connection = broker.connect().await.map_err(End::Lost)?;
        let context = ContextBuilder::new()
            .timeout(PATIENCE)
            .max_ack_inflight(settings.window * 2)
            .build(connection.client.clone());
        let stream = wanted.find(&context).await.map_err(End::Lost)?;
        wanted.fits(&stream, node).map_err(End::Fatal)?;
        Ok(Session {
            node,
            settings,
            progress,
            context,
            stream,
            connection,
            subjects: HashMap::new(),
            in_flight: FuturesOrdered::new(),
            confirmed: 0,
        })
    }

    /// Publishes what comes, until it is stopped or ends.
    pub(crate) async fn run(&mut self, file: &Path, stop: &mut watch::Receiver<bool>) -> End {
        let tail = match self.resume(file).await {
            Ok(tail) => tail,
            Err(end) => return end,
        };
        self.follow(tail, stop).await
    }

    /// Where the publishing would go on.
    pub(crate) async fn from(&self, file: &Path) -> Result<String> {
        let Some(last) = self.last(&self.node.all()).await? else {
            return Ok("the oldest record".to_owned());
        };
        let cursor = self.cursor(&last)?;
        Tail::open(file, From::After(cursor))?;
        Ok(format!("what came after {cursor}"))
    }

    /// Opens the files where the stream ends.
    async fn resume(&mut self, file: &Path) -> Result<Tail, End> {
        let last = self.last(&self.node.all()).await.map_err(End::Lost)?;
        let Some(last) = last else {
            return self.tail(file, From::Oldest);
        };
        let cursor = self.cursor(&last).map_err(End::Fatal)?;
        self.fill(file, &last, cursor).await?;
        self.confirmed = last.sequence;
        tracing::info!("the stream has the records up to {cursor}");
        self.progress.published(cursor, 0);
        self.tail(file, From::After(cursor))
    }

    fn tail(&self, file: &Path, from: From) -> Result<Tail, End> {
        match Tail::open(file, from) {
            Ok(tail) => Ok(tail),
            Err(tail::Error::Cursor(gap)) if self.settings.skip_gap => {
                tracing::error!("{gap}: published from the oldest record kept");
                self.progress.gap();
                Tail::open(file, From::Oldest).map_err(|error| End::Fatal(error.into()))
            }
            Err(error @ tail::Error::Cursor(_)) => Err(End::Fatal(
                anyhow::Error::from(error).context("--skip-gap publishes what is left"),
            )),
            Err(error) => Err(End::Fatal(error.into())),
        }
    }

    /// Publishes what is missing before the last message: a broker of several servers may
    /// lose one message and keep the next, if it gets another leader in between.
    async fn fill(&mut self, file: &Path, last: &StreamMessage, to: Cursor) -> Result<(), End> {
        let confirmed = last.headers.get(CONFIRMED);
        let confirmed = confirmed.and_then(|header| header.as_str().parse::<u64>().ok());
        let Some(confirmed) = confirmed else {
            return Ok(());
        };
        let (present, from) = self.between(confirmed, last).await.map_err(End::Lost)?;
        let Some(from) = from else { return Ok(()) };
        let Ok(mut tail) = Tail::open(file, from) else {
            return Ok(()); // no longer kept, neither here nor there
        };
        while let Some(item) = tail.next().map_err(|error| End::Fatal(error.into()))? {
            let Item::Record(record) = item else { continue };
            if record.cursor == to {
                break;
            }
            if self.wants(&record) && !present.contains(&record.cursor) {
                tracing::warn!("{}: it was missing in the stream", record.cursor);
                self.send(record).await?;
                if let Some(acknowledged) = self.in_flight.next().await {
                    self.acknowledged(acknowledged)?;
                }
            }
        }
        Ok(())
    }

    /// The node's records between a number of the stream and its last message; and where
    /// they begin in the files, `None` if that cannot be known.
    async fn between(
        &self,
        confirmed: u64,
        last: &StreamMessage,
    ) -> Result<(HashSet<Cursor>, Option<From>)> {
        let from = match confirmed {
            0 => Some(From::Oldest),
            number => match self.stream.get_raw_message(number).await {
                Ok(message) => self.cursor(&message).ok().map(From::After),
                Err(_) => None, // the stream keeps it no longer
            },
        };
        let mut present = HashSet::new();
        let mut number = confirmed + 1;
        while number < last.sequence {
            let next = self.stream.raw_message_builder().sequence(number);
            let next = next.next_by_subject(self.node.all()).send().await?;
            present.extend(self.cursor(&next).ok());
            number = next.sequence + 1;
        }
        Ok((present, from))
    }

    async fn follow(&mut self, mut tail: Tail, stop: &mut watch::Receiver<bool>) -> End {
        let folder = tail.as_fd().try_clone_to_owned().and_then(|fd| {
            // SAFETY: the descriptor is the `AsyncFd`'s own, and no other call closes it.
            Ok(unsafe { AsyncFd::register(fd) }?)
        });
        let folder = match folder {
            Ok(folder) => folder,
            Err(error) => return End::Fatal(error.into()),
        };
        let mut waiting = VecDeque::new();
        let mut at_end = false;
        loop {
            while self.in_flight.len() < self.settings.window && !*stop.borrow() {
                if waiting.is_empty() {
                    match self.read(&mut tail) {
                        Ok(records) => waiting = records,
                        Err(error) => return End::Fatal(error),
                    }
                }
                at_end = waiting.is_empty();
                let Some(record) = waiting.pop_front() else {
                    break;
                };
                if let Err(end) = self.send(record).await {
                    return end;
                }
            }
            if *stop.borrow() && self.in_flight.is_empty() {
                return End::Stopped;
            }
            tokio::select! {
                biased;
                () = self.connection.lost.notified() => {
                    return End::Lost(anyhow::anyhow!("the connection was lost"));
                }
                Some(acknowledged) = self.in_flight.next() => {
                    if let Err(end) = self.acknowledged(acknowledged) {
                        return end;
                    }
                }
                ready = folder.readable(), if at_end => {
                    let cleared = ready.and_then(|mut ready| { ready.clear_ready(); tail.clear() });
                    if let Err(error) = cleared {
                        return End::Fatal(error.into());
                    }
                }
                _ = stop.changed() => {}
            }
        }
    }

    /// The next records to publish: at most a window of them.
    fn read(&self, tail: &mut Tail) -> Result<VecDeque<Record>> {
        let mut records = VecDeque::new();
        while records.len() < self.settings.window {
            match tail.next()? {
                None => break,
                Some(Item::Record(record)) if self.wants(&record) => records.push_back(record),
                Some(Item::Record(_)) => {}
                Some(Item::Gap { after, before }) => {
                    tracing::warn!("between {after} and {before} records are missing in the files");
                    self.progress.gap();
                }
            }
        }
        if self.settings.durable && !records.is_empty() {
            tokio::task::block_in_place(|| tail.sync())?;
        }
        Ok(records)
    }

    fn wants(&self, record: &Record) -> bool {
        self.settings.topics.is_empty() || self.settings.topics.contains(&record.topic)
    }

    async fn send(&mut self, record: Record) -> Result<(), End> {
        let name = self.node.subject(&record.topic);
        if !self.subjects.contains_key(&name) {
            let last = self.last(&name).await.map_err(End::Lost)?;
            let last = last.map_or(0, |message| message.sequence);
            self.subjects
                .insert(name.clone(), Subject { last, in_flight: 0 });
        }
        let subject = self.subjects.entry(name.clone()).or_default();
        let mut message = PublishMessage::build()
            .message_id(self.node.message_id(record.cursor))
            .expected_stream(&self.stream.cached_info().config.name)
            .header("Content-Type", "application/json")
            .header("Eventlog-Schema", SCHEMA)
            .header(CONFIRMED, self.confirmed.to_string().as_str())
            .payload(record.line.clone().into());
        // Another publisher of this node is refused. What is behind one in flight has no
        // number to expect yet; its first one had.
        if subject.in_flight == 0 {
            message = message.expected_last_subject_sequence(subject.last);
        }
        subject.in_flight += 1;
        let sent = self.context.send_publish(name.clone(), message).await;
        let sent = sent.map_err(|error| End::Lost(error.into()))?;
        self.in_flight
            .push_back(Box::pin(async move { (record, name, sent.await) }));
        Ok(())
    }

    /// Takes the next acknowledgement.
    fn acknowledged(&mut self, (record, name, acknowledged): InFlight) -> Result<(), End> {
        match acknowledged {
            Ok(ack) if ack.duplicate => Err(End::Conflict(anyhow::anyhow!(
                "{}: it is in the stream already, and this session has not sent it",
                record.cursor
            ))),
            Ok(ack) => {
                let subject = self.subjects.entry(name).or_default();
                subject.in_flight -= 1;
                subject.last = subject.last.max(ack.sequence);
                self.confirmed = self.confirmed.max(ack.sequence);
                self.progress.published(record.cursor, 1);
                Ok(())
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                let why = format!("{}: {name} has a message that is not ours", record.cursor);
                Err(End::Conflict(anyhow::Error::from(error).context(why)))
            }
            Err(error) => {
                let why = format!("{}: it was not acknowledged", record.cursor);
                Err(End::Lost(anyhow::Error::from(error).context(why)))
            }
        }
    }

    async fn last(&self, subject: &str) -> Result<Option<StreamMessage>> {
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
}
