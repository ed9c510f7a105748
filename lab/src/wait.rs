//! The one way to wait for a condition.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// How long the lab waits by default for something that a test expects, before
/// [`timeout_factor`].
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What one look at a condition saw.
#[derive(Debug)]
pub enum Probe<T> {
    /// It holds; this is what the caller waited for.
    Ready(T),
    /// It does not hold yet; the text says what was seen instead, for the error if
    /// it never does.
    NotYet(String),
}

/// Waits until `probe` returns [`Probe::Ready`]. It looks again after 1 ms, and then ever
/// more slowly, up to every 10 ms; in a long wait after a fortieth of the time that has
/// passed, up to 250 ms, since looking may keep a node from doing what is awaited.
///
/// `within` is scaled by [`timeout_factor`]. An error from `probe` ends the wait
/// at once: return one when waiting longer cannot help, for example when the process
/// is dead.
///
/// # Errors
/// [`Error::TimedOut`], naming `what` and what was last seen; or the probe's own.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use cln_lab::{Probe, eventually};
/// use std::time::Duration;
///
/// let mut looks = 0;
/// let answer = eventually("three looks", Duration::from_secs(1), async || {
///     looks += 1;
///     Ok(if looks == 3 { Probe::Ready("done") } else { Probe::NotYet(format!("{looks} looks")) })
/// })
/// .await?;
/// assert_eq!(answer, "done");
/// # Ok::<(), cln_lab::Error>(()) }).unwrap();
/// ```
pub async fn eventually<T>(
    what: impl std::fmt::Display,
    within: Duration,
    probe: impl AsyncFnMut() -> Result<Probe<T>>,
) -> Result<T> {
    let outcome = poll(what, within, probe).await;
    if let Err(error @ Error::TimedOut { .. }) = &outcome {
        remember(error);
    }
    outcome
}

thread_local! {
    /// The last wait on this thread that timed out, for the failure report.
    static LAST: RefCell<Option<(Instant, String)>> = const { RefCell::new(None) };
}

tokio::task_local! {
    /// Set while a wait looks.
    static LOOKING: ();
}

/// True if this is one of the looks of a wait, which are many alike.
pub(crate) fn is_looking() -> bool {
    LOOKING.try_with(|()| ()).is_ok()
}

/// Remembers a wait that timed out.
pub(crate) fn remember(timed_out: &Error) {
    LAST.set(Some((Instant::now(), timed_out.to_string())));
}

/// The last wait on this thread that timed out, if that was after `since`.
pub(crate) fn last_timeout(since: Instant) -> Option<String> {
    LAST.with_borrow(|last| {
        let (at, text) = last.as_ref()?;
        (*at >= since).then(|| text.clone())
    })
}

/// Like [`eventually`], but does not remember a timeout.
pub(crate) async fn poll<T>(
    what: impl std::fmt::Display,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Probe<T>>,
) -> Result<T> {
    const SLOWEST: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
    let started = Instant::now();
    let deadline = started + scaled(within);
    let mut pause = Duration::from_millis(1);
    loop {
        // The probe may itself wait for something that hangs.
        let left = deadline.saturating_duration_since(Instant::now());
        let look = LOOKING.scope((), probe());
        let seen = match tokio::time::timeout(left.max(pause), look).await {
            Ok(Ok(Probe::Ready(value))) => return Ok(value),
            Ok(Ok(Probe::NotYet(seen))) => seen,
            Ok(Err(fatal)) => return Err(fatal),
            Err(_) => "no answer to the last look".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Error::TimedOut {
                what: what.to_string(),
                waited: Duration::from_millis(started.elapsed().as_millis() as u64),
                last_seen: seen,
            });
        }
        tokio::time::sleep(pause).await;
        let slow = (started.elapsed() / 40).min(SLOWEST[1]);
        pause = (pause * 3 / 2).min(SLOWEST[0]).max(slow);
    }
}

/// `d` times [`timeout_factor`].
pub fn scaled(d: Duration) -> Duration {
    d.mul_f64(timeout_factor())
}

/// The factor by which every deadline is stretched: `LAB_TIMEOUT_FACTOR`, 1 by default.
/// A value that is not a number between 0.01 and 1000 counts as 1.
pub fn timeout_factor() -> f64 {
    std::env::var("LAB_TIMEOUT_FACTOR")
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|factor| (0.01..=1000.0).contains(factor))
        .unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn a_timeout_names_what_was_awaited_and_last_seen() {
        let error = block_on(eventually::<()>(
            "the moon",
            Duration::from_millis(5),
            async || Ok(Probe::NotYet("clouds".to_owned())),
        ))
        .expect_err("never ready");
        let text = error.to_string();
        assert!(
            text.contains("the moon") && text.contains("clouds"),
            "{text}"
        );
    }

    #[test]
    fn a_probe_that_hangs_is_bounded() {
        let error = block_on(eventually::<()>(
            "an answer",
            Duration::from_millis(5),
            async || std::future::pending().await,
        ))
        .expect_err("never ready");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    }

    #[test]
    fn a_fatal_error_ends_the_wait_at_once() {
        let mut looks = 0;
        let error = block_on(eventually::<()>("x", Duration::from_secs(60), async || {
            looks += 1;
            Err(Error::usage("dead"))
        }))
        .expect_err("fatal");
        assert_eq!((error.to_string().as_str(), looks), ("dead", 1));
    }

    #[test]
    fn waits_can_be_sent_between_threads() {
        fn assert_send<T: Send>(_: T) {}
        assert_send(eventually("x", Duration::ZERO, async || {
            Ok(Probe::Ready(()))
        }));
    }
}
