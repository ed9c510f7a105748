//! Two threads that take turns: one leads, the other stands by.
//!
//! The thread that has read a few notifications writes them itself, at once: to
//! wake another one for it takes longer than all the rest. But a write may take
//! any time (a disk that hangs), and stdin must be read meanwhile. So when it
//! lasts, the thread that stands by takes over the lead; the first, once its write
//! has returned, stands by in its turn.

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::lock::lock;

/// How often the thread that stands by looks. Work that it sees twice lasts.
const LOOK: Duration = Duration::from_millis(50);

/// After this many looks at nothing new it sleeps until there is something.
const LOOKS: u32 = 20;

/// Starts both threads. The leading one calls `take`, which waits for something,
/// then `work`, which may last, and so on until `take` returns `Break`.
/// No two threads are in `take` at once; in `work` they can be.
///
/// # Errors
/// The threads cannot be started.
pub fn run<T, W>(take: T, work: W) -> io::Result<()>
where
    T: FnMut() -> ControlFlow<()> + Send + 'static,
    W: Fn() + Send + Sync + 'static,
{
    let pair = Arc::new(Pair {
        take: Mutex::new(take),
        work,
        turn: AtomicU64::new(0),
        asleep: AtomicBool::new(false),
        ended: AtomicBool::new(false),
        standby: Mutex::new(None),
    });
    let second = pair.clone();
    thread::Builder::new()
        .name("standby".to_owned())
        .spawn(move || second.run(false))?;
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || pair.run(true))?;
    Ok(())
}

struct Pair<T, W> {
    take: Mutex<T>,
    work: W,
    /// Odd while the leader is at work. It only grows, and the thread that ends a
    /// piece of work by making it even is the leader from then on.
    turn: AtomicU64,
    asleep: AtomicBool,
    ended: AtomicBool,
    standby: Mutex<Option<Thread>>,
}

impl<T: FnMut() -> ControlFlow<()>, W: Fn()> Pair<T, W> {
    fn run(&self, mut leads: bool) {
        loop {
            let then = if leads { self.lead() } else { self.stand_by() };
            if then.is_break() {
                return;
            }
            leads = !leads;
        }
    }

    /// Until the other one takes over, or there is nothing more to take.
    fn lead(&self) -> ControlFlow<()> {
        loop {
            let taken = lock(&self.take)();
            if taken.is_break() {
                self.ended.store(true, SeqCst);
                self.wake();
                return taken;
            }
            let turn = self.turn.fetch_add(1, SeqCst) + 1;
            if self.asleep.swap(false, SeqCst) {
                self.wake();
            }
            // The hook has logged what and where.
            let _ = catch_unwind(AssertUnwindSafe(&self.work));
            if !self.end_of(turn) {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Until the other one's work lasts, or there is nothing more to take.
    fn stand_by(&self) -> ControlFlow<()> {
        *lock(&self.standby) = Some(thread::current());
        let mut seen = self.turn.load(SeqCst);
        let mut looks = 0;
        while !self.ended.load(SeqCst) {
            if looks < LOOKS {
                thread::park_timeout(LOOK);
            } else {
                self.asleep.store(true, SeqCst);
                // A leader that adds a turn after this sees the sleep.
                if self.turn.load(SeqCst) == seen && !self.ended.load(SeqCst) {
                    thread::park();
                }
                self.asleep.store(false, SeqCst);
                looks = 0;
            }
            let turn = self.turn.load(SeqCst);
            if turn != seen {
                seen = turn;
                looks = 0;
            } else if turn % 2 == 1 && self.end_of(turn) {
                return ControlFlow::Continue(());
            } else {
                looks += 1;
            }
        }
        ControlFlow::Break(())
    }

    /// Ends the work of this turn; false if the other thread did.
    fn end_of(&self, turn: u64) -> bool {
        self.turn
            .compare_exchange(turn, turn + 1, SeqCst, SeqCst)
            .is_ok()
    }

    fn wake(&self) {
        if let Some(standby) = &*lock(&self.standby) {
            standby.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_taken_is_worked_on_in_order() {
        let (give, taken) = mpsc::channel();
        let (done, worked) = mpsc::channel();
        let last = Arc::new(AtomicU64::new(0));
        let now = last.clone();
        run(
            move || match taken.recv() {
                Ok(n) => {
                    last.store(n, SeqCst);
                    ControlFlow::Continue(())
                }
                Err(_) => ControlFlow::Break(()),
            },
            move || done.send(now.load(SeqCst)).unwrap(),
        )
        .unwrap();
        for n in 1..=1000 {
            give.send(n).unwrap();
            assert_eq!(worked.recv().unwrap(), n);
        }
        drop(give);
        // Both threads end, and let go of what they hold.
        assert_eq!(worked.recv(), Err(mpsc::RecvError));
    }

    #[test]
    fn work_that_lasts_or_panics_does_not_stop_the_taking() {
        let (give, taken) = mpsc::channel();
        let (send, taken_now) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let number = Arc::new(AtomicU64::new(0));
        let now = number.clone();
        run(
            move || match taken.recv() {
                Ok(n) => {
                    number.store(n, SeqCst);
                    send.send(n).unwrap();
                    ControlFlow::Continue(())
                }
                Err(_) => ControlFlow::Break(()),
            },
            move || match now.load(SeqCst) {
                1 | 4 => held.lock().unwrap().recv().unwrap(),
                2 => panic!("a test's own"),
                _ => {}
            },
        )
        .unwrap();
        let started = Instant::now();
        for n in 1..=3 {
            give.send(n).unwrap();
            assert_eq!(taken_now.recv().unwrap(), n);
        }
        assert!(started.elapsed() >= LOOK, "nobody took over");
        // The first one is back, stands by, and takes over in its turn.
        release.send(()).unwrap();
        for n in 4..=6 {
            give.send(n).unwrap();
            assert_eq!(taken_now.recv().unwrap(), n);
        }
        release.send(()).unwrap();
        drop(give);
        assert_eq!(taken_now.recv(), Err(mpsc::RecvError));
    }
}
