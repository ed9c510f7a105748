//! One run of the plugin, as if a node of one release had started it.

use std::time::{Duration, Instant};

use cln_lab::{Error, IoContext, PluginHarness, PluginLog, Result, scaled};
use serde_json::Value;

use super::plan::Plan;
use super::release::Release;
use super::rpc::Socket;

/// How long a plugin may compute after messages: what it does after that is not
/// connected with them.
const BUSY: Duration = Duration::from_secs(1);

/// Texts with which a runtime reports that code of the plugin failed.
const FAILURES: [&str; 6] = [
    "panicked at",
    "Traceback (most recent call last)",
    "panic: ",
    "UnhandledPromiseRejection",
    "Uncaught ",
    "Segmentation fault",
];

/// The levels of `log` that every release knows.
const LEVELS: [&str; 6] = ["debug", "info", "unusual", "warn", "broken", "error"];

/// A running plugin.
#[derive(Debug)]
pub struct Session {
    /// Its pipes.
    pub plugin: PluginHarness,
    /// Where it finds the node.
    pub rpc: Socket,
    /// The topics that it may send.
    pub declared: Vec<String>,
    knows_trace: bool,
    /// How much of its standard error was looked at.
    looked_at: usize,
}

/// What shows that something went wrong, whatever was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It ended: how.
    Died(String),
    /// It wrote this to its standard output.
    Noise(String),
    /// It lives, but this was on its standard error, or in its log.
    Failed(String),
    /// An answer that nobody asked for.
    Stray(Value),
    /// Neither an answer nor a notification that lightningd accepts.
    Malformed(String),
    /// It sent a topic that its manifest does not announce.
    Undeclared(String),
}

impl Trouble {
    /// True if nothing more comes from the plugin.
    pub fn ends(&self) -> bool {
        matches!(self, Trouble::Died(_) | Trouble::Noise(_))
    }
}

impl Session {
    /// Starts the plugin; nothing is sent yet.
    ///
    /// # Errors
    /// If it cannot be run.
    pub async fn start(plan: &Plan, release: &Release) -> Result<Session> {
        let plugin = PluginHarness::builder(&plan.plugin)
            .release(release.corpus)
            .patience(plan.patience)
            .spawn()
            .await?;
        let dir = plugin.dir();
        let rpc = Socket::listen(&dir, release, &plan.answers).doing("listen in", &dir)?;
        Ok(Session {
            plugin,
            rpc,
            declared: Vec::new(),
            knows_trace: release.since(25, 5),
            looked_at: 0,
        })
    }

    /// Sends these messages in one piece.
    ///
    /// # Errors
    /// If it ends, or does not read them.
    pub async fn send<T: AsRef<str>>(&mut self, messages: &[T]) -> Result<()> {
        let mut bytes = String::new();
        for message in messages {
            bytes.push_str(message.as_ref());
            bytes.push_str("\n\n");
        }
        self.plugin.raw(bytes).await
    }

    /// Waits until it has read what was sent, and waits for more: also not for an answer
    /// from the RPC socket. False if what is left to read did not become less within
    /// `patience`.
    pub async fn settle(&mut self, patience: Duration) -> bool {
        let (mut left, mut since) = (usize::MAX, Instant::now());
        loop {
            let calls = self.rpc.calls();
            let idle = self.plugin.idle(BUSY).await;
            // What it had written before it slept is read now, and answered.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            match self.plugin.unread() {
                0 if !idle => return true,
                0 if self.rpc.calls() == calls && self.plugin.idle(Duration::ZERO).await => {
                    return true;
                }
                0 => {}
                now if now < left => (left, since) = (now, Instant::now()),
                _ if since.elapsed() > scaled(patience) => return false,
                _ if self.plugin.pid().is_none() => return true,
                _ => {}
            }
        }
    }

    /// What went wrong since the last look.
    pub async fn troubles(&mut self) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        let noise = self.plugin.noise();
        let gone = if noise.is_none() {
            self.plugin.gone().await
        } else {
            None
        };
        let logs = self.plugin.take_logs();
        let failed = self.failed(&logs);
        match (noise, gone) {
            (Some(noise), _) => troubles.push(Trouble::Noise(noise)),
            // How it ended has the end of its standard error.
            (None, Some(error)) => troubles.push(Trouble::Died(short(&error))),
            (None, None) => troubles.extend(failed.map(Trouble::Failed)),
        }
        let strays = self.plugin.take_strays();
        troubles.extend(strays.into_iter().map(Trouble::Stray));
        let malformed = self.plugin.take_malformed();
        troubles.extend(malformed.iter().map(|m| Trouble::Malformed(m.to_string())));
        let refused = logs.iter().filter(|log| !self.knows(&log.level));
        troubles.extend(refused.map(|log| {
            let (level, text) = (&log.level, &log.message);
            Trouble::Malformed(format!("a log line of level `{level}`: {text}"))
        }));
        let sent = self.plugin.take_notifications();
        let known = ["message", "progress"];
        troubles.extend(
            sent.into_iter()
                .map(|(topic, _)| topic)
                .filter(|topic| !known.contains(&&topic[..]) && !self.declared.contains(topic))
                .map(Trouble::Undeclared),
        );
        troubles
    }

    /// Takes what it reported of failures until now for part of what is known.
    pub fn forget_failures(&mut self) {
        let logs = self.plugin.take_logs();
        self.failed(&logs);
    }

    /// True for a level of `log` that this release accepts.
    fn knows(&self, level: &str) -> bool {
        LEVELS.contains(&level) || (level == "trace" && self.knows_trace)
    }

    /// The end of what it wrote to its standard error or its log since the last look, from
    /// where it reports a failure.
    fn failed(&mut self, logs: &[PluginLog]) -> Option<String> {
        let stderr = self.plugin.stderr();
        let new = stderr.get(self.looked_at..).unwrap_or_default().to_owned();
        self.looked_at = stderr.len();
        let logged: Vec<&str> = logs.iter().map(|log| &log.message[..]).collect();
        [new, logged.join("\n")].into_iter().find_map(|text| {
            let at = FAILURES.iter().filter_map(|sign| text.find(sign)).min()?;
            let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
            let lines: Vec<&str> = text[start..].lines().take(12).collect();
            Some(lines.join("\n"))
        })
    }
}

/// An error without what every one of them begins with.
pub fn short(error: &Error) -> String {
    match error {
        Error::Died { status, tail, .. } => format!("it ended: {status}{tail}"),
        Error::TimedOut {
            waited, last_seen, ..
        } => {
            let waited = format!("{:.1} s", waited.as_secs_f64());
            format!("{last_seen} within {waited}")
        }
        other => other.to_string(),
    }
}
