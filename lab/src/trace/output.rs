//! Writes down what daemons and their plugins print, when they print it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Entry, Kind, Recorder};
use crate::error::IoContext;
use crate::lock::lock;
use crate::{Follower, Result};

/// How often to look: a line's time is at most so much later than the line.
const LOOK: Duration = Duration::from_millis(50);
/// More from one daemon, in bytes, is not written down.
const MOST: usize = 1 << 20;
/// A longer line, in characters, is cut.
const LONGEST: usize = 4096;
/// The name of the entry that says that there is more.
pub(super) const MORE: &str = "more";

/// Watches the files to which a lab's daemons print, which their plugins share: no line
/// in them has a time, and lightningd keeps none of them in its log.
#[derive(Debug, Default)]
pub(crate) struct OutputWatch {
    /// Set, and notified, at the end.
    end: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl OutputWatch {
    /// Watches those of the lab in this folder, if it has a trace.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub fn start(dir: &Path, trace: &Recorder) -> Result<OutputWatch> {
        let mut watch = OutputWatch::default();
        if !trace.is_on() {
            return Ok(watch);
        }
        let end = Arc::clone(&watch.end);
        let mut outputs = Outputs {
            dir: dir.to_owned(),
            trace: trace.clone(),
            files: HashMap::new(),
        };
        let look = move || {
            let mut ended = lock(&end.0);
            while !*ended {
                let waited = end.1.wait_timeout(ended, LOOK);
                ended = waited.unwrap_or_else(PoisonError::into_inner).0;
                outputs.look(*ended);
            }
        };
        let thread = std::thread::Builder::new().name("lab output".to_owned());
        watch.thread = Some(thread.spawn(look).doing("watch", dir)?);
        Ok(watch)
    }
}

impl Drop for OutputWatch {
    fn drop(&mut self) {
        *lock(&self.end.0) = true;
        self.end.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Outputs {
    dir: PathBuf,
    trace: Recorder,
    files: HashMap<PathBuf, Output>,
}

struct Output {
    lines: Follower,
    /// Its length when it was last looked at.
    length: u64,
    written: usize,
}

impl Outputs {
    fn look(&mut self, last: bool) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path().join("output");
            let Ok(metadata) = path.metadata() else {
                continue;
            };
            let output = self.files.entry(path).or_insert_with_key(|path| Output {
                lines: Follower::new(path),
                length: 0,
                written: 0,
            });
            if output.written > MOST || (!last && metadata.len() == output.length) {
                continue;
            }
            output.length = metadata.len();
            let daemon = entry.file_name().to_string_lossy().into_owned();
            let mut lines = output.lines.lines().unwrap_or_default();
            if last {
                lines.extend(output.lines.rest());
            }
            for line in lines {
                output.written += line.len();
                let mut printed = Entry::new(Kind::Stderr, daemon.as_str()).text(cut(&line));
                if output.written > MOST {
                    let path = output.lines.path().display();
                    let text = format!("what was printed after this is only in {path}");
                    printed = printed.name(MORE).text(text);
                }
                self.trace.append(printed);
                if output.written > MOST {
                    break;
                }
            }
        }
    }
}

/// A line of a length that one reads.
pub(super) fn cut(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line once, also the last one without an end; of a flood the start.
    #[test]
    fn what_is_printed_is_written_down_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let trace = Recorder::create(dir.path(), crate::trace::Tracing::On).expect("a trace");
        let watch = OutputWatch::start(dir.path(), &trace).expect("a thread");
        for (node, text) in [
            ("l1", "one\ntwo\nhalf".to_owned()),
            ("l2", "flood\n".repeat(MOST)),
        ] {
            std::fs::create_dir(dir.path().join(node)).expect("a folder");
            std::fs::write(dir.path().join(node).join("output"), text).expect("output");
        }
        drop(watch);
        let text = std::fs::read_to_string(dir.path().join(crate::trace::FILE)).expect("a trace");
        let entries: Vec<Entry> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an entry"))
            .collect();
        let of = |node: &str| -> Vec<&Entry> {
            entries.iter().filter(|entry| entry.from == node).collect()
        };
        let texts: Vec<_> = of("l1").iter().map(|entry| entry.text.clone()).collect();
        assert_eq!(
            texts,
            ["one", "two", "half"].map(|text| Some(text.to_owned()))
        );
        let flood = of("l2");
        assert_eq!(flood.len(), MOST / 5 + 1);
        assert_eq!(flood.last().expect("some").name, MORE);
    }
}
