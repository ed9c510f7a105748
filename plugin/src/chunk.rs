//! Events one behind the other: a message costs no allocation of its own, and the
//! memory used is the bytes held.

use std::time::SystemTime;

use serde_json::Value;

/// The topic of the record that stands where notifications are missing.
pub const DROPPED: &str = "eventlog_dropped";

/// What one entry of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A notification.
    Event,
    /// A notification whose payload is not JSON.
    NotJson,
    /// A record of the plugin's own, for example where notifications are missing.
    Own,
}

impl Kind {
    /// Is it a notification?
    pub fn is_event(self) -> bool {
        self != Self::Own
    }
}

/// One notification of a chunk, or the mark of dropped ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it was read from lightningd.
    pub received_at: SystemTime,
    /// What it is.
    pub kind: Kind,
    /// The topic.
    pub topic: &'a str,
    /// The plugin it came from.
    pub origin: Option<&'a str>,
    /// JSON text.
    pub payload: &'a str,
}

impl Entry<'_> {
    /// How many notifications it stands for: itself, or those whose place it marks.
    pub fn stands_for(&self) -> u64 {
        if self.kind.is_event() || self.topic != DROPPED {
            return self.kind.is_event().into();
        }
        let mark: Option<Value> = serde_json::from_str(self.payload).ok();
        mark.and_then(|mark| mark["count"].as_u64()).unwrap_or(0)
    }
}

#[derive(Debug, Clone, Copy)]
struct Header {
    received_at: SystemTime,
    kind: Kind,
    topic: u32,
    origin: Option<u32>,
    payload: u32,
}

/// Events one behind the other.
#[derive(Debug, Default)]
pub struct Chunk {
    headers: Vec<Header>,
    text: String,
}

impl Chunk {
    /// One that has just a record of the plugin's own; `payload` is JSON text.
    pub fn own(topic: &str, payload: &str) -> Self {
        let mut chunk = Self::default();
        chunk.push(SystemTime::now(), Kind::Own, topic, None, payload);
        chunk
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.headers.len()
    }

    /// Has it none?
    pub fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// How many of them are notifications.
    pub fn events(&self) -> usize {
        let is_event = |header: &&Header| header.kind.is_event();
        self.headers.iter().filter(is_event).count()
    }

    /// The bytes of memory its entries take.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.headers.len() * size_of::<Header>()
    }

    /// Its entries, in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = self.text.as_str();
        self.headers.iter().map(move |header| {
            let mut take = |length: u32| {
                let (taken, left) = rest.split_at(length as usize);
                rest = left;
                taken
            };
            Entry {
                received_at: header.received_at,
                kind: header.kind,
                topic: take(header.topic),
                origin: header.origin.map(&mut take),
                payload: take(header.payload),
            }
        })
    }

    pub(crate) fn push(
        &mut self,
        received_at: SystemTime,
        kind: Kind,
        topic: &str,
        origin: Option<&str>,
        payload: &str,
    ) {
        // A message is far shorter than 4 GiB.
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.headers.push(Header {
            received_at,
            kind,
            topic: length(topic),
            origin: origin.map(length),
            payload: length(payload),
        });
        self.text.push_str(topic);
        self.text.push_str(origin.unwrap_or_default());
        self.text.push_str(payload);
    }

    /// The bytes an entry takes beside its text.
    pub(crate) const OVERHEAD: usize = size_of::<Header>();

    /// The bytes of memory it would keep for other entries.
    pub(crate) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.headers.clear();
        self.text.clear();
    }
}
