//! Children that do not outlive their parent.
//!
//! `PR_SET_PDEATHSIG` (prctl(2)) has the kernel send a child SIGKILL when the *thread*
//! that spawned it ends. An async runtime's threads and a test's do so long before their
//! process, so the lab's children are spawned by a thread that lasts.

use std::io::Result;
use std::process::{Child, Command};

/// Makes the kernel kill the command's process when the thread that spawns it ends, on
/// Linux. Elsewhere it does nothing.
pub fn end_with_this_thread(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let parent = nix::unistd::getpid();
        let set = move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // It may have ended just before.
            if nix::unistd::getppid() != parent {
                return Err(nix::errno::Errno::ESRCH.into());
            }
            Ok(())
        };
        // SAFETY: the closure allocates nothing and makes two system calls
        // (signal-safety(7)).
        unsafe { command.pre_exec(set) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}

/// Spawns a command whose process ends with this one, on Linux.
#[cfg(target_os = "linux")]
pub(super) fn spawn(mut command: Command) -> Result<Child> {
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, OnceLock};

    type Job = (Command, Sender<Result<Child>>);
    static JOBS: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let jobs = JOBS.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    end_with_this_thread(&mut command);
    let (answer, answered) = channel();
    let gone = |_| std::io::Error::other("the thread that spawns children has ended");
    crate::lock::lock(jobs)
        .send((command, answer))
        .map_err(std::io::Error::other)?;
    answered.recv().map_err(gone)?
}

/// Spawns a command.
#[cfg(not(target_os = "linux"))]
pub(super) fn spawn(mut command: Command) -> Result<Child> {
    command.spawn()
}
