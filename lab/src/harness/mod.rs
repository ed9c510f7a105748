//! A plugin without a node: the test speaks lightningd's side of the protocol.

mod builder;
mod received;
mod requests;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use builder::HarnessBuilder;
pub use received::PluginLog;

use received::Received;

use crate::corpus::Corpus;
use crate::lab::folder::Folder;
use crate::lock::lock;
use crate::node::NETWORK;
use crate::process::child::Child;
use crate::process::listing::{is_alive, is_asleep};
use crate::wait::{poll, remember};
use crate::{Error, Probe, Result, eventually, scaled};

/// How long what follows from an end may take.
const MOMENT: Duration = Duration::from_secs(1);

/// A running plugin with the test in place of lightningd, on its standard input and
/// output, with no node and no bitcoind. A test takes milliseconds, and can send what
/// lightningd never would.
///
/// ```no_run
/// # async fn test() -> cln_lab::Result<()> {
/// use cln_lab::PluginHarness;
/// use serde_json::json;
///
/// let mut plugin = PluginHarness::spawn("target/debug/eventlog").await?;
/// let manifest = plugin.manifest().await?;
/// assert_eq!(manifest["dynamic"], true);
/// plugin.init(json!({"eventlog-format": "text"})).await?;
/// plugin.notify("disconnect", json!({"id": "02aa"})).await?;
/// let status = plugin.close().await?;
/// assert!(status.success());
/// # Ok(()) }
/// ```
///
/// It accepts what lightningd accepts. What no [`Value`] can hold, such as `1e400` or
/// `"\ud800"`, is a string in an answer, as it is written.
///
/// Every error quotes the end of the plugin's standard error. Dropping the harness
/// kills the plugin.
#[derive(Debug)]
pub struct PluginHarness {
    child: Child,
    command: String,
    stdin: Option<ChildStdin>,
    received: Arc<Mutex<Received>>,
    /// Something was received since the last look.
    news: Arc<Notify>,
    readers: [JoinHandle<()>; 2],
    folder: Folder,
    next_id: u64,
    manifest: Option<Value>,
    patience: Duration,
    release: Option<&'static Corpus>,
}

