//! The recorder's handle: feeds it, commands it, reports on it. The thread that
//! writes is in `writer.rs`.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use tokio::sync::oneshot;

use crate::cursor::Cursor;
use crate::file::{self, LogFile};
use crate::format::Format;
use crate::notification::Notification;
use crate::options::{Fixed, Settings, Shared};
use crate::progress::{Command, Inner, Progress, Summary};
use crate::queue::{Counts, Queue};
use crate::reader;
use crate::state::{self, STARTED, State};
use crate::stdin::Sink;
use crate::writer::{self, Writer};

/// The recorder's handle.
#[derive(Debug, Clone)]
pub struct Recorder {
    inner: Arc<Inner>,
    writer: Arc<Mutex<Writer>>,
}

impl Recorder {
    /// Opens the file and starts the thread. The receiver gets the summary once
    /// everything up to the end of the input is written.
    ///
    /// # Errors
    /// The file cannot be used: one line with the reason. A disk that is full now
    /// is not an error, only trouble.
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
        let (mut state, known) = State::open(&fixed.file);
        let (recorded, unread) = reader::last_seq(&fixed.file, known.is_some());
        for file in unread {
            log::warn!("passed over {file}");
        }
        // One from a backup knows nothing of the last run.
        let known = known.filter(|known| known.last_seq >= recorded);
        let last_seq = known.map_or(recorded, |known| known.last_seq);
        let epoch = state.begin(known, last_seq, file.as_ref().and_then(LogFile::mark));
        let inner = Arc::new(Inner {
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
            epoch,
            busy: Mutex::new(None),
            hang_logged: AtomicBool::new(false),
        });
        if inner.settings.get().format == Format::Json {
            let started = state::started(known, recorded, last_seq).to_string();
            inner.queue.push_own(STARTED, &started);
        }
        let writer = Writer::new(inner.clone(), file, state, trouble.as_deref());
        let writer = Arc::new(Mutex::new(writer));
        let recorder = Self {
            inner,
            writer: writer.clone(),
        };
        let (done, finished) = oneshot::channel();
        thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                let summary = writer::run(&writer);
                let _ = done.send(summary); // nobody listens if the plugin is gone
            })
            .map_err(|error| format!("cannot start the recorder's thread: {error}"))?;
        Ok((recorder, finished))
    }

    /// Gets the queue written: a few notifications at once, before this returns,
    /// unless the file is slow or in trouble.
    pub fn flush(&self) {
        writer::write_now(&self.writer, &self.inner);
    }

    /// No more notifications come: what waits is written, then it ends.
    pub fn end(&self) {
        self.inner.queue.end();
    }

    /// Commands the thread.
    pub fn command(&self, command: Command) {
        self.inner.queue.command(command);
    }

    /// The events recorded so far.
    pub fn progress(&self) -> Progress {
        let mut progress = self.inner.progress().clone();
        progress.trouble = progress.trouble.or_else(|| self.inner.hang());
        progress
    }

    /// The last event written.
    pub fn last_seq(&self) -> u64 {
        self.inner.progress().last_seq
    }

    /// The place of the last event written.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.inner.epoch,
            seq: self.last_seq(),
        }
    }

    /// How much is queued, and how much there was no room for.
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

    /// The queue's limit, in bytes.
    pub fn buffer(&self) -> usize {
        self.inner.buffer
    }

    /// The node's id, if lightningd answered `getinfo`.
    pub fn node_id(&self) -> Option<&str> {
        self.inner.node_id.as_deref()
    }
}

/// Where the thread that reads stdin puts notifications.
#[derive(Debug)]
pub struct Inlet {
    recorder: Recorder,
    /// Looked up once for each read.
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

impl Sink for Inlet {
    fn notification(&mut self, received_at: SystemTime, notification: &Notification) {
        let settings = self
            .settings
            .get_or_insert_with(|| self.recorder.settings().get());
        if settings.wanted.contains(&notification.topic) {
            self.recorder.inner.queue.push(received_at, notification);
        }
    }

    fn lost(&mut self, received_at: SystemTime) {
        self.recorder.inner.queue.push_unreadable(received_at);
    }

    fn flush(&mut self) {
        self.settings = None;
    }

    fn end(&mut self) {
        self.recorder.end();
    }
}
