//! The recorder: one thread that owns the file. It takes what the queue holds,
//! numbers it, formats it, and writes it, in order; when it cannot write, it
//! keeps what it has, says so once, and tries again.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use crate::file::{self, LogFile, Place};
use crate::format::{self, Format, Style};
use crate::notification::Notification;
use crate::options::{Fixed, Settings, Shared};
use crate::queue::{Chunk, Counts, Entry, Kind, Next, Queue};
use crate::reader;
use crate::wire;

/// While the file cannot be written: how long to wait before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// No more than one line in this time says that notifications were dropped.
const QUIET: Duration = Duration::from_secs(60);

/// How many may wait for an event at once.
pub const WAITERS: usize = 1000;

/// Counted by name are this many topics; `*` brings any name a plugin makes up.
const COUNTED_TOPICS: usize = 1000;

/// The recorder, for those who feed and ask it.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: Queue<Command>,
    settings: Shared,
    progress: Mutex<Progress>,
    path: PathBuf,
    buffer: usize,
    node_id: Option<String>,
}

/// What can be asked of the recorder's thread.
#[derive(Debug)]
pub enum Command {
    /// Close the file and open what lies at its path now.
    Reopen,
    /// Rotate now.
    Rotate(oneshot::Sender<Result<PathBuf, String>>),
    /// Tell of the next event.
    Wait(Waiter),
}

/// Someone who waits for an event.
#[derive(Debug)]
pub struct Waiter {
    /// Events up to this one were looked at already.
    pub after: u64,
    /// Which topics; any if empty.
    pub topics: Vec<String>,
    /// Where the event's JSON line goes.
    pub reply: oneshot::Sender<Awaited>,
}

/// What a waiter is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The event, as a JSON line.
    Event(String),
    /// Events after [`Waiter::after`] were written already: look again.
    LookAgain,
    /// Too many wait.
    TooMany,
}

/// What was recorded since the start.
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
    /// What keeps the recorder from writing now.
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

impl Recorder {
    /// Opens the file and starts the thread. The receiver is told when all that
    /// came before the end of the input is written.
    ///
    /// # Errors
    /// The file is one that cannot be used: one line that says why. A disk that
    /// is full now is no error, only trouble.
    pub fn start(
        fixed: Fixed,
        settings: Shared,
        node_id: Option<String>,
    ) -> Result<(Self, oneshot::Receiver<Summary>), String> {
        let (file, trouble) = match LogFile::open(&fixed.file) {
            Ok(file) => (Some(file), None),
            Err(error @ file::Error::Unusable { .. }) => {
                return Err(format!("cannot record to {error}"));
            }
            Err(error) => (None, Some(error.to_string())),
        };
        let last_seq = reader::last_seq(&fixed.file)
            .map_err(|error| format!("cannot read {}: {error}", fixed.file.display()))?;
        let recorder = Self {
            inner: Arc::new(Inner {
                queue: Queue::new(fixed.buffer),
                settings,
                progress: Mutex::new(Progress {
                    last_seq,
                    length: file.as_ref().map_or(0, LogFile::length),
                    ..Progress::default()
                }),
                path: fixed.file,
                buffer: fixed.buffer,
                node_id,
            }),
        };
        let mut writer = Writer {
            inner: recorder.inner.clone(),
            file: None,
            next_seq: last_seq + 1,
            chunk: Chunk::default(),
            first_seq: last_seq + 1,
            out: String::new(),
            written: 0,
            waiters: Vec::new(),
            trouble: None,
            dropped_told: 0,
            told_at: None,
            rotate_at: 0,
        };
        if let Some(file) = file {
            writer.take_file(file);
        }
        if let Some(error) = trouble {
            writer.in_trouble(&error);
        }
        let (done, finished) = oneshot::channel();
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                let summary = writer.run();
                let _ = done.send(summary); // nobody waits if the plugin is gone
            })
            .map_err(|error| format!("cannot start the recorder's thread: {error}"))?;
        Ok((recorder, finished))
    }

    /// Asks something of the thread.
    pub fn command(&self, command: Command) {
        self.inner.queue.command(command);
    }

    /// What was recorded so far.
    pub fn progress(&self) -> Progress {
        self.inner.progress().clone()
    }

    /// The last event written.
    pub fn last_seq(&self) -> u64 {
        self.inner.progress().last_seq
    }

    /// What waits, and what there was no room for.
    pub fn counts(&self) -> Counts {
        self.inner.queue.counts()
    }

    /// The settings.
    pub fn settings(&self) -> &Shared {
        &self.inner.settings
    }

    /// The file's path.
    pub fn path(&self) -> &std::path::Path {
        &self.inner.path
    }

    /// The bytes of memory for what waits.
    pub fn buffer(&self) -> usize {
        self.inner.buffer
    }

    /// The node's id, if lightningd told it.
    pub fn node_id(&self) -> Option<&str> {
        self.inner.node_id.as_deref()
    }
}

