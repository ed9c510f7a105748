//! Sessions one after the other: the other side may be away for as long as it likes.

use std::collections::VecDeque;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytesize::ByteSize;
use eventlog::tail::Tail;
use nix::fcntl::{Flock, FlockArg, OFlag};
use sd_notify::NotifyState;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::outbox::Outbox;
use crate::place;
use crate::progress::Progress;
use crate::sink::{End, Session, Sink};

/// The pause after the first failure, and the longest: each is twice the one before.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MOST: Duration = Duration::from_secs(15);

/// While the other side is away, one log line in this time.
const QUIET: Duration = Duration::from_secs(60);

/// So many sessions in a row without a record published that end with messages of
/// somebody else: there is another publisher.
const CONFLICTS: u32 = 3;

/// When it is to stop, what is in flight may take this long to arrive.
const GRACE: Duration = Duration::from_secs(10);

/// Publishes the records of the files, until `stop` is true and what was in flight has
/// arrived, or ten seconds later.
///
/// # Errors
/// A person has to do something: the sink does not fit, records that were not
/// published are no longer kept, or another publisher publishes them, too.
pub async fn publish<S: Sink>(
    sink: &S,
    outbox: &Outbox,
    progress: &Progress,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let _lock = alone(&sink.lock(), &outbox.file)?;
    let mut away = Away::default();
    let mut conflicts = 0;
    while !*stop.borrow() {
        let before = progress.counts().published;
        let end = session(sink, outbox, progress, &mut away, &mut stop).await;
        let moved = progress.counts().published > before;
        conflicts = if moved { 0 } else { conflicts };
        if matches!(end, End::Refused(_) | End::Conflict(_)) {
            progress.refused();
        }
        match end {
            End::Stopped => break,
            End::Fatal(error) => return Err(error),
            End::Conflict(error) => {
                conflicts += 1;
                if conflicts >= CONFLICTS {
                    return Err(error).context("another publisher publishes this node's records");
                }
            }
            End::Lost(error) | End::Refused(error) => {
                away.note(sink, outbox, progress, &error, moved);
            }
        }
        progress.connected(false);
        tokio::select! {
            () = tokio::time::sleep(away.pause()) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        progress.reconnect();
    }
    Ok(())
}

/// One session, from its start to its end.
async fn session<S: Sink>(
    sink: &S,
    outbox: &Outbox,
    progress: &Progress,
    away: &mut Away,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let mut stopped = stop.clone();
    let opened = tokio::select! {
        opened = sink.open() => opened,
        _ = stopped.wait_for(|stop| *stop) => return End::Stopped,
    };
    let too_late = async {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(GRACE).await;
    };
    let run = async {
        let mut session = opened?;
        if S::CONNECTS {
            progress.connected(true);
            away.back(&sink.name());
        }
        let last = session.resume(outbox, progress).await?;
        if let Some(last) = last {
            tracing::info!("{}: it has the records up to {last}", sink.name());
            progress.passed(last);
        }
        let tail = outbox.open(last, progress)?;
        follow(&mut session, tail, outbox, progress, stop, || {
            away.back(&sink.name());
        })
        .await
    };
    tokio::select! {
        end = run => end.unwrap_or_else(|end| end),
        () = too_late => {
            tracing::warn!("what was in flight has not arrived in {} s", GRACE.as_secs());
            End::Stopped
        }
    }
}

/// Sends what the files have and get, with a window of records in flight, until the session
/// ends or all has arrived after `stop`.
async fn follow(
    session: &mut impl Session,
    mut tail: Tail,
    outbox: &Outbox,
    progress: &Progress,
    stop: &mut watch::Receiver<bool>,
    mut back: impl FnMut(),
) -> Result<End, End> {
    let fatal = |error: std::io::Error| End::Fatal(error.into());
    let folder = tail.as_fd().try_clone_to_owned().and_then(|fd| {
        // SAFETY: the descriptor is the `AsyncFd`'s own, and no other call closes it.
        Ok(unsafe { AsyncFd::register(fd) }?)
    });
    let folder = folder.map_err(fatal)?;
    let mut waiting = VecDeque::new();
    let mut at_end = false;
    loop {
        let stopping = *stop.borrow();
        while session.in_flight() < outbox.window && !stopping {
            if waiting.is_empty() {
                waiting = outbox.read(&mut tail, progress).map_err(End::Fatal)?;
            }
            at_end = waiting.is_empty();
            let Some(record) = waiting.pop_front() else {
                break;
            };
            session.send(record).await?;
        }
        if session.in_flight() == 0 {
            if let Some(cursor) = tail.cursor().filter(|_| waiting.is_empty()) {
                progress.passed(cursor); // with records of other topics
            }
            if stopping {
                return Ok(End::Stopped);
            }
        }
        tokio::select! {
            biased;
            arrived = session.arrived() => {
                progress.arrived(arrived?);
                back();
            }
            ready = folder.readable(), if at_end => {
                let cleared = ready.and_then(|mut ready| { ready.clear_ready(); tail.clear() });
                cleared.map_err(fatal)?;
            }
            _ = stop.wait_for(|stop| *stop), if !stopping => {}
        }
    }
}

/// Reports to systemd, if it was that which started this.
pub fn notify(state: NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("systemd: {error}");
    }
}

/// Holds the lock of these records' publisher to a sink.
fn alone(path: &Path, file: &Path) -> Result<Flock<File>> {
    let mut options = File::options();
    options.create(true).write(true).mode(0o600);
    let lock = place::open(path, &mut options, OFlag::empty());
    let lock = lock.with_context(|| path.display().to_string())?;
    Flock::lock(lock, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("another publisher publishes {}", file.display()))
}

/// The other side is away.
#[derive(Debug, Default)]
struct Away {
    since: Option<Instant>,
    logged: Option<Instant>,
    tries: u32,
    /// It was there once.
    met: bool,
}

impl Away {
    fn note(
        &mut self,
        sink: &impl Sink,
        outbox: &Outbox,
        progress: &Progress,
        error: &anyhow::Error,
        moved: bool,
    ) {
        if moved {
            self.tries = 0;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.tries += 1;
        if self.logged.is_none_or(|at| at.elapsed() > QUIET) {
            let behind = outbox.behind(progress.counts().passed).unwrap_or_default();
            notify(NotifyState::Status(&format!("{}: away", sink.name())));
            tracing::warn!(
                "{}: {error:#}; away for {} s, nothing is lost: {} records, {}, wait in their files",
                sink.name(),
                since.elapsed().as_secs(),
                behind.records,
                ByteSize(behind.bytes)
            );
            self.logged = Some(Instant::now());
        }
    }

    fn back(&mut self, name: &str) {
        if self.since.is_some() || !self.met {
            notify(NotifyState::Status(&format!("{name}: connected")));
        }
        match self.since.take() {
            Some(since) => tracing::info!("{name}: back after {} s", since.elapsed().as_secs()),
            None if !self.met => tracing::info!("{name}: connected"),
            None => {}
        }
        (self.logged, self.met) = (None, true);
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

/// Tries the files and the sink; says where a publisher would go on.
///
/// # Errors
/// What is wrong.
pub async fn check<S: Sink>(sink: &S, outbox: &Outbox) -> Result<String> {
    let mut session = sink.open().await.map_err(End::reason)?;
    let found = sink.check(&mut session).await?;
    let last = session.last().await.map_err(End::reason)?;
    outbox
        .open(last, &Progress::default())
        .map_err(End::reason)?;
    let from = last.map_or("the oldest record".to_owned(), |last| {
        format!("what came after {last}")
    });
    Ok(format!("{}: {found}, from {from}", sink.name()))
}
