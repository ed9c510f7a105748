//! The records as they come, for a process of its own: from a cursor on, through every
//! rotation, without polling.
//!
//! ```no_run
//! use eventlog::tail::{From, Item, Tail};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut tail = Tail::open("regtest/eventlog.jsonl".as_ref(), From::Oldest)?;
//! loop {
//!     while let Some(item) = tail.next()? {
//!         match item {
//!             Item::Record(record) => println!("{} {}", record.cursor, record.topic),
//!             Item::Gap { after, before } => println!("lost: after {after}, before {before}"),
//!         }
//!     }
//!     tail.wait(None)?;
//! }
//! # }
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::cursor::{self, Cursor, follows};
use crate::older::{Generation, folder, generations, identity};
use crate::reader;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest record that is kept.
    Oldest,
    /// With the first one after this.
    After(Cursor),
}

/// Why it cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no going on after the cursor.
    #[error(transparent)]
    Cursor(#[from] cursor::Error),
    /// The folder cannot be watched.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A record.
    Record(Record),
    /// Records in between are not there: they were removed before they were read, were
    /// lost in a crash, or are in lines that are no JSON (`eventlog-format=text`).
    Gap {
        /// The last record given.
        after: Cursor,
        /// The one that comes next.
        before: Cursor,
    },
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub cursor: Cursor,
    /// The topic.
    pub topic: String,
    /// The line as it is in the file, without its end.
    pub line: String,
}

/// Follows the files.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    folder: Inotify,
    file: Option<Reading>,
    /// Numbers below this were given, or are not asked for.
    since: u64,
    last: Option<Cursor>,
    /// A record that a gap comes before.
    held: Option<Record>,
}

/// The file that is read.
#[derive(Debug)]
struct Reading {
    file: BufReader<File>,
    identity: (u64, u64),
    /// The beginning of a line whose end is not there yet.
    line: Vec<u8>,
    /// The line is longer than any record: the rest of it is passed over.
    skipping: bool,
}

