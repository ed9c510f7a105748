//! `--daemon`: the node continues in the background once it is up.

use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Read, Write};

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Which process this is after the fork.
pub enum Side {
    /// The one that was called: what it exits with.
    Caller(u8),
    /// The node.
    Node(Background),
}

/// The node's side, while its caller waits.
pub struct Background(PipeWriter);

/// Forks. The child leads a session of its own; the caller waits until it is up, or
/// has ended. Call it before any thread or runtime exists.
///
/// # Errors
/// The operating system's.
pub fn fork_off() -> io::Result<Side> {
    let (mut up, ready) = io::pipe()?;
    // SAFETY: called from `main` before the runtime: there is one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(ready);
            if up.read(&mut [0])? > 0 {
                return Ok(Side::Caller(0));
            }
            Ok(Side::Caller(match waitpid(child, None)? {
                WaitStatus::Exited(_, code) => u8::try_from(code).unwrap_or(1),
                _ => 1,
            }))
        }
        ForkResult::Child => {
            setsid()?;
            Ok(Side::Node(Background(ready)))
        }
    }
}

impl Background {
    /// The node is up: its input and outputs are `/dev/null` from here on, and the
    /// caller returns.
    pub fn up(mut self) -> io::Result<()> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        // An error: nobody waits any more.
        let _ = self.0.write_all(b".");
        Ok(())
    }
}
