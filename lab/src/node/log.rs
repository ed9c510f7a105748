//! A node's log.

use std::path::PathBuf;
use std::time::Duration;

use super::Node;
use crate::error::IoContext;
use crate::{Probe, Result, eventually};

/// A node's log file, read from its start: a line is found however early it came.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    from: usize,
}

impl Node {
    /// Its log, from the first line that was ever written.
    pub fn log(&self) -> Log {
        Log {
            path: self.log_path(),
            from: 0,
        }
    }
}

impl Log {
    /// The same log from its present end on.
    pub fn from_now(&self) -> Result<Log> {
        let from = self.bytes()?.len();
        Ok(Log {
            path: self.path.clone(),
            from,
        })
    }

    /// Every line that has `text` in it.
    pub fn lines_with(&self, text: &str) -> Result<Vec<String>> {
        let bytes = self.bytes()?;
        let bytes = bytes.get(self.from..).unwrap_or_default();
        let all = String::from_utf8_lossy(bytes);
        Ok(all
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect())
    }

    /// True if a line has `text` in it.
    pub fn contains(&self, text: &str) -> Result<bool> {
        Ok(!self.lines_with(text)?.is_empty())
    }

    /// Waits for a line that has `text` in it; the first one.
    pub async fn wait_for(&self, text: &str) -> Result<String> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let what = format!("`{text}` in {}", self.path.display());
        eventually(what, PATIENCE, async || {
            Ok(match self.lines_with(text)?.into_iter().next() {
                Some(line) => Probe::Ready(line),
                None => Probe::NotYet(match self.tail(1)?.pop() {
                    Some(last) => format!("no such line; the last one is: {last}"),
                    None => "an empty log".to_owned(),
                }),
            })
        })
        .await
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> Result<Vec<String>> {
        let lines = self.lines_with("")?;
        Ok(lines[lines.len().saturating_sub(count)..].to_vec())
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e).doing("read", &self.path),
        }
    }
}