impl Tail {
    /// Begins to read the file at this path and the older ones that rotation left. The
    /// file need not be there yet, its folder must.
    ///
    /// # Errors
    /// What came after the cursor is not kept, or the folder cannot be watched.
    pub fn open(path: &Path, from: From) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        // Before the first look at the files: what comes after that is seen.
        let folder = watch(path).map_err(|errno| io(errno.into()))?;
        let (since, last) = match from {
            From::Oldest => (0, None),
            From::After(cursor) => (cursor::resume(path, cursor, None)?, Some(cursor)),
        };
        let mut tail = Self {
            path: path.to_owned(),
            folder,
            file: None,
            since,
            last,
            held: None,
        };
        tail.file = tail.first().map_err(io)?;
        Ok(tail)
    }

    /// The next record, or that some are missing before it; `None` if there is no more
    /// now: then [`Tail::wait`].
    ///
    /// # Errors
    /// The system's: a file cannot be read.
    #[allow(clippy::should_implement_trait)] // it does not end with `None`
    pub fn next(&mut self) -> io::Result<Option<Item>> {
        if let Some(record) = self.held.take() {
            return Ok(Some(self.give(record)));
        }
        loop {
            let moved = match &mut self.file {
                None => true,
                Some(file) => {
                    // Looked at before the file is read: what it has then is all it gets.
                    let moved = !is_at(&self.path, file.identity);
                    while let Some(line) = file.line()? {
                        let Some((record, line)) = reader::record(line) else {
                            continue;
                        };
                        if record.seq < self.since {
                            continue;
                        }
                        let next = self.last.is_none_or(|last| follows(last, &record));
                        let record = Record {
                            cursor: record.cursor(),
                            topic: record.topic.into_owned(),
                            line: line.to_owned(),
                        };
                        return Ok(Some(self.take(record, next)));
                    }
                    moved
                }
            };
            if !moved {
                return Ok(None);
            }
            match self.newer()? {
                Some(file) => self.file = Some(file),
                None => return Ok(None),
            }
        }
    }

    /// Waits until there may be more, for `patience` at most. False if it timed out.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, patience: Option<Duration>) -> io::Result<bool> {
        let timeout = match patience {
            None => PollTimeout::NONE,
            Some(patience) => PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.clear()?;
        Ok(true)
    }

    /// Takes note that there may be more: for those who wait for this descriptor with
    /// others, before they call [`Tail::next`].
    ///
    /// # Errors
    /// The system's.
    pub fn clear(&self) -> io::Result<()> {
        loop {
            match self.folder.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until the disk has confirmed what was read.
    ///
    /// # Errors
    /// The disk's.
    pub fn sync(&self) -> io::Result<()> {
        // eventlog has done so for the older files.
        let file = self.file.as_ref();
        file.map_or(Ok(()), |file| file.file.get_ref().sync_data())
    }

    /// The bytes of the files that come after the last record given.
    ///
    /// # Errors
    /// The system's.
    pub fn unread(&self) -> io::Result<u64> {
        let held = self.held.as_ref().map_or(0, |record| record.line.len() + 1) as u64;
        let (files, _) = generations(&self.path);
        let here = self.file.as_ref();
        let newer = files
            .iter()
            .take_while(|one| here.is_none_or(|here| one.identity() != here.identity));
        let newer = newer.map(Generation::length).sum::<u64>();
        Ok(held + newer + here.map_or(Ok(0), Reading::unread)?)
    }

    /// The last record given.
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// Gives a record, or that some are missing before it.
    fn take(&mut self, record: Record, is_next: bool) -> Item {
        match self.last {
            Some(after) if !is_next => {
                let before = record.cursor;
                self.held = Some(record);
                Item::Gap { after, before }
            }
            _ => self.give(record),
        }
    }

    fn give(&mut self, record: Record) -> Item {
        self.since = record.cursor.seq + 1;
        self.last = Some(record.cursor);
        Item::Record(record)
    }

    /// The file to begin with: the newest one whose first record is not after `since`.
    fn first(&self) -> io::Result<Option<Reading>> {
        let (files, _) = generations(&self.path);
        for (n, generation) in files.iter().enumerate() {
            let Some(mut reading) = Reading::open(generation)? else {
                continue;
            };
            let first = reader::first_seq(&mut reading.file)?;
            if n + 1 == files.len() || first.is_some_and(|first| first <= self.since) {
                let file = reader::skip_to(reading.file.into_inner(), self.since)?;
                reading.file = BufReader::new(file);
                return Ok(Some(reading));
            }
        }
        Ok(None)
    }

    /// The file that comes after this one.
    fn newer(&self) -> io::Result<Option<Reading>> {
        let Some(file) = &self.file else {
            return self.first();
        };
        let (files, _) = generations(&self.path);
        let here = files.iter().position(|one| one.identity() == file.identity);
        // If it was removed, with what is left: numbers show what is missing.
        let newer = here.map_or(&files[..], |n| &files[..n]);
        for generation in newer.iter().rev() {
            if let Some(reading) = Reading::open(generation)? {
                return Ok(Some(reading));
            }
        }
        Ok(None)
    }
}

/// Readable when something in the folder has changed: then [`Tail::clear`].
impl AsFd for Tail {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Reading {
    fn open(generation: &Generation) -> io::Result<Option<Self>> {
        let opened = generation
            .open()
            .map_err(|error| io::Error::other(error.to_string()))?;
        Ok(opened.map(|file| Self {
            file: BufReader::new(file),
            identity: generation.identity(),
            line: Vec::new(),
            skipping: false,
        }))
    }

    fn unread(&self) -> io::Result<u64> {
        let mut file = self.file.get_ref();
        let begun = match self.line.last() {
            Some(b'\n') | None => 0,
            Some(_) => self.line.len(),
        };
        let read = file.stream_position()? - (self.file.buffer().len() + begun) as u64;
        Ok(file.metadata()?.len().saturating_sub(read))
    }

    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<&[u8]>> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        loop {
            let room = (reader::LONGEST + 1).saturating_sub(self.line.len()) as u64;
            let mut rest = self.file.by_ref().take(room);
            let read = rest.read_until(b'\n', &mut self.line)?;
            let whole = self.line.last() == Some(&b'\n');
            if whole && !self.skipping {
                return Ok(Some(&self.line[..self.line.len() - 1]));
            }
            if whole || self.line.len() > reader::LONGEST {
                self.skipping = !whole;
                self.line.clear();
            } else if read == 0 && !self.was_cut()? {
                return Ok(None);
            }
        }
    }

    /// Was the file emptied, as some tools rotate? Then it is read from its start.
    fn was_cut(&mut self) -> io::Result<bool> {
        let cut = self.file.get_ref().metadata()?.len() < self.file.stream_position()?;
        if cut {
            self.file.seek(SeekFrom::Start(0))?;
            self.line.clear();
            self.skipping = false;
        }
        Ok(cut)
    }
}

fn watch(path: &Path) -> nix::Result<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let changes = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    inotify.add_watch(folder(path), changes)?;
    Ok(inotify)
}

fn is_at(path: &Path, file: (u64, u64)) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| identity(&metadata) == file)
}
