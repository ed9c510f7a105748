//! The files that eventlog writes, as what is still to be published.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;

use anyhow::Result;
use eventlog::cursor::Cursor;
use eventlog::reader;
use eventlog::tail::{self, From, Item, Record, Tail};

use crate::progress::Progress;
use crate::sink::End;

/// What is published, and how.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// The file that eventlog writes.
    pub file: PathBuf,
    /// Only these topics; any if empty.
    pub topics: HashSet<String>,
    /// The most records in flight.
    pub window: usize,
    /// Only what the disk has confirmed.
    pub durable: bool,
    /// Go on where records are no longer kept.
    pub skip_gap: bool,
}

/// What is not published yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Sequence numbers, those of topics that are not asked for included.
    pub records: u64,
    /// Bytes in the files.
    pub bytes: u64,
}

impl Outbox {
    /// Opens the files after the last record that arrived.
    pub(crate) fn open(&self, last: Option<Cursor>, progress: &Progress) -> Result<Tail, End> {
        let from = last.map_or(From::Oldest, From::After);
        match Tail::open(&self.file, from) {
            Ok(tail) => Ok(tail),
            Err(tail::Error::Cursor(gap)) => {
                self.gap(gap.into(), progress)?;
                Tail::open(&self.file, From::Oldest).map_err(|error| End::Fatal(error.into()))
            }
            Err(error) => Err(End::Fatal(error.into())),
        }
    }

    /// Records are missing for good: that is an error, or logged and counted.
    pub(crate) fn gap(&self, gap: anyhow::Error, progress: &Progress) -> Result<(), End> {
        if !self.skip_gap {
            return Err(End::Fatal(gap.context("--skip-gap publishes what is left")));
        }
        tracing::error!("{gap:#}: published is what is left");
        progress.gap();
        Ok(())
    }

    /// The next records to publish: at most a window of them.
    pub(crate) fn read(&self, tail: &mut Tail, progress: &Progress) -> Result<VecDeque<Record>> {
        let mut records = VecDeque::new();
        while records.len() < self.window {
            match tail.next()? {
                None => break,
                Some(Item::Record(record)) if self.wants(&record) => records.push_back(record),
                Some(Item::Record(_)) => {}
                Some(Item::Gap { after, before }) => {
                    tracing::warn!("between {after} and {before} records are missing in the files");
                    progress.gap();
                }
            }
        }
        if self.durable && !records.is_empty() {
            tokio::task::block_in_place(|| tail.sync())?;
        }
        Ok(records)
    }

    pub(crate) fn wants(&self, record: &Record) -> bool {
        self.topics.is_empty() || self.topics.contains(&record.topic)
    }

    /// What the files hold after this record; all of it if that is no longer kept.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn behind(&self, passed: Option<Cursor>) -> Result<Behind> {
        let (last, _) = reader::last_seq(&self.file, false);
        let mut tail = match passed.map(|cursor| Tail::open(&self.file, From::After(cursor))) {
            Some(Ok(tail)) => tail,
            Some(Err(tail::Error::Cursor(_))) | None => Tail::open(&self.file, From::Oldest)?,
            Some(Err(error)) => return Err(error.into()),
        };
        let first = match tail.next()? {
            Some(Item::Record(record)) => record.line.len() as u64 + 1,
            Some(Item::Gap { .. }) | None => 0, // what comes after a gap is unread
        };
        Ok(Behind {
            records: last.saturating_sub(passed.map_or(0, |cursor| cursor.seq)),
            bytes: first + tail.unread()?,
        })
    }
}