/// Where the thread that reads stdin puts notifications.
#[derive(Debug)]
pub struct Inlet {
    recorder: Recorder,
    /// Looked up once for all that is read at once.
    settings: Option<Arc<Settings>>,
}

impl Inlet {
    /// An inlet to this recorder.
    pub fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            settings: None,
        }
    }
}

impl wire::Sink for Inlet {
    fn notification(&mut self, received_at: SystemTime, notification: &Notification) {
        let settings = self
            .settings
            .get_or_insert_with(|| self.recorder.settings().get());
        if settings.wanted.contains(&notification.topic) {
            self.recorder.inner.queue.push(received_at, notification);
        }
    }

    fn flush(&mut self) {
        self.recorder.inner.queue.wake();
        self.settings = None;
    }

    fn end(&mut self) {
        self.recorder.inner.queue.end();
    }
}

impl Inner {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread.
struct Writer {
    inner: Arc<Inner>,
    file: Option<LogFile>,
    next_seq: u64,
    /// What is being written, and the number of its first entry.
    chunk: Chunk,
    first_seq: u64,
    /// The same as lines, of which so many bytes are in the file.
    out: String,
    written: usize,
    waiters: Vec<Waiter>,
    /// The file cannot be written, since when.
    trouble: Option<Instant>,
    /// Of the dropped notifications, so many were told, the last time then.
    dropped_told: u64,
    told_at: Option<Instant>,
    /// Rotation failed: no other try before the file has this length.
    rotate_at: u64,
}

impl Writer {
    fn run(mut self) -> Summary {
        loop {
            let free = self.chunk.is_empty();
            let patience = self.trouble.is_some().then_some(RETRY);
            let inner = self.inner.clone();
            match inner.queue.next(free, patience) {
                Next::Chunk(chunk) => {
                    self.format(chunk);
                    self.write();
                }
                Next::Command(command) => self.obey(command),
                Next::Idle => self.write(),
                Next::Ended if !free => {
                    self.write(); // once more
                    if !self.chunk.is_empty() {
                        return self.give_up();
                    }
                }
                Next::Ended => return Summary { lost: 0 },
            }
        }
    }

    fn give_up(&self) -> Summary {
        let lost = self.chunk.len() + self.inner.queue.counts().length;
        log::error!(
            "lost {lost} notifications at the end: {} still cannot be written",
            self.inner.path.display()
        );
        Summary { lost }
    }

    /// Turns the chunk into lines.
    fn format(&mut self, chunk: Chunk) {
        let settings = self.inner.settings.get();
        let style = Style {
            node_id: self.inner.node_id.as_deref(),
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
                // The hook has told where. Its place in the order stays taken.
                self.out.truncate(before);
                let mark = Entry {
                    kind: Kind::Dropped(1),
                    ..entry
                };
                format::line(&mut self.out, seq, &mark, style);
            }
            self.next_seq += 1;
        }
        self.chunk = chunk;
    }

    /// Writes what is to be written, as far as it goes.
    fn write(&mut self) {
        let settings = self.inner.settings.get();
        match self.write_lines(&settings) {
            Ok(()) => {
                self.out_of_trouble();
                self.written_all(&settings);
            }
            Err(error) => self.in_trouble(&error),
        }
    }

