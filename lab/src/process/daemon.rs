//! A child process that serves: bitcoind, lightningd or the embedded node.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::error::IoContext;
use crate::process::files::last_lines;
use crate::process::listing::only_zombies;
use crate::process::reaper::Reaper;
use crate::{Error, Probe, Result, eventually};

/// How long a daemon may take to end on SIGTERM, and then on SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// A running child process with its own process group, whose standard output
/// and error go to a file, and which does not outlive the lab.
///
/// Dropping it kills the whole group and waits for its end.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    command: String,
    child: Child,
    pid: u32,
    status: Option<ExitStatus>,
    output: PathBuf,
    log: Option<PathBuf>,
    reaper: Arc<Reaper>,
}

impl Daemon {
    /// Starts `command` under `name` with its output appended to `output`.
    ///
    /// `log` is the daemon's own log file, of which errors quote the end.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub(crate) fn spawn(
        name: &str,
        mut command: Command,
        output: &Path,
        log: Option<&Path>,
        reaper: &Arc<Reaper>,
    ) -> Result<Daemon> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(output)
            .doing("open", output)?;
        let second = file.try_clone().doing("open", output)?;
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        reaper.watch(&mut command);
        let line = command_line(&command);
        let child = command.spawn().doing("run", command.get_program())?;
        tracing::debug!(name, pid = child.id(), command = line, "started");
        Ok(Daemon {
            name: name.to_owned(),
            command: line,
            pid: child.id(),
            child,
            status: None,
            output: output.to_owned(),
            log: log.map(Path::to_owned),
            reaper: Arc::clone(reaper),
        })
    }

    /// The process id, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its exit status; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            match self.child.try_wait() {
                Ok(status) => self.status = status,
                Err(error) => tracing::warn!(name = self.name, %error, "cannot ask for the status"),
            }
        }
        self.status
    }

    /// An error if it has ended, with the ends of its output and log.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.status() {
            None => Ok(()),
            Some(status) => Err(Error::Died {
                name: self.name.clone(),
                command: self.command.clone(),
                status,
                tail: self.tail(),
            }),
        }
    }

    /// The ends of its output and log, each under its file's name.
    pub(crate) fn tail(&self) -> String {
        let mut text = String::new();
        for path in [Some(&self.output), self.log.as_ref()]
            .into_iter()
            .flatten()
        {
            let lines = last_lines(path, 20);
            if !lines.is_empty() {
                let lines = lines.join("\n    ");
                text.push_str(&format!("\n  {}:\n    {lines}", path.display()));
            }
        }
        text
    }

    /// Waits for it to end on its own.
    pub(crate) async fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} (pid {}) to end", self.name, self.pid);
        eventually(what, within, async || {
            Ok(match self.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet("still running".to_owned()),
            })
        })
        .await
    }

    /// Waits for it to end, as it was asked to; if it does not, sends SIGTERM, and then
    /// SIGKILL. Returns its exit status, once nothing of its process group is left.
    ///
    /// # Errors
    /// If anything of the group is still there after SIGKILL.
    pub(crate) async fn finish(mut self, patience: Duration) -> Result<ExitStatus> {
        let status = match self.wait(patience).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(name = self.name, "still running: sending SIGTERM");
                self.signal(Signal::SIGTERM);
                match self.wait(GRACE).await {
                    Ok(status) => status,
                    Err(_) => {
                        tracing::warn!(name = self.name, "still running: sending SIGKILL");
                        self.signal_group(Signal::SIGKILL);
                        self.wait(GRACE).await?
                    }
                }
            }
        };
        self.end_group().await?;
        Ok(status)
    }

    /// Kills it and everything it started, as a power cut would.
    pub(crate) async fn kill(mut self) -> Result<ExitStatus> {
        self.signal_group(Signal::SIGKILL);
        let status = self.wait(GRACE).await?;
        self.end_group().await?;
        Ok(status)
    }

    /// Sends `signal` to the process alone.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill(self.pgid(), signal);
        }
    }

    /// Ends what the leader started and left behind.
    async fn end_group(&mut self) -> Result<()> {
        let what = format!("every process that {} started to end", self.name);
        let mut looks = 0;
        eventually(what, GRACE, async || {
            looks += 1;
            if !self.group_alive() {
                return Ok(Probe::Ready(()));
            }
            // Plugins see the end of their input and end on their own; those that do
            // not are killed.
            if looks > 20 {
                self.signal_group(Signal::SIGKILL);
            }
            Ok(Probe::NotYet(format!(
                "process group {} still has members",
                self.pid
            )))
        })
        .await?;
        self.reaper.forget(self.pid);
        Ok(())
    }

    fn group_alive(&self) -> bool {
        killpg(self.pgid(), None) != Err(Errno::ESRCH) && !only_zombies(self.pid)
    }

    fn signal_group(&self, signal: Signal) {
        let _ = killpg(self.pgid(), signal);
    }

    fn pgid(&self) -> Pid {
        Pid::from_raw(self.pid as i32)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.status().is_none() {
            self.signal_group(Signal::SIGKILL);
            self.status = self.child.wait().ok();
        }
        // Members that outlived the leader; as long as there are any, no other group can
        // have this number.
        if self.group_alive() {
            self.signal_group(Signal::SIGKILL);
        }
        self.reaper.forget(self.pid);
    }
}

/// A clean end: status 0, or the signal that the lab itself sends.
pub(crate) fn ended_well(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::SIGTERM as i32)
}

/// A command as a person would type it.
pub fn command_line(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `word`, in single quotes if a shell would change it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
