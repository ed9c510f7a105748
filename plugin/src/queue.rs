//! The queue between the thread that reads lightningd's messages and the one
//! that writes the file: in order, never waiting, bounded in memory.
//!
//! Events lie one behind the other in chunks of bytes, so that a message costs
//! no allocation of its own and the memory used is the bytes held. When the
//! bound is reached, what comes next is dropped and counted, and the place
//! where it is missing is marked by [`Kind::Dropped`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::lock::lock;
use crate::notification::Notification;

/// A chunk takes no more events once it has this many bytes.
const CHUNK: usize = 128 * 1024;

/// Up to this many notifications are [`Waiting::Few`].
const FEW: usize = 16;

/// What one entry of a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A notification.
    Event,
    /// This many notifications arrived, the first at the entry's time, but could
    /// not be stored: there was no room.
    Dropped(u64),
    /// A new file was started on request, the one before moved away: its first
    /// line continues the sequence should nothing else be recorded in it.
    Reopened,
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
    /// One that has just a mark.
    pub fn mark(kind: Kind) -> Self {
        let mut chunk = Self::default();
        chunk.push_mark(SystemTime::now(), kind);
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

    /// Appends a notification. Returns the bytes it takes.
    fn push(&mut self, received_at: SystemTime, event: &Notification) -> usize {
        let before = self.bytes();
        // A message is read from a buffer of far less than 4 GiB.
        let length = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.headers.push(Header {
            received_at,
            kind: Kind::Event,
            topic: length(&event.topic),
            origin: event.origin.as_deref().map(length),
            payload: length(event.payload),
        });
        self.text.push_str(&event.topic);
        self.text
            .push_str(event.origin.as_deref().unwrap_or_default());
        self.text.push_str(event.payload);
        self.bytes() - before
    }

    fn push_mark(&mut self, received_at: SystemTime, kind: Kind) {
        self.headers.push(Header {
            received_at,
            kind,
            topic: 0,
            origin: None,
            payload: 0,
        });
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.text.clear();
    }
}

/// What [`Queue::next`] gives.
#[derive(Debug)]
pub enum Next<C> {
    /// A command.
    Command(C),
    /// Events to write.
    Chunk(Chunk),
    /// Nothing now.
    Idle,
    /// Everything was taken, and nothing more comes.
    Ended,
}

/// How much [`Queue::next`] would give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Nothing.
    Nothing,
    /// So little that writing it at once is quicker than waking a thread.
    Few,
    /// More.
    Many,
}

/// The queue. `C` is a command to the recorder, taken between two chunks.
#[derive(Debug)]
pub struct Queue<C> {
    state: Mutex<State<C>>,
    woken: Condvar,
}

/// A command keeps its place among the events.
#[derive(Debug)]
enum Item<C> {
    Chunk(Chunk),
    Command(C),
}

#[derive(Debug)]
struct State<C> {
    items: VecDeque<Item<C>>,
    spare: Option<Chunk>,
    limit: usize,
    /// Bytes of the chunks here and of the one that was taken last.
    bytes: usize,
    taken: usize,
    /// Entries in the chunks here.
    length: usize,
    dropping: Option<(SystemTime, u64)>,
    counts: Counts,
    ended: bool,
}

/// The queue's counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Notifications not yet taken to be written.
    pub length: usize,
    /// The most that ever waited.
    pub high_water: usize,
    /// The bytes of memory they take.
    pub bytes: usize,
    /// The most bytes that were ever held.
    pub bytes_high_water: usize,
    /// Notifications there was no room for.
    pub dropped: u64,
}

