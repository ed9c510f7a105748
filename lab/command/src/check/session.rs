//! One run of the plugin, as if a node of one release had started it.

use std::fmt;
use std::time::{Duration, Instant};

use cln_lab::{Error, IoContext, PluginHarness, PluginLog, Result, scaled};
use serde_json::Value;

use super::plan::Plan;
use super::release::Release;
use super::rpc::Socket;

/// How long a plugin may compute after messages: what it does after that is not
/// connected with them.
const BUSY: Duration = Duration::from_secs(1);

/// A plugin that is sent many messages has its patience so many times.
const TURNS: usize = 3;

/// The first line of what Python says; the last is the exception.
const TRACEBACK: &str = "Traceback (most recent call last)";

/// Texts with which a runtime reports that code of the plugin failed.
const FAILURES: [&str; 7] = [
    "panicked at",
    TRACEBACK,
    // cln-plugin, in its log.
    "otification handler error: ",
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

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Died(text)
            | Trouble::Noise(text)
            | Trouble::Failed(text)
            | Trouble::Malformed(text)
            | Trouble::Undeclared(text) => f.write_str(text),
            Trouble::Stray(answer) => answer.fmt(f),
        }
    }
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
        let mut plugin = PluginHarness::builder(&plan.plugin)
            .release(release.corpus)
            .patience(plan.patience);
        for (name, value) in &plan.env {
            plugin = plugin.env(name, value);
        }
        let plugin = plugin.spawn().await?;
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

    /// Waits for an answer behind many messages as [`PluginHarness::response`] does, but
    /// [`TURNS`] times its patience: one that is slow at each may have read them all, and
    /// show nothing meanwhile.
    ///
    /// # Errors
    /// As [`PluginHarness::response`].
    pub async fn answered(&mut self, method: &str, id: &Value) -> Result<Value> {
        for _ in 1..TURNS {
            let answer = self.plugin.response(method, id).await;
            if !matches!(answer, Err(Error::TimedOut { .. })) {
                return answer;
            }
        }
        self.plugin.response(method, id).await
    }

    /// True if it still runs after this time.
    pub async fn stays(&self, within: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(5);
        let started = Instant::now();
        while self.plugin.pid().is_some() && started.elapsed() < scaled(within) {
            tokio::time::sleep(PAUSE).await;
        }
        self.plugin.pid().is_some()
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
            Some(excerpt(&text[start..]))
        })
    }
}

/// True for a line in which a runtime reports that code failed.
pub fn is_failure(line: &str) -> bool {
    FAILURES.iter().any(|sign| line.contains(sign))
}

/// The first lines of a report of a failure; of a traceback its start and its end.
fn excerpt(report: &str) -> String {
    const SHOWN: usize = 12;
    let lines: Vec<&str> = report.lines().collect();
    if !lines[0].contains(TRACEBACK) {
        return lines[..lines.len().min(SHOWN)].join("\n");
    }
    let inside = |line: &&&str| line.is_empty() || line.starts_with(char::is_whitespace);
    let end = lines[1..].iter().take_while(inside).count() + 2;
    let traceback = &lines[..end.min(lines.len())];
    if traceback.len() <= SHOWN {
        return traceback.join("\n");
    }
    let (start, end) = (&traceback[..3], &traceback[traceback.len() - SHOWN + 4..]);
    format!("{}\n  …\n{}", start.join("\n"), end.join("\n"))
}

/// A report of a failure in a line: of a traceback the exception, of a panic its message.
pub fn headline(report: &str) -> &str {
    let mut lines = report.lines();
    let first = lines.next().unwrap_or_default();
    let line = match first {
        _ if first.contains(TRACEBACK) => lines.next_back(),
        _ if first.contains("panicked at") && first.ends_with(':') => lines.next(),
        _ => None,
    };
    line.unwrap_or(first)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_traceback_the_exception_is_shown() {
        let frames = "  File \"x.py\", line 1, in f\n    f()\n".repeat(20);
        let text = format!("{TRACEBACK}:\n{frames}KeyError: 'id'\nmore");
        let shown = excerpt(&text);
        assert_eq!(shown.lines().count(), 12);
        assert!(shown.starts_with(TRACEBACK) && shown.contains("  …\n"));
        assert_eq!(headline(&shown), "KeyError: 'id'");
        let panic = "thread 'main' panicked at src/main.rs:1:1:\nno";
        assert_eq!(excerpt(panic), panic);
        assert_eq!(headline(panic), "no");
        assert_eq!(excerpt(TRACEBACK), TRACEBACK);
    }
}
