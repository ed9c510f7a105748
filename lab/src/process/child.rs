//! One child process of a lab, from its start until its number is given back.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::lasting;
use super::listing::only_zombies;
use super::reaper::Reaper;

/// A child process, the leader of its own process group.
///
/// Its status is looked at without being collected: until [`Child::release`] it
/// stays a zombie, so that neither its number nor its group's can be given to
/// another process, and every signal reaches what it is meant for. Dropping it kills
/// the group.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its pipes, where it has some, are taken from here.
    pub process: std::process::Child,
    status: Option<ExitStatus>,
    released: bool,
    reaper: Arc<Reaper>,
}

impl Child {
    /// Starts `command` as one of the lab's processes.
    ///
    /// # Errors
    /// If it cannot be run, or the lab's reaper was killed.
    pub fn spawn(mut command: Command, reaper: &Arc<Reaper>) -> std::io::Result<Child> {
        reaper.watch(&mut command);
        let spawned = lasting::spawn(command);
        Ok(Child {
            process: spawned.map_err(|error| reaper.check_alive().err().unwrap_or(error))?,
            status: None,
            released: false,
            reaper: Arc::clone(reaper),
        })
    }

    /// Its process id, which is also its group's.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.id() as i32)
    }

    /// How it ended; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = match self.look() {
                Ok(status) => exit_status(status),
                Err(error) => {
                    // Another part of this program waited for it.
                    tracing::warn!(pid = self.id(), %error, "its exit status is lost");
                    self.give_back();
                    Some(ExitStatus::from_raw(0))
                }
            };
        }
        self.status
    }

    #[cfg(target_os = "linux")]
    fn look(&mut self) -> nix::Result<WaitStatus> {
        use nix::sys::wait::{Id, waitid};
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), flags)
    }

    /// Here a look collects it: the group counts as gone unless it has members now.
    #[cfg(not(target_os = "linux"))]
    fn look(&mut self) -> nix::Result<WaitStatus> {
        let status = waitpid(self.pid(), Some(WaitPidFlag::WNOHANG))?;
        if exit_status(status).is_some() && killpg(self.pid(), None) == Err(Errno::ESRCH) {
            self.give_back();
        }
        Ok(status)
    }

    /// Sends `signal` to it alone, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            let _ = kill(self.pid(), signal);
        }
    }

    /// Sends `signal` to every process of its group.
    pub fn signal_group(&self, signal: Signal) {
        if !self.released {
            let _ = killpg(self.pid(), signal);
        }
    }

    /// True if a process of its group runs.
    pub fn group_alive(&self) -> bool {
        let there = || killpg(self.pid(), None) != Err(Errno::ESRCH);
        !self.released && there() && !only_zombies(self.id())
    }

    /// Gives its number back, once it has ended and nothing of its group runs.
    pub fn release(&mut self) {
        if self.released {
            return;
        }
        self.give_back();
        let status = waitpid(self.pid(), None).ok().and_then(exit_status);
        self.status = self.status.or(status);
    }

    fn give_back(&mut self) {
        self.released = true;
        self.reaper.forget(self.id());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal_group(Signal::SIGKILL);
        self.release();
    }
}

fn exit_status(status: WaitStatus) -> Option<ExitStatus> {
    match status {
        WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
        WaitStatus::Signaled(_, signal, core) => {
            Some(ExitStatus::from_raw(signal as i32 | i32::from(core) << 7))
        }
        _ => None,
    }
}
