//! A place in the order of all records, over crashes, rotation and deletion: where a
//! reader goes on.
//!
//! A pair of epoch and sequence number that anybody has been shown is never given to
//! another event: an epoch is new at a start unless the end before it was clean and is
//! known for certain (see [`crate::state`]).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::reader::{self, Order, Record};
use crate::state::STARTED;

/// A random number, shown as 16 hexadecimal digits.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of records that were written before there were any: all zeros.
    pub const NONE: Self = Self(0);

    /// One that was never given before.
    pub fn random() -> Self {
        loop {
            // Its keys are the system's random numbers.
            let epoch = Self(RandomState::new().hash_one(std::process::id()));
            if epoch != Self::NONE {
                return epoch;
            }
        }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.to_string()
    }
}

impl TryFrom<String> for Epoch {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Epoch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number
            .map(Self)
            .ok_or_else(|| format!("`{text}` is not an epoch: 16 hexadecimal digits"))
    }
}

/// `epoch:seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The epoch.
    pub epoch: Epoch,
    /// The sequence number.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a cursor: epoch:seq");
        let (epoch, seq) = text.split_once(':').ok_or_else(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq < u64::MAX / 2);
        Ok(Self {
            epoch: epoch.parse()?,
            seq: seq.ok_or_else(wrong)?,
        })
    }
}

/// Why there is no going on after a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Records that came after it are no longer kept.
    #[error(
        "records after the cursor {cursor} are no longer kept: the oldest is {oldest}; \
         keep more files (eventlog-rotate-keep), or go on after that one and count the gap"
    )]
    TooOld {
        /// The cursor.
        cursor: Cursor,
        /// The oldest record kept.
        oldest: Cursor,
    },
    /// No record of its epoch is kept, and none says what came after.
    #[error(
        "no record of the epoch of the cursor {cursor} is kept: it is older than all that is \
         kept, or from another node"
    )]
    Unknown {
        /// The cursor.
        cursor: Cursor,
    },
    /// The number was not given yet.
    #[error("the cursor {cursor} is ahead of the last record, {last}")]
    Ahead {
        /// The cursor.
        cursor: Cursor,
        /// The last record.
        last: Cursor,
    },
}

/// The sequence number from which to read on after the cursor: that of the first record
/// that comes after it in the files, or a smaller one of none. `last`, where it is known:
/// the last record given.
///
/// A cursor whose record is lost, as after a power failure, is followed by what came
/// after the last record kept of its epoch: that has another epoch.
///
/// # Errors
/// A record that came after it is not kept, or cannot be known.
pub fn resume(path: &Path, cursor: Cursor, last: Option<Cursor>) -> Result<u64, Error> {
    if let Some(last) = last
        && last.epoch == cursor.epoch
        && last.seq <= cursor.seq
    {
        let is_last = last.seq == cursor.seq;
        let ahead = Error::Ahead { cursor, last };
        return is_last.then_some(cursor.seq + 1).ok_or(ahead);
    }
    // Numbers only grow, in the files and over all epochs.
    let mut here = None;
    reader::lines(path, Order::OldestFirst, cursor.seq, |line| {
        let Some((record, _)) = reader::record(line).filter(|(r, _)| r.seq >= cursor.seq) else {
            return true;
        };
        here = Some((follows(cursor, &record), record.cursor()));
        false
    });
    if matches!(here, Some((true, _))) {
        return Ok(cursor.seq + 1);
    }
    let mut newest = None;
    reader::lines(path, Order::NewestFirst, 0, |line| {
        let record = reader::record(line).map(|(record, _)| record.cursor());
        newest = record.filter(|record| record.epoch == cursor.epoch);
        newest.is_none()
    });
    match (newest, here) {
        (Some(newest), _) if newest.seq <= cursor.seq => Ok(newest.seq + 1),
        (Some(_), Some((_, oldest))) => Err(Error::TooOld { cursor, oldest }),
        _ => Err(Error::Unknown { cursor }),
    }
}

/// Is this record the cursor's, or the next one after it?
pub(crate) fn follows(cursor: Cursor, record: &Record) -> bool {
    if record.epoch == cursor.epoch {
        return record.seq == cursor.seq || record.seq == cursor.seq + 1;
    }
    #[derive(Deserialize)]
    struct Started {
        last_seq: u64,
        previous_epoch: Epoch,
    }
    record.topic == STARTED
        && serde_json::from_str::<Started>(record.payload.get()).is_ok_and(|started| {
            started.previous_epoch == cursor.epoch && started.last_seq == cursor.seq
        })
}
