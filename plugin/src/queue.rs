//! The queue between the thread that reads lightningd's messages and the one
//! that writes the file: in order, never waiting, bounded in memory.
//!
//! When the bound is reached, what comes next is dropped and counted, and the place
//! where it is missing is marked by a record with the topic [`DROPPED`].

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::chunk::{Chunk, DROPPED, Kind};
use crate::lock::lock;
use crate::notification::Notification;

/// A chunk takes no more events once it has this many bytes.
const CHUNK: usize = 128 * 1024;

/// Up to this many notifications are [`Waiting::Few`].
const FEW: usize = 16;

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
    /// Notifications in the chunks here, and in the one that was taken last.
    length: usize,
    taken_length: usize,
    dropping: Option<(SystemTime, u64)>,
    counts: Counts,
    ended: bool,
}

/// The queue's counters.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Notifications not yet written.
    pub length: usize,
    /// The most that ever waited.
    pub high_water: usize,
    /// The bytes of memory they take.
    pub bytes: usize,
    /// The most bytes that were ever held.
    pub bytes_high_water: usize,
    /// Notifications there was no room for.
    pub dropped: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
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
                taken_length: 0,
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
        let size = event.topic.len() + event.payload.len() + Chunk::OVERHEAD;
        // A single one may be larger than the limit: nothing else waits then.
        if state.bytes > 0 && state.bytes + size > state.limit {
            state.drop_one(received_at);
            return;
        }
        state.mark_dropped();
        let kind = if event.is_json {
            Kind::Event
        } else {
            Kind::NotJson
        };
        let origin = event.origin.as_deref();
        state.push(received_at, kind, &event.topic, origin, event.payload);
        state.length += 1;
        state.counts.high_water = state.counts.high_water.max(state.length);
        state.counts.bytes_high_water = state.counts.bytes_high_water.max(state.bytes);
    }

    /// Appends a record of the plugin's own; `payload` is JSON text.
    pub fn push_own(&self, topic: &str, payload: &str) {
        let mut state = self.lock();
        state.mark_dropped();
        state.push(SystemTime::now(), Kind::Own, topic, None, payload);
        drop(state);
        self.wake();
    }

    /// Appends a mark for something that could not be read.
    pub fn push_unreadable(&self, received_at: SystemTime) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.counts.unreadable += 1;
        if state.bytes + Chunk::OVERHEAD > state.limit {
            state.drop_one(received_at);
            return;
        }
        state.mark_dropped();
        let payload = r#"{"count":1,"reason":"not readable"}"#;
        state.push(received_at, Kind::Own, DROPPED, None, payload);
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
        state.taken_length = 0;
        // One large message must not keep its memory.
        if chunk.capacity() <= 2 * CHUNK {
            state.spare = Some(chunk);
        }
    }

    /// The queue's counters.
    pub fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            length: state.length + state.taken_length,
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
            self.taken_length = chunk.events();
            self.length -= self.taken_length;
            self.taken = chunk.bytes();
        }
        Some(item)
    }

    fn drop_one(&mut self, received_at: SystemTime) {
        self.counts.dropped += 1;
        self.dropping.get_or_insert((received_at, 0)).1 += 1;
    }

    fn mark_dropped(&mut self) {
        if let Some((since, count)) = self.dropping.take() {
            let payload = format!(r#"{{"count":{count},"reason":"no memory"}}"#);
            self.push(since, Kind::Own, DROPPED, None, &payload);
        }
    }

    fn push(
        &mut self,
        at: SystemTime,
        kind: Kind,
        topic: &str,
        origin: Option<&str>,
        payload: &str,
    ) {
        let chunk = self.last_chunk();
        let before = chunk.bytes();
        chunk.push(at, kind, topic, origin, payload);
        let size = chunk.bytes() - before;
        self.bytes += size;
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
            is_json: true,
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
                    _ => format!("{} {}", entry.topic, entry.payload),
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
        let mark = r#"eventlog_dropped {"count":3,"reason":"no memory"}"#;
        assert_eq!(before[2], mark);
        assert_eq!(drain(&queue), ["after"]);
        assert_eq!((queue.counts().dropped, queue.counts().bytes), (3, 0));
    }

    #[test]
    fn one_larger_than_the_limit_is_taken_if_nothing_waits() {
        let queue = Queue::new(100);
        let big = "x".repeat(4000);
        queue.push(SystemTime::now(), &event(&big));
        queue.push(SystemTime::now(), &event("2"));
        assert_eq!((queue.counts().length, queue.counts().dropped), (1, 1));
        let drained = drain(&queue);
        assert_eq!((drained[0].len(), drained.len()), (4000, 2));
        queue.push(SystemTime::now(), &event("3"));
        assert_eq!(drain(&queue), ["3"]);
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
