//! What the stream has acknowledged, in a file: the second source, for a stream that no
//! longer holds what it acknowledged, or that was made anew.
//!
//! The stream is asked first, so the file may be a second old.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eventlog::cursor::Cursor;

use crate::place::{Place, QUIET};

/// How old the file may be.
const EVERY: Duration = Duration::from_secs(1);

/// The last record that was acknowledged, as were all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noted {
    pub cursor: Cursor,
    /// The stream's number of it.
    pub sequence: u64,
    /// When that stream was made, in nanoseconds since 1970: what tells it from a later one.
    pub created: i128,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {} {}", self.cursor, self.sequence, self.created)
    }
}

impl FromStr for Noted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [cursor, sequence, created] = words[..] else {
            anyhow::bail!("it is no EPOCH:SEQ, number in the stream, and stream's time");
        };
        Ok(Self {
            cursor: cursor.parse().map_err(anyhow::Error::msg)?,
            sequence: sequence.parse().context("the number in the stream")?,
            created: created.parse().context("the stream's time")?,
        })
    }
}

/// The same, and when the file is to have it.
#[derive(Debug)]
pub(super) struct Kept {
    pub place: Place,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    noted: Option<Noted>,
    due: Option<Instant>,
    logged: Option<Instant>,
}

impl Kept {
    pub fn read(place: Place) -> Result<Self> {
        let state = State {
            noted: place.read()?,
            due: None,
            logged: None,
        };
        Ok(Self {
            place,
            state: state.into(),
        })
    }

    pub fn get(&self) -> Option<Noted> {
        self.lock().noted
    }

    pub fn set(&self, noted: Noted) {
        let mut state = self.lock();
        if state.noted.replace(noted) != Some(noted) {
            state.due.get_or_insert_with(|| Instant::now() + EVERY);
        }
    }

    /// Waits until the file is to be written.
    pub async fn due(&self) {
        let due = self.lock().due;
        match due {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Writes the file, if it is old. A failure is logged: the stream is there.
    pub fn write(&self) {
        let mut state = self.lock();
        let (Some(noted), Some(_)) = (state.noted, state.due) else {
            return;
        };
        state.due = None;
        let Err(error) = tokio::task::block_in_place(|| self.place.write(noted)) else {
            return;
        };
        state.due = Some(Instant::now() + EVERY);
        if state.logged.is_none_or(|at| at.elapsed() > QUIET) {
            tracing::warn!(
                "{}: {error}: only the stream says how far it is",
                self.place
            );
            state.logged = Some(Instant::now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