impl<C> Queue<C> {
    /// A queue that holds events of up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                spare: None,
                limit,
                bytes: 0,
                taken: 0,
                length: 0,
                dropping: None,
                counts: Counts::default(),
                ended: false,
            }),
            woken: Condvar::new(),
        }
    }

    /// Appends a notification, or drops and counts it if there is no room.
    pub fn push(&self, received_at: SystemTime, event: &Notification) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let size = event.topic.len() + event.payload.len() + size_of::<Header>();
        if state.bytes + size > state.limit {
            state.counts.dropped += 1;
            state.dropping.get_or_insert((received_at, 0)).1 += 1;
            return;
        }
        state.mark_dropped();
        let size = state.last_chunk().push(received_at, event);
        state.bytes += size;
        state.length += 1;
        state.counts.high_water = state.counts.high_water.max(state.length);
        state.counts.bytes_high_water = state.counts.bytes_high_water.max(state.bytes);
    }

    /// Wakes the recorder; once after a number of [`Queue::push`].
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Sends the recorder a command, after the events queued before it.
    pub fn command(&self, command: C) {
        self.lock().items.push_back(Item::Command(command));
        self.wake();
    }

    /// No more events will be pushed.
    pub fn end(&self) {
        self.lock().ended = true;
        self.wake();
    }

    /// How much there is to do.
    pub fn waiting(&self) -> Waiting {
        let state = self.lock();
        if !state.has_any(true) {
            Waiting::Nothing
        } else if state.length <= FEW && state.items.len() <= 1 {
            Waiting::Few
        } else {
            Waiting::Many
        }
    }

    /// Waits until [`Queue::next`] has something to give, `patience` at most. It may
    /// return early.
    pub fn wait(&self, chunks: bool, patience: Option<Duration>) {
        let deadline = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        while !state.has_any(chunks) && !state.ended {
            state = match deadline {
                None => self
                    .woken
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    self.woken
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// The next thing to do. While `chunks` is false chunks are held back:
    /// commands come before them, and so does [`Next::Ended`].
    pub fn next(&self, chunks: bool) -> Next<C> {
        let mut state = self.lock();
        match state.take(chunks) {
            Some(Item::Chunk(chunk)) => Next::Chunk(chunk),
            Some(Item::Command(command)) => Next::Command(command),
            None if state.ended => Next::Ended,
            None => Next::Idle,
        }
    }

    /// Gives a taken chunk back: its memory counts no longer, and is used again.
    pub fn done(&self, mut chunk: Chunk) {
        chunk.clear();
        let mut state = self.lock();
        state.bytes -= std::mem::take(&mut state.taken);
        // One large message must not keep its memory.
        if chunk.text.capacity() <= 2 * CHUNK {
            state.spare = Some(chunk);
        }
    }

    /// The queue's counters.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            length: state.length,
            bytes: state.bytes,
            ..state.counts
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        lock(&self.state)
    }
}

impl<C> State<C> {
    /// Would [`State::take`] give anything?
    fn has_any(&self, chunks: bool) -> bool {
        if chunks {
            return !self.items.is_empty() || self.dropping.is_some();
        }
        self.items
            .iter()
            .any(|item| matches!(item, Item::Command(_)))
    }

    /// The first item, or the first command if chunks are held back.
    fn take(&mut self, chunks: bool) -> Option<Item<C>> {
        if !chunks {
            let is_command = |item: &Item<C>| matches!(item, Item::Command(_));
            let first = self.items.iter().position(is_command)?;
            return self.items.remove(first);
        }
        if self.items.len() <= 1 {
            // What was dropped came after everything that waits.
            self.mark_dropped();
        }
        let item = self.items.pop_front()?;
        if let Item::Chunk(chunk) = &item {
            let is_event = |header: &&Header| header.kind == Kind::Event;
            self.length -= chunk.headers.iter().filter(is_event).count();
            self.taken = chunk.bytes();
        }
        Some(item)
    }

    fn mark_dropped(&mut self) {
        if let Some((since, count)) = self.dropping.take() {
            self.last_chunk().push_mark(since, Kind::Dropped(count));
            self.bytes += size_of::<Header>();
        }
    }

    /// The chunk at the end, if it has room, else a new one.
    fn last_chunk(&mut self) -> &mut Chunk {
        let has_room = |item: &Item<C>| matches!(item, Item::Chunk(last) if last.bytes() < CHUNK);
        if !self.items.back().is_some_and(has_room) {
            let chunk = self.spare.take().unwrap_or_default();
            self.items.push_back(Item::Chunk(chunk));
        }
        match self.items.back_mut() {
            Some(Item::Chunk(last)) => last,
            _ => unreachable!("it was just pushed"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use super::*;

    fn event(payload: &str) -> Notification<'_> {
        Notification {
            topic: Cow::Borrowed("mine"),
            origin: Some(Cow::Borrowed("a.py")),
            payload,
        }
    }

    fn drain(queue: &Queue<u8>) -> Vec<String> {
        let mut seen = Vec::new();
        while let Next::Chunk(chunk) = queue.next(true) {
            for entry in chunk.iter() {
                seen.push(match entry.kind {
                    Kind::Event => {
                        assert_eq!((entry.topic, entry.origin), ("mine", Some("a.py")));
                        entry.payload.to_owned()
                    }
                    mark => format!("{mark:?}"),
                });
            }
            queue.done(chunk);
        }
        seen
    }

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let queue = Queue::new(1 << 20);
        let payloads: Vec<String> = (0..5000).map(|n| format!("{{\"n\":{n}}}")).collect();
        for payload in &payloads {
            queue.push(SystemTime::now(), &event(payload));
        }
        assert_eq!(queue.counts().length, 5000);
        assert_eq!(drain(&queue), payloads);
        let counts = queue.counts();
        assert_eq!(
            (counts.length, counts.bytes, counts.high_water),
            (0, 0, 5000)
        );
    }

    #[test]
    fn what_finds_no_room_is_counted_and_marked_where_it_is_missing() {
        let queue = Queue::new(1000);
        let big = "x".repeat(400);
        for n in 0..5 {
            let payload = format!("{n}{big}");
            queue.push(SystemTime::now(), &event(&payload));
        }
        let before = drain(&queue);
        queue.push(SystemTime::now(), &event("after"));
        assert_eq!(before.len(), 3);
        assert_eq!(before[2], "Dropped(3)");
        assert_eq!(drain(&queue), ["after"]);
        assert_eq!((queue.counts().dropped, queue.counts().bytes), (3, 0));
    }

    #[test]
    fn commands_keep_their_place_unless_chunks_are_held_back() {
        let queue = Queue::new(1000);
        for n in 1..=2 {
            queue.push(SystemTime::now(), &event("{}"));
            queue.command(n);
        }
        queue.end();
        assert!(matches!(queue.next(true), Next::Chunk(chunk) if chunk.len() == 1));
        assert!(matches!(queue.next(true), Next::Command(1)));
        assert!(matches!(queue.next(false), Next::Command(2)));
        assert!(matches!(queue.next(false), Next::Ended));
        assert!(matches!(queue.next(true), Next::Chunk(chunk) if chunk.len() == 1));
        assert!(matches!(queue.next(true), Next::Ended));
    }
}