    fn write_lines(&mut self, settings: &Settings) -> Result<(), String> {
        if self.chunk.is_empty() && self.trouble.is_none() {
            return Ok(());
        }
        self.find_file()?;
        while self.written < self.out.len() {
            let part = self.part(settings.rotate_size);
            if part == 0 {
                self.rotate(settings)?;
                self.find_file()?;
                continue;
            }
            let Some(file) = &mut self.file else {
                return Err("no file".to_owned());
            };
            let bytes = &self.out.as_bytes()[self.written..self.written + part];
            let (written, error) = file.append(bytes);
            self.written += written;
            self.inner.progress().bytes += written as u64;
            if let Some(error) = error {
                return Err(self.tell(&error));
            }
        }
        if settings.fsync
            && let Some(file) = &self.file
        {
            file.sync().map_err(|error| self.tell(&error))?;
        }
        Ok(())
    }

    fn tell(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.inner.path.display())
    }

    /// How many bytes to write before the next rotation; 0: rotate first.
    fn part(&self, limit: Option<u64>) -> usize {
        let rest = &self.out.as_bytes()[self.written..];
        let Some(limit) = limit else {
            return rest.len();
        };
        let limit = limit.max(self.rotate_at);
        let line = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        if self.written > self.line_start() {
            return line; // its start is in this file
        }
        let length = self.file.as_ref().map_or(0, LogFile::length);
        let room = usize::try_from(limit.saturating_sub(length)).unwrap_or(usize::MAX);
        if rest.len() <= room {
            return rest.len();
        }
        match memchr::memrchr(b'\n', &rest[..room]) {
            Some(end) => end + 1,
            // A line longer than a whole file gets one to itself.
            None if length == 0 => line,
            None => 0,
        }
    }

    /// Where in `out` the line begins that is written next.
    fn line_start(&self) -> usize {
        memchr::memrchr(b'\n', &self.out.as_bytes()[..self.written]).map_or(0, |end| end + 1)
    }

    /// Makes sure that the open file is what lies at the path.
    fn find_file(&mut self) -> Result<(), String> {
        if let Some(file) = &mut self.file {
            if file.place() == Place::Same {
                return Ok(());
            }
            // Moved away or deleted. A line begun there is written anew here.
            let start = memchr::memrchr(b'\n', &self.out.as_bytes()[..self.written])
                .map_or(0, |end| end + 1);
            file.cut((self.written - start) as u64);
            self.written = start;
            self.file = None;
        }
        let file = LogFile::open(&self.inner.path).map_err(|error| error.to_string())?;
        self.take_file(file);
        Ok(())
    }

    fn take_file(&mut self, file: LogFile) {
        if file.is_torn() {
            log::warn!(
                "{}: its last line has no end (a crash, or a power loss): the line is closed, \
                 and the next record begins on a line of its own",
                self.inner.path.display()
            );
        }
        self.inner.progress().length = file.length();
        self.file = Some(file);
    }

    /// Rotates. A failure is no trouble: better one file too large than
    /// nothing recorded; the next try is made when it has grown as much again.
    fn rotate(&mut self, settings: &Settings) -> Result<(), String> {
        let path = self.inner.path.clone();
        if let Err(error) = file::rotate(&path, settings.rotate_keep) {
            log::warn!(
                "{}: cannot rotate: {error}; recording goes on in the same file",
                path.display()
            );
            let length = self.file.as_ref().map_or(0, LogFile::length);
            self.rotate_at = length + settings.rotate_size.unwrap_or(0);
            return Ok(());
        }
        self.rotate_at = 0;
        self.file = None;
        self.inner.progress().rotations += 1;
        if settings.fsync {
            file::sync_folder(&path).map_err(|error| self.tell(&error))?;
        }
        Ok(())
    }

    /// All of the chunk is in the file: count it, tell who waits for it.
    fn written_all(&mut self, settings: &Settings) {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.is_empty() {
            return;
        }
        {
            let mut progress = self.inner.progress();
            progress.last_seq = self.next_seq - 1;
            progress.length = self.file.as_ref().map_or(0, LogFile::length);
            for entry in chunk.iter().filter(|entry| entry.kind == Kind::Event) {
                progress.count(entry.topic, entry.received_at);
            }
        }
        if !self.waiters.is_empty() {
            self.tell_waiters(&chunk, settings);
        }
        self.inner.queue.done(chunk);
        self.out.clear();
        self.written = 0;
        // One large message must not hold its memory for ever.
        self.out.shrink_to(1 << 20);
    }

    fn tell_waiters(&mut self, chunk: &Chunk, settings: &Settings) {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        for (seq, entry) in (self.first_seq..).zip(chunk.iter()) {
            let topic = match entry.kind {
                Kind::Event => entry.topic,
                Kind::Dropped(_) => format::DROPPED,
            };
            let mut line = String::new();
            let fits = |waiter: &mut Waiter| {
                seq > waiter.after
                    && (waiter.topics.is_empty() || waiter.topics.iter().any(|t| t == topic))
            };
            for waiter in self.waiters.extract_if(.., fits) {
                if line.is_empty() {
                    let style = Style {
                        node_id: self.inner.node_id.as_deref(),
                        format: Format::Json,
                        redact: settings.redact.unwrap_or(true),
                    };
                    format::line(&mut line, seq, &entry, style);
                }
                let _ = waiter.reply.send(Awaited::Event(line.clone())); // gone: no matter
            }
            if self.waiters.is_empty() {
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reopen => {
                log::info!("SIGHUP: opening {} again", self.inner.path.display());
                self.rotate_at = 0;
                // Nothing is lost if that fails: the next write tries again.
                if let Err(error) = self.find_file() {
                    self.in_trouble(&error);
                } else if self.trouble.is_some() {
                    self.write();
                }
            }
            Command::Rotate(reply) => {
                let _ = reply.send(self.rotate_now()); // who asked may be gone
            }
            Command::Wait(waiter) => {
                self.waiters.retain(|waiter| !waiter.reply.is_closed());
                let full = self.waiters.len() >= WAITERS;
                let seen = self.inner.progress().last_seq > waiter.after;
                match (seen, full) {
                    (true, _) => drop(waiter.reply.send(Awaited::LookAgain)),
                    (_, true) => drop(waiter.reply.send(Awaited::TooMany)),
                    _ => self.waiters.push(waiter),
                }
            }
        }
    }

    fn rotate_now(&mut self) -> Result<PathBuf, String> {
        if self.trouble.is_some() {
            return Err("the file cannot be written now: see eventlog-stats".to_owned());
        }
        let settings = self.inner.settings.get();
        self.find_file()?;
        let rotations = self.inner.progress().rotations;
        self.rotate(&settings)?;
        if self.inner.progress().rotations == rotations {
            return Err("the file could not be moved: see the node's log".to_owned());
        }
        self.find_file()?;
        Ok(file::older(&self.inner.path, 1))
    }

    fn in_trouble(&mut self, error: &str) {
        self.inner.progress().trouble = Some(error.to_owned());
        if self.trouble.is_some() {
            return; // told already
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
        let new = dropped - self.dropped_told;
        let lost = match new {
            0 => "nothing was lost".to_owned(),
            new => format!("{new} notifications were dropped, for want of memory"),
        };
        if let Some(since) = self.trouble.take() {
            self.inner.progress().trouble = None;
            log::info!(
                "recording to {} again after {} s: {lost}",
                self.inner.path.display(),
                since.elapsed().as_secs()
            );
        } else if new > 0 && self.told_at.is_none_or(|at| at.elapsed() > QUIET) {
            log::warn!("{lost}: they came faster than they could be written");
            self.told_at = Some(Instant::now());
        } else {
            return;
        }
        self.dropped_told = dropped;
    }
}

impl Progress {
    fn count(&mut self, topic: &str, at: SystemTime) {
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
