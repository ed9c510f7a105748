//! What the recorder's handle and the thread that writes share: the queue, the
//! settings, and what was recorded so far.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::lock::lock;
use crate::options::Shared;
use crate::queue::Queue;

/// The most that can wait for an event at once.
pub const WAITERS: usize = 1000;

/// At most this many topics get a counter of their own: with `*` a plugin can
/// send any name.
const COUNTED_TOPICS: usize = 1000;

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) queue: Queue<Command>,
    pub(crate) settings: Shared,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) path: PathBuf,
    pub(crate) buffer: usize,
    pub(crate) node_id: Option<String>,
}

/// A command to the recorder's thread.
#[derive(Debug)]
pub enum Command {
    /// Close the file and open what lies at its path now.
    Reopen,
    /// Rotate now.
    Rotate(oneshot::Sender<Result<PathBuf, String>>),
    /// Report the next event.
    Wait(Waiter),
    /// The file could not be written: try again, after a while.
    Retry,
}

/// A caller that waits for an event.
#[derive(Debug)]
pub struct Waiter {
    /// The caller has seen the events up to this one.
    pub after: u64,
    /// Which topics; any if empty.
    pub topics: Vec<String>,
    /// Where the event's JSON line goes.
    pub reply: oneshot::Sender<Awaited>,
}

/// The answer to a waiter.
#[derive(Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The event, as a JSON line.
    Event(String),
    /// Events after [`Waiter::after`] were written already: look again.
    LookAgain,
    /// There are too many waiters.
    TooMany,
}

/// The events recorded since the start.
#[derive(Debug, Default, Clone)]
pub struct Progress {
    /// The last event written, 0 if none ever was.
    pub last_seq: u64,
    /// By topic.
    pub topics: BTreeMap<String, Count>,
    /// Bytes written to the file.
    pub bytes: u64,
    /// The file's length.
    pub length: u64,
    /// Rotations.
    pub rotations: u64,
    /// The error that keeps the recorder from writing now.
    pub trouble: Option<String>,
}

/// How many events, the first and the last.
#[derive(Debug, Clone, Copy)]
pub struct Count {
    /// How many.
    pub count: u64,
    /// When the first came.
    pub first: SystemTime,
    /// When the last came.
    pub last: SystemTime,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Events that were still to be written and could not be.
    pub lost: usize,
}

impl Inner {
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }
}

impl Progress {
    pub(crate) fn count(&mut self, topic: &str, at: SystemTime) {
        if let Some(count) = self.topics.get_mut(topic) {
            count.count += 1;
            count.last = at;
            return;
        }
        let name = if self.topics.len() < COUNTED_TOPICS {
            topic
        } else {
            "(others)"
        };
        let count = self.topics.entry(name.to_owned()).or_insert(Count {
            count: 0,
            first: at,
            last: at,
        });
        count.count += 1;
        count.last = at;
    }
}
