//! A node's log.

use std::path::PathBuf;

use super::Node;
use crate::error::IoContext;
use crate::{Follower, PATIENCE, Probe, Result, eventually};

/// A node's log file, read from its start, so that a line is found however early it
/// was written.
#[derive(Debug, Clone)]
pub struct Log {
    path: PathBuf,
    /// In bytes.
    from: u64,
}

impl Node {
    /// Its log, from the first line.
    pub fn log(&self) -> Log {
        Log::at(self.log_path())
    }
}

impl Log {
    /// The file at this path, from the first line.
    pub(crate) fn at(path: PathBuf) -> Log {
        Log { path, from: 0 }
    }

    /// The same log from its present end on.
    pub fn from_now(&self) -> Result<Log> {
        let path = self.path.clone();
        let from = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e).doing("look at", &path),
        };
        Ok(Log { path, from })
    }

    /// All lines that contain `text`, also a last one without an end.
    ///
    /// # Errors
    /// If the file cannot be read; one that does not exist is empty.
    pub fn lines_with(&self, text: &str) -> Result<Vec<String>> {
        let mut log = self.follow();
        let mut lines = log.lines()?;
        lines.extend(log.rest());
        lines.retain(|line| line.contains(text));
        Ok(lines)
    }

    /// True if a line contains `text`.
    pub fn contains(&self, text: &str) -> Result<bool> {
        Ok(!self.lines_with(text)?.is_empty())
    }

    /// Waits for the first line that contains `text`.
    ///
    /// # Errors
    /// [`Error::TimedOut`](crate::Error::TimedOut) after [`PATIENCE`].
    pub async fn wait_for(&self, text: &str) -> Result<String> {
        let what = format!("`{text}` in {}", self.path.display());
        let mut log = self.follow();
        let mut last = "an empty log".to_owned();
        eventually(what, PATIENCE, async || {
            for line in log.lines()? {
                if line.contains(text) {
                    return Ok(Probe::Ready(line));
                }
                last = format!("no such line; the last one is: {line}");
            }
            Ok(Probe::NotYet(last.clone()))
        })
        .await
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> Result<Vec<String>> {
        let lines = self.lines_with("")?;
        Ok(lines[lines.len().saturating_sub(count)..].to_vec())
    }

    fn follow(&self) -> Follower {
        Follower::from_offset(&self.path, self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_without_an_end_is_a_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("log");
        std::fs::write(&path, "one\ntwo").expect("write");
        let log = Log { path, from: 0 };
        assert_eq!(log.tail(1).expect("read"), ["two"]);
        assert!(log.contains("two").expect("read"));
    }
}
