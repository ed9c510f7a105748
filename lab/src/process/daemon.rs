//! A child process that serves: bitcoind, lightningd or the embedded node.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::IoContext;
use crate::process::child::Child;
use crate::process::files::last_lines;
use crate::process::reaper::Reaper;
use crate::trace::{Entry, Kind, Recorder};
use crate::wait::poll;
use crate::{Error, Probe, Result, eventually};

/// How long a daemon may take to end on SIGTERM, and then on SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// How long what a daemon started may run after its end: a plugin sees the end of its
/// input, and may have something to write.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// A running child process with its own process group, whose standard output
/// and error go to a file, and which does not outlive the lab.
///
/// Dropping it kills the whole group and waits for its end.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    command: String,
    child: Child,
    output: PathBuf,
    log: Option<PathBuf>,
    trace: Recorder,
    /// Its end is in the trace.
    ended: bool,
    /// The lab kills it.
    killed: bool,
}

impl Daemon {
    /// Starts `command` under `name` with its output appended to `output`.
    ///
    /// `log` is the daemon's own log file, of which errors quote the end; `version` says
    /// in the trace what it is.
    ///
    /// # Errors
    /// If the program cannot be run.
    pub(crate) fn spawn(
        name: &str,
        mut command: Command,
        output: &Path,
        log: Option<&Path>,
        reaper: &Arc<Reaper>,
        trace: &Recorder,
        version: &str,
    ) -> Result<Daemon> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(output)
            .doing("open", output)?;
        let second = file.try_clone().doing("open", output)?;
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        let line = command_line(&command);
        let program = command.get_program().to_owned();
        let child = Child::spawn(command, reaper).doing("run", program)?;
        tracing::debug!(name, pid = child.id(), command = line, "started");
        let started = Entry::new(Kind::Start, "lab").to(name).name(version);
        let pid = format!("{{\"pid\":{}}}", child.id());
        trace.append(started.text(line.as_str()).json(&pid));
        Ok(Daemon {
            name: name.to_owned(),
            command: line,
            child,
            output: output.to_owned(),
            log: log.map(Path::to_owned),
            trace: trace.clone(),
            ended: false,
            killed: false,
        })
    }

    /// The process id, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status; `None` while it runs.
    pub fn status(&mut self) -> Option<ExitStatus> {
        let status = self.child.status();
        if let (Some(status), false) = (status, self.ended) {
            self.ended = true;
            let ended = Entry::new(Kind::End, self.name.as_str()).text(status.to_string());
            let bad = !self.killed && !ended_well(status);
            self.trace.append(ended.bad(bad));
        }
        status
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
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        eventually(what, within, async || {
            Ok(match self.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet("still running".to_owned()),
            })
        })
        .await
    }

    /// Waits for it to end, as it was asked to; if it does not, sends SIGTERM, and then
    /// SIGKILL. What it started may finish; what does not is killed. Returns its exit
    /// status, once nothing of its process group is left.
    ///
    /// # Errors
    /// If anything of the group is still there after SIGKILL.
    pub(crate) async fn finish(mut self, patience: Duration) -> Result<ExitStatus> {
        let status = match self.wait(patience).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(name = self.name, "still running: sending SIGTERM");
                self.child.signal(Signal::SIGTERM);
                match self.wait(GRACE).await {
                    Ok(status) => status,
                    Err(_) => {
                        tracing::warn!(name = self.name, "still running: sending SIGKILL");
                        self.killed = true;
                        self.child.signal_group(Signal::SIGKILL);
                        self.wait(GRACE).await?
                    }
                }
            }
        };
        if self.group_ended(AFTERWARDS).await.is_err() {
            self.child.signal_group(Signal::SIGKILL);
            self.group_ended(GRACE).await?;
        }
        self.child.release();
        Ok(status)
    }

    /// Kills it and everything it started, as a power cut would.
    pub(crate) async fn kill(mut self) -> Result<ExitStatus> {
        self.killed = true;
        self.child.signal_group(Signal::SIGKILL);
        let status = self.wait(GRACE).await?;
        self.group_ended(GRACE).await?;
        self.child.release();
        Ok(status)
    }

    /// Waits until nothing that it started runs.
    async fn group_ended(&self, within: Duration) -> Result<()> {
        let what = format!("every process that {} started to end", self.name);
        poll(what, within, async || {
            if !self.child.group_alive() {
                return Ok(Probe::Ready(()));
            }
            Ok(Probe::NotYet(format!(
                "process group {} still has members",
                self.pid()
            )))
        })
        .await
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What is left of it is killed next.
        if !self.ended && self.status().is_none() {
            let killed = Entry::new(Kind::End, self.name.as_str());
            self.trace.append(killed.text("killed by the lab"));
        }
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
