//! Owns the file. It takes what the queue holds, numbers it, formats it, and
//! writes it, in order; when it cannot write, it keeps what it has, logs that
//! once, and tries again.
//!
//! A thread of its own does that, but for the few notifications that come one by
//! one: the thread that has read them writes them at once. The writing thread
//! holds the lock from the taking to the end of the write, so the order stays.

mod output;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::chunk::{Chunk, DROPPED, Entry, Kind};
use crate::file::LogFile;
use crate::format::{self, Format, Style};
use crate::lock::lock;
use crate::options::Settings;
use crate::progress::{Command, Inner, Summary};
use crate::queue::{Next, Waiting};
use crate::state::State;
use crate::waiters::Waiters;

/// While the file cannot be written: the time between two tries.
const RETRY: Duration = Duration::from_millis(500);

/// At most one log line in this time reports dropped notifications.
const QUIET: Duration = Duration::from_secs(60);

/// The topic of the first record of a file started on SIGHUP.
const REOPENED: &str = "eventlog_reopened";

/// The topic of the record of a failed `eventlog-fsync`.
const UNSYNCED: &str = "eventlog_unsynced";

/// Writes the file.
#[derive(Debug)]
pub(crate) struct Writer {
    inner: Arc<Inner>,
    file: Option<LogFile>,
    next_seq: u64,
    /// The entries being written, and the number of the first.
    chunk: Chunk,
    first_seq: u64,
    /// The same as lines, and how many of their bytes are in the file.
    out: String,
    written: usize,
    waiters: Waiters,
    state: State,
    /// The disk did not confirm what was written of the chunk.
    unsynced: Option<String>,
    /// Nor what is in this file, once it did not: a later yes means nothing.
    unconfirmed: Option<String>,
    /// The file cannot be written, since when.
    trouble: Option<Instant>,
    /// How many dropped notifications were logged, and when the last time.
    dropped_logged: u64,
    logged_at: Option<Instant>,
    /// Rotation failed: no other try before the file has this length.
    rotate_at: u64,
}

/// The result of [`Writer::turn`].
enum Turn {
    Done,
    Idle,
    Ended(Summary),
}

/// The recorder's thread: writes what waits, until the queue ends.
pub(crate) fn run(writer: &Mutex<Writer>) -> Summary {
    let inner = lock(writer).inner.clone();
    loop {
        let (chunks, patience) = lock(writer).awaits();
        inner.queue.wait(chunks, patience);
        if let Turn::Ended(summary) = lock(writer).turn() {
            return summary;
        }
    }
}

