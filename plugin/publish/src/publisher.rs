//! Sessions one after the other: the broker may be away for as long as it likes.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use eventlog::cursor::Cursor;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use crate::connect::Broker;
use crate::node::Node;
use crate::session::{End, Session, Settings};
use crate::stream::Wanted;

/// The pause after the first failure, and the longest: each is twice the one before.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(15);

/// While the broker is away, one log line in this time.
const QUIET: Duration = Duration::from_secs(60);

/// So many sessions in a row without a record published that end with messages of
/// somebody else: there is another publisher.
const CONFLICTS: u32 = 3;

/// What was done so far.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Counts>);

/// The numbers of [`Progress`].
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Records acknowledged.
    pub published: u64,
    /// The last of them, or the last that was in the stream already.
    pub cursor: Option<Cursor>,
    /// Connections after the first.
    pub reconnects: u64,
    /// Places where records are missing.
    pub gaps: u64,
}

impl Progress {
    /// The numbers now.
    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    pub(crate) fn published(&self, cursor: Cursor, count: u64) {
        let mut counts = self.lock();
        counts.published += count;
        counts.cursor = Some(cursor);
    }

    pub(crate) fn gap(&self) {
        self.lock().gaps += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the records of a file, until `stop` is true.
///
/// # Errors
/// A person has to do something: the stream does not fit, records that were not
/// published are no longer kept, or another publisher publishes them, too.
pub async fn publish(
    file: &Path,
    node: &Node,
    (broker, wanted): (&Broker, &Wanted),
    settings: &Settings,
    progress: &Progress,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let _lock = alone(file)?;
    let mut away = Away::default();
    let mut conflicts = 0;
    while !*stop.borrow() {
        let before = progress.counts().published;
        let end = tokio::select! {
            opened = Session::open(broker, wanted, node, settings, progress) => match opened {
                Ok(mut session) => {
                    away.back(broker);
                    session.run(file, &mut stop).await
                }
                Err(end) => end,
            },
            _ = stop.changed() => continue,
        };
        let moved = progress.counts().published > before;
        conflicts = if moved { 0 } else { conflicts };
        match end {
            End::Stopped => break,
            End::Fatal(error) => return Err(error),
            End::Conflict(error) => {
                conflicts += 1;
                if conflicts >= CONFLICTS {
                    return Err(error).context("another publisher publishes this node's records");
                }
            }
            End::Lost(error) => away.note(broker, &error, moved),
        }
        tokio::select! {
            () = tokio::time::sleep(away.pause()) => {}
            _ = stop.changed() => {}
        }
        progress.lock().reconnects += 1;
    }
    Ok(())
}

/// Holds the lock of this file's publisher.
fn alone(file: &Path) -> Result<Flock<File>> {
    let mut name = file.as_os_str().to_owned();
    name.push(".publish.lock");
    let path = PathBuf::from(name);
    let lock = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path);
    let lock = lock.with_context(|| path.display().to_string())?;
    Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("another publisher publishes {}", file.display()))
}

/// The broker is away.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    logged: Option<Instant>,
    tries: u32,
}

impl Away {
    fn note(&mut self, broker: &Broker, error: &anyhow::Error, moved: bool) {
        if moved {
            *self = Self::default();
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.tries += 1;
        if self.logged.is_none_or(|at| at.elapsed() > QUIET) {
            tracing::warn!(
                "{}: {error:#}; away for {} s, nothing is lost: the records stay in their files",
                broker.public(),
                since.elapsed().as_secs()
            );
            self.logged = Some(Instant::now());
        }
    }

    fn back(&mut self, broker: &Broker) {
        match self.since.take() {
            Some(since) => tracing::info!(
                "{}: back after {} s",
                broker.public(),
                since.elapsed().as_secs()
            ),
            None => tracing::info!("{}: connected", broker.public()),
        }
        self.logged = None;
    }

    /// Between half and the whole of what doubling gives, so that not all publishers of
    /// a fleet come at once.
    fn pause(&self) -> Duration {
        let whole = PAUSE
            .saturating_mul(1 << self.tries.min(10))
            .min(PAUSE_MOST);
        let random = RandomState::new().hash_one(self.tries) % 1024;
        whole.mul_f64(0.5 + random as f64 / 2048.0)
    }
}

/// Tries the file, the broker and the stream; says where a publisher would go on.
///
/// # Errors
/// What is wrong.
pub async fn check(
    file: &Path,
    node: &Node,
    (broker, wanted): (&Broker, &Wanted),
    settings: &Settings,
) -> Result<String> {
    let progress = Progress::default();
    let session = Session::open(broker, wanted, node, settings, &progress).await;
    let session = session.map_err(End::reason)?;
    let from = session.from(file).await?;
    Ok(format!(
        "{}: stream {}, subjects {}, from {from}",
        broker.public(),
        wanted.stream,
        node.all()
    ))
}
