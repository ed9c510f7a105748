//! What was published so far, for those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use eventlog::cursor::Cursor;

use crate::sink::Arrived;

/// What was done so far.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Counts>);

/// The numbers of [`Progress`].
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Records that arrived.
    pub published: u64,
    /// Up to here nothing is left to do: all arrived that was asked for.
    pub passed: Option<Cursor>,
    /// When the last one arrived.
    pub last: Option<SystemTime>,
    /// The other side is there.
    pub connected: bool,
    /// Sessions after the first.
    pub reconnects: u64,
    /// Sessions that ended with a record refused.
    pub refused: u64,
    /// Places where records are missing.
    pub gaps: u64,
}

impl Progress {
    /// The numbers now.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    pub(crate) fn arrived(&self, arrived: Arrived) {
        let mut counts = self.lock();
        counts.published += arrived.count;
        counts.passed = Some(arrived.last);
        counts.last = Some(SystemTime::now());
        counts.connected = true;
    }

    pub(crate) fn passed(&self, cursor: Cursor) {
        self.lock().passed = Some(cursor);
    }

    pub(crate) fn connected(&self, connected: bool) {
        self.lock().connected = connected;
    }

    pub(crate) fn reconnect(&self) {
        self.lock().reconnects += 1;
    }

    pub(crate) fn refused(&self) {
        self.lock().refused += 1;
    }

    pub(crate) fn gap(&self) {
        self.lock().gaps += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