/// Writes what waits at once, in the calling thread, if it is little and nobody
/// else is at it; else the recorder's thread does.
pub(crate) fn write_now(writer: &Mutex<Writer>, inner: &Inner) {
    let few = match inner.queue.waiting() {
        Waiting::Nothing => return,
        Waiting::Few => !inner.settings.get().fsync,
        Waiting::Many => false,
    };
    let free = match writer.try_lock() {
        Ok(writer) => Some(writer),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    match free {
        Some(mut writer) if few && writer.trouble.is_none() => {
            while matches!(writer.turn(), Turn::Done) && writer.trouble.is_none() {}
            if writer.trouble.is_some() {
                inner.queue.command(Command::Retry);
            }
        }
        _ => {
            inner.log_hang();
            inner.queue.wake();
        }
    }
}

impl Writer {
    /// A writer with the file, or with the error that keeps it from being opened.
    pub(crate) fn new(
        inner: Arc<Inner>,
        file: Option<LogFile>,
        state: State,
        trouble: Option<&str>,
    ) -> Self {
        let next_seq = inner.progress().last_seq + 1;
        let mut writer = Self {
            inner,
            file: None,
            next_seq,
            chunk: Chunk::default(),
            first_seq: next_seq,
            out: String::new(),
            written: 0,
            waiters: Waiters::default(),
            state,
            unsynced: None,
            unconfirmed: None,
            trouble: None,
            dropped_logged: 0,
            logged_at: None,
            rotate_at: 0,
        };

        if let Some(file) = file {
            writer.take_file(file);
        }
        if let Some(error) = trouble {
            writer.in_trouble(error);
        }
        writer
    }

    /// Whether the thread waits for chunks as well as commands, and for how long.
    fn awaits(&self) -> (bool, Option<Duration>) {
        let patience = self.trouble.is_some().then_some(RETRY);
        (self.chunk.is_empty(), patience)
    }

    /// Does one of the things that wait.
    fn turn(&mut self) -> Turn {
        let free = self.chunk.is_empty();
        let next = self.inner.queue.next(free);
        // Any call to the disk may hang.
        self.inner.set_busy(true);
        let turn = self.work(next, free);
        self.inner.set_busy(false);
        turn
    }

    fn work(&mut self, next: Next<Command>, free: bool) -> Turn {
        match next {
            Next::Chunk(chunk) => {
                self.format(chunk);
                self.write();
            }
            Next::Command(command) => self.obey(command),
            Next::Idle => {
                if self.trouble.is_some() {
                    self.write(); // again
                }
                return Turn::Idle;
            }
            Next::Ended if !free => {
                self.write(); // once more
                if !self.chunk.is_empty() {
                    return Turn::Ended(self.give_up());
                }
            }
            Next::Ended => {
                self.state
                    .end(0, self.file.as_ref().and_then(LogFile::mark));
                return Turn::Ended(Summary { lost: 0 });
            }
        }
        Turn::Done
    }

    /// Counts what is not in the file, and the dropped ones whose mark is not.
    fn give_up(&mut self) -> Summary {
        let lines = memchr::memchr_iter(b'\n', &self.out.as_bytes()[..self.written]).count();
        let rest = self.chunk.iter().skip(lines);
        let mut lost: u64 = rest.map(|entry| entry.stands_for()).sum();
        loop {
            match self.inner.queue.next(true) {
                Next::Chunk(chunk) => lost += chunk.iter().map(|e| e.stands_for()).sum::<u64>(),
                Next::Command(_) => {} // its caller is answered by the end
                Next::Idle | Next::Ended => break,
            }
        }
        log::error!(
            "lost {lost} notifications at the end: {} still cannot be written",
            self.inner.path.display()
        );
        self.state
            .end(lost, self.file.as_ref().and_then(LogFile::mark));
        Summary { lost }
    }

    /// Turns the chunk into lines.
    fn format(&mut self, chunk: Chunk) {
        let settings = self.inner.settings.get();
        let style = Style {
            node_id: self.inner.node_id.as_deref(),
            epoch: self.inner.epoch,
            format: settings.format,
            redact: settings.redacts(),
        };
        self.first_seq = self.next_seq;
        self.out.clear();
        self.written = 0;
        for entry in chunk.iter() {
            let before = self.out.len();
            let seq = self.next_seq;
            let out = &mut self.out;
            if catch_unwind(AssertUnwindSafe(|| format::line(out, seq, &entry, style))).is_err() {
                // The hook has logged where. Its place in the order stays taken.
                self.out.truncate(before);
                let mark = Entry {
                    kind: Kind::Own,
                    topic: DROPPED,
                    origin: None,
                    payload: r#"{"count":1,"reason":"not readable"}"#,
                    ..entry
                };
                format::line(&mut self.out, seq, &mark, style);
            }
            self.next_seq += 1;
        }
        self.chunk = chunk;
    }

    /// Writes the lines, as far as it goes.
    fn write(&mut self) {
        let settings = self.inner.settings.get();
        // Before anybody sees them: no number is given twice, whatever happens.
        self.state.note(self.next_seq - 1);
        match self.write_lines(&settings) {
            Ok(()) => {
                self.out_of_trouble();
                self.written_all(&settings);
            }
            Err(error) => self.in_trouble(&error),
        }
    }

    /// The whole chunk is in the file: count it, answer the waiters.
    fn written_all(&mut self, settings: &Settings) {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return;
        }
        {
            let mut progress = self.inner.progress();
            progress.last_seq = self.next_seq - 1;
            progress.length = self.file.as_ref().map_or(0, LogFile::length);
            for entry in chunk.iter().filter(|entry| entry.kind.is_event()) {
                progress.count(entry.topic, entry.received_at);
            }
        }
        if let Some(error) = self.unsynced.take() {
            self.report_unsynced(&chunk, &error);
        }
        if !self.waiters.is_empty() {
            let style = Style {
                node_id: self.inner.node_id.as_deref(),
                epoch: self.inner.epoch,
                format: Format::Json,
                redact: settings.redact.unwrap_or(true),
            };
            self.waiters.answer(&chunk, self.first_seq, style);
        }
        self.inner.queue.done(chunk);
        self.out.clear();
        self.written = 0;
        // One large message must not keep its memory.
        self.out.shrink_to(1 << 20);
    }

    /// A loss after all, should the machine go down: a power loss may take it.
    fn report_unsynced(&mut self, chunk: &Chunk, error: &str) {
        let events = chunk.events();
        if events == 0 {
            return; // the record of an earlier failure: that is known
        }
        let (first, last) = (self.first_seq, self.next_seq - 1);
        log::error!(
            "{error}: the disk did not confirm the records {first} to {last}; a power loss may \
             take them"
        );
        self.inner.progress().unsynced += events as u64;
        let payload = json!({"first_seq": first, "last_seq": last, "error": error});
        self.inner.queue.push_own(UNSYNCED, &payload.to_string());
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reopen => self.reopen(),
            Command::Retry => {} // there is trouble: the next wait has an end
            Command::Rotate(reply) => {
                let _ = reply.send(self.rotate_now()); // the caller may be gone
            }
            Command::Sync(reply) => {
                let _ = reply.send(self.sync_now()); // as above
            }
            Command::Wait(waiter) => {
                let last_seq = self.inner.progress().last_seq;
                self.waiters.add(waiter, last_seq);
            }
        }
    }

    fn reopen(&mut self) {
        log::info!("SIGHUP: opening {} again", self.inner.path.display());
        self.rotate_at = 0;
        // Nothing is lost if that fails: the next write tries again.
        if let Err(error) = self.find_file() {
            return self.in_trouble(&error);
        }
        let started = self.file.as_ref().is_some_and(|file| file.length() == 0);
        let json = self.inner.settings.get().format == Format::Json;
        if self.chunk.is_empty() && started && json && self.next_seq > 1 {
            self.format(Chunk::own(REOPENED, "{}"));
        }
        self.write();
    }

    fn rotate_now(&mut self) -> Result<Option<PathBuf>, String> {
        if self.trouble.is_some() {
            return Err("the file cannot be written now: see eventlog-stats".to_owned());
        }
        let settings = self.inner.settings.get();
        self.find_file()?;
        // An empty file would push the oldest records out for nothing.
        if self.file.as_ref().is_some_and(|file| file.length() == 0) {
            return Ok(None);
        }
        let Some(path) = self.rotate(&settings) else {
            return Err("the file could not be moved: see the node's log".to_owned());
        };
        self.find_file()?;
        Ok(Some(path))
    }

    fn in_trouble(&mut self, error: &str) {
        self.inner.progress().trouble = Some(error.to_owned());
        if self.trouble.is_some() {
            return; // logged already
        }
        log::warn!(
            "cannot record: {error}; up to {} of notifications are kept in memory until it works",
            bytesize::ByteSize::b(self.inner.buffer as u64)
                .display()
                .iec()
        );
        self.trouble = Some(Instant::now());
    }

    fn out_of_trouble(&mut self) {
        let dropped = self.inner.queue.counts().dropped;
        let new = dropped - self.dropped_logged;
        let lost = if new > 0 {
            format!("{new} notifications were dropped, for want of memory")
        } else if self.unsynced.is_some() {
            "the disk did not confirm all of it".to_owned()
        } else {
            "nothing was lost".to_owned()
        };
        if let Some(since) = self.trouble.take() {
            self.inner.progress().trouble = None;
            log::info!(
                "recording to {} again after {} s: {lost}",
                self.inner.path.display(),
                since.elapsed().as_secs()
            );
        } else if new > 0 && self.logged_at.is_none_or(|at| at.elapsed() > QUIET) {
            log::warn!("{lost}: they came faster than they could be written");
            self.logged_at = Some(Instant::now());
        } else {
            return;
        }
        self.dropped_logged = dropped;
    }
}
