//! What the recorder's handle and the thread that writes share: the queue, the
//! settings, and what was recorded so far.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::cursor::Epoch;
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
    pub(crate) epoch: Epoch,
    /// Since when a write has not returned.
    pub(crate) busy: Mutex<Option<Instant>>,
    /// That this lasts was logged.
    pub(crate) hang_logged: AtomicBool,
}

/// A command to the recorder's thread.
#[derive(Debug)]
pub enum Command {
    /// Close the file and open what lies at its path now.
    Reopen,
    /// Rotate now.
    /// Where it went; `None`: there was nothing in it.
    Rotate(oneshot::Sender<Result<Option<PathBuf>, String>>),
    /// Wait for the disk.
    Sync(oneshot::Sender<Result<(), String>>),
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
    /// There are too many waiters, and this was the oldest.
    Displaced,
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
    /// Events whose line the disk did not confirm though `eventlog-fsync` is set.
    pub unsynced: u64,
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
    /// Notifications that could not be written, those without room in memory included.
    pub lost: u64,
}

/// A write that takes longer than this is trouble.
const HANG: Duration = Duration::from_secs(2);

impl Inner {
    pub(crate) fn set_busy(&self, busy: bool) {
        *lock(&self.busy) = busy.then(Instant::now);
        self.hang_logged.store(false, SeqCst);
    }

    /// What is wrong if a write does not return.
    pub(crate) fn hang(&self) -> Option<String> {
        let lasts = (*lock(&self.busy))?.elapsed();
        (lasts > HANG).then(|| {
            let seconds = lasts.as_secs();
            format!(
                "{}: a write has not returned for {seconds} s: the disk hangs",
                self.path.display()
            )
        })
    }

    /// Logs once that a write does not return.
    pub(crate) fn log_hang(&self) {
        if let Some(hang) = self.hang()
            && !self.hang_logged.swap(true, SeqCst)
        {
            log::warn!("{hang}; notifications are kept in memory until it returns");
        }
    }

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