impl PluginHarness {
    /// Writes exactly these bytes to its standard input: half a message, two at once,
    /// or no JSON at all.
    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err(Error::usage(format!(
                "{}: its input is closed",
                self.command
            )));
        };
        let started = Instant::now();
        match timeout_at(
            started + scaled(self.patience),
            stdin.write_all(bytes.as_ref()),
        )
        .await
        {
            Ok(Ok(())) => Ok(()),
            // It has closed its input: most likely it has ended.
            Ok(Err(_)) => Err(self.ended("it no longer reads its input").await),
            Err(_) => Err(self.timed_out("the plugin to read its input", started)),
        }
    }

    /// How many bytes of what was sent it has not read.
    pub fn unread(&self) -> usize {
        self.stdin.as_ref().map_or(0, unread)
    }

    /// Closes its standard input, as lightningd does when it ends; the plugin should then
    /// end, too: [`PluginHarness::wait_exit`].
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has read all that was sent and sleeps, with the processes it
    /// started: until it waits for more. False if that does not come `within` this time,
    /// as with one that always computes, and where there is no `/proc`.
    pub async fn idle(&mut self, within: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(1);
        let deadline = Instant::now() + scaled(within);
        loop {
            if self.unread() == 0 && is_asleep(self.child.id()) {
                // What it wrote before it slept is read before this returns.
                tokio::task::yield_now().await;
                return true;
            }
            if Instant::now() >= deadline || self.child.status().is_some() {
                return false;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Why nothing more can come from it: the error of a call that would be made now.
    /// `None` while it runs and its output is open.
    pub async fn gone(&mut self) -> Option<Error> {
        let ended = lock(&self.received).ended.clone()?;
        Some(self.ended(&ended).await)
    }

    /// Closes its standard input, as lightningd does when it ends, and waits for the
    /// plugin to end; its exit status. What is left of its process group is killed.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not end; it is killed then.
    pub async fn close(mut self) -> Result<ExitStatus> {
        self.close_input();
        self.wait_exit().await
    }

    /// Waits for it to end on its own; its exit status.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it does not.
    pub async fn wait_exit(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.command);
        let patience = self.patience;
        let ended = eventually(what, patience, async || {
            Ok(match self.child.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet(format!("still running{}", self.recent_output())),
            })
        })
        .await;
        if ended.is_ok() {
            self.child.signal_group(Signal::SIGKILL);
            self.read_to_end().await;
        }
        ended
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        Some(self.child.id()).filter(|pid| is_alive(*pid))
    }

    /// The folder it runs in, also its `lightning-dir`: the network directory, where
    /// its relative paths lead.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join(NETWORK)
    }

    /// Waits until `find` finds something, or nothing can come any more.
    async fn wait<T>(&mut self, what: &str, find: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait_within(self.patience, what, find).await
    }

    async fn wait_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut find: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let deadline = started + scaled(patience);
        loop {
            // In this order: what was sent before the end is found.
            let ended = lock(&self.received).ended.clone();
            if let Some(found) = find() {
                return Ok(found);
            }
            if let Some(why) = ended {
                return Err(self.ended(&why).await);
            }
            if timeout_at(deadline, self.news.notified()).await.is_err() {
                return Err(self.timed_out(what, started));
            }
        }
    }

    fn timed_out(&self, what: &str, started: Instant) -> Error {
        let error = Error::TimedOut {
            what: format!("{what} from {}", self.command),
            waited: Duration::from_millis(started.elapsed().as_millis() as u64),
            last_seen: format!("nothing{}", self.recent_output()),
        };
        remember(&error);
        error
    }

    /// The error for a plugin from which nothing more comes.
    async fn ended(&mut self, why: &str) -> Error {
        // It may be about to end, and its standard error to say why.
        if lock(&self.received).noise.is_some() {
            // It may well run on, so until it sleeps, and what it wrote is here.
            self.idle(MOMENT).await;
            let stderr = &mut self.readers[1];
            if !stderr.is_finished() {
                let _ = tokio::time::timeout(MOMENT / 20, stderr).await;
            }
            return Error::Answer {
                from: self.command.clone(),
                why: format!("{why}{}", self.recent_output()),
            };
        }
        let status = poll("its end", MOMENT, async || {
            Ok(match self.child.status() {
                Some(status) => Probe::Ready(status),
                None => Probe::NotYet("still running".to_owned()),
            })
        })
        .await;
        self.read_to_end().await;
        match status {
            Ok(status) => Error::Died {
                name: "the plugin".to_owned(),
                command: self.command.clone(),
                status,
                tail: format!("\n  {why}{}", self.recent_output()),
            },
            _ => Error::Answer {
                from: self.command.clone(),
                why: format!("{why}{}", self.recent_output()),
            },
        }
    }

    /// Reads what it still wrote before it ended.
    async fn read_to_end(&mut self) {
        for reader in &mut self.readers {
            if !reader.is_finished() {
                let _ = tokio::time::timeout(MOMENT, reader).await;
            }
        }
    }

    /// The end of its log and of its standard error, for errors.
    fn recent_output(&self) -> String {
        const SHOWN: usize = 10;
        let received = lock(&self.received);
        let mut text = String::new();
        let mut show = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("\n  its {title}:"));
                for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                    text.push_str(&format!("\n    {line}"));
                }
            }
        };
        let logs = received.logs.iter();
        show(
            "log",
            logs.map(|l| format!("{} {}", l.level, l.message)).collect(),
        );
        let stderr = String::from_utf8_lossy(&received.stderr);
        show(
            "standard error",
            stderr.lines().map(str::to_owned).collect(),
        );
        text
    }
}

/// How many bytes of a plugin's input it has not read.
fn unread(stdin: &ChildStdin) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: nix::libc::c_int = 0;
    // SAFETY: it writes one int; the descriptor is open. An error leaves 0.
    unsafe { nix::libc::ioctl(stdin.as_raw_fd(), nix::libc::FIONREAD, &mut bytes) };
    usize::try_from(bytes).unwrap_or(0)
}
