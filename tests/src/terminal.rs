//! A program in a pseudo terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

/// A program that runs in a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    said: String,
}

impl Terminal {
    /// Runs it.
    pub fn spawn(mut command: Command) -> anyhow::Result<Terminal> {
        let terminal = nix::pty::openpty(None, None)?;
        let slave = File::from(terminal.slave);
        command
            .env("TERM", "dumb")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        Ok(Terminal {
            child: command.spawn()?,
            master: File::from(terminal.master),
            said: String::new(),
        })
    }

    /// Waits until it prints this; what it printed before that, since the last wait.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(at) = self.said.find(text) {
                let rest = self.said.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.said, rest));
            }
            let read = self.master.read(&mut buffer);
            let count = read.with_context(|| format!("no `{text}`: {}", self.said))?;
            ensure!(count > 0, "no `{text}`: {}", self.said);
            self.said
                .push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Types this.
    pub fn write(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.master.write_all(text.as_bytes())?)
    }

    /// Sends it the signal of Ctrl-C, and waits for its end.
    pub fn interrupt(self) -> anyhow::Result<ExitStatus> {
        Ok(self.end_by(Signal::SIGINT)?.0)
    }

    /// Sends it this signal, and waits for its end: also whether the terminal shows what
    /// is typed, as it did before.
    pub fn end_by(mut self, signal: Signal) -> anyhow::Result<(ExitStatus, bool)> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal)?;
        let status = self.child.wait()?;
        // Of both ends it is the same.
        let mode = tcgetattr(&self.master)?.local_flags;
        Ok((status, mode.contains(LocalFlags::ECHO | LocalFlags::ICANON)))
    }

    /// Waits for its end, which must be a good one.
    pub fn end(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}: {}", self.said);
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
