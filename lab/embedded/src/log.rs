//! The node's log: lightningd's file format, levels and filters.
//!
//! A line is `2026-11-20T11:47:06.903Z DEBUG   plugin-manager: started(15479) …`:
//! time in UTC, level in seven columns, who says it, what. Each line is written
//! at once, in one piece: whoever reads the file while the node runs sees whole
//! lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// How much a line matters, in lightningd's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every byte in and out. The embedded node writes none of these.
    Io,
    /// Below debug.
    Trace,
    /// For who looks for a fault.
    Debug,
    /// What is worth knowing; the default.
    Info,
    /// Something that needs attention (`warn` in a plugin's message).
    Unusual,
    /// Something that must not happen (`error` in a plugin's message).
    Broken,
}

impl Level {
    /// The name in the first column of a line.
    fn column(self) -> &'static str {
        match self {
            Level::Io => "IO     ",
            Level::Trace => "TRACE  ",
            Level::Debug => "DEBUG  ",
            Level::Info => "INFO   ",
            Level::Unusual => "UNUSUAL",
            Level::Broken => "**BROKEN**",
        }
    }

    /// The name in the `log` notification and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Level::Io => "io",
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Unusual => "unusual",
            Level::Broken => "broken",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Ok(match s {
            "io" => Level::Io,
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "unusual" | "warn" => Level::Unusual,
            "broken" | "error" => Level::Broken,
            _ => {
                return Err(format!(
                    "unknown log level '{s}': io, trace, debug, info, unusual or broken"
                ));
            }
        })
    }
}

/// How the log is to be written; the options `log-*`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `log-level` without a subsystem.
    pub level: Level,
    /// `log-level=LEVEL:SUBSYSTEM`: the level for sources that contain the text.
    pub filters: Vec<(String, Level)>,
    /// `log-prefix`: before each line.
    pub prefix: String,
    /// `log-timestamps`.
    pub timestamps: bool,
    /// `log-file`, each of them; `-` is stdout, and none is stdout, too.
    pub files: Vec<String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: Level::Info,
            filters: Vec::new(),
            prefix: String::new(),
            timestamps: true,
            files: Vec::new(),
        }
    }
}

/// One line, as those who subscribed to `log` or `warning` are told of it.
#[derive(Debug)]
pub struct Entry<'a> {
    /// How much it matters.
    pub level: Level,
    /// When it was said.
    pub time: SystemTime,
    /// Who says it: `lightningd`, `plugin-eventlog`, `<node id>-connectd`.
    pub source: &'a str,
    /// What is said, one line, ASCII.
    pub message: &'a str,
    /// Whether it is in the log, too (a warning is told even when it is not).
    pub written: bool,
}

impl Entry<'_> {
    /// The body of the `log` and `warning` notifications, in lightningd's shape.
    pub fn to_json(&self, level: &str) -> Value {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "level": level,
            "time": format!("{}.{:09}", since.as_secs(), since.subsec_nanos()),
            "timestamp": timestamp(self.time),
            "source": self.source,
            "log": self.message,
        })
    }
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

type Listener = Box<dyn Fn(&Entry<'_>) + Send + Sync>;

/// The log of one node. Lines from one thread keep their order.
pub struct Log {
    config: LogConfig,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
    listener: OnceLock<Listener>,
}

impl Log {
    /// Opens the files (append, 0600 when created: a log can quote anything).
    ///
    /// # Errors
    /// Names the file that cannot be opened.
    pub fn open(config: LogConfig) -> io::Result<Self> {
        Ok(Self {
            outputs: Mutex::new(open_all(&config.files)?),
            config,
            listener: OnceLock::new(),
        })
    }

    /// Opens the files again, for whoever moved them away (SIGHUP, as in
    /// lightningd). Where one cannot be opened, all stay as they were.
    pub fn reopen(&self) {
        match open_all(&self.config.files) {
            Ok(outputs) => {
                *self.outputs.lock().unwrap_or_else(PoisonError::into_inner) = outputs;
                self.info("lightningd", "SIGHUP: the log is opened again");
            }
            Err(e) => self.broken("lightningd", e.to_string()),
        }
    }

    /// Has `listener` told of every line that is written. Once only.
    pub fn listen(&self, listener: Listener) {
        let _ = self.listener.set(listener);
    }

    /// Whether a line of this level from this source is written.
    pub fn wants(&self, level: Level, source: &str) -> bool {
        let wanted = self
            .config
            .filters
            .iter()
            .find(|(text, _)| source.contains(text.as_str()))
            .map_or(self.config.level, |(_, level)| *level);
        level >= wanted
    }

    /// Writes one line. Control characters and what is not ASCII become `?`,
    /// as in lightningd.
    pub fn log(&self, level: Level, source: &str, message: impl AsRef<str>) {
        let written = self.wants(level, source);
        if !written && level < Level::Unusual {
            return;
        }
        let message: String = message
            .as_ref()
            .bytes()
            .map(|b| {
                if (b' '..0x7f).contains(&b) {
                    b as char
                } else {
                    '?'
                }
            })
            .collect();
        let time = SystemTime::now();
        if written {
            self.write(level, source, &message, time);
        }
        if let Some(listener) = self.listener.get() {
            listener(&Entry {
                level,
                time,
                source,
                message: &message,
                written,
            });
        }
    }

    fn write(&self, level: Level, source: &str, message: &str, time: SystemTime) {
        let stamp = if self.config.timestamps {
            format!("{} ", timestamp(time))
        } else {
            String::new()
        };
        let line = format!(
            "{}{stamp}{} {source}: {message}\n",
            self.config.prefix,
            level.column()
        );
        let mut outputs = self.outputs.lock().unwrap_or_else(PoisonError::into_inner);
        for output in outputs.iter_mut() {
            // A full disk must not end the node, and there is nowhere to say so.
            let _ = output
                .write_all(line.as_bytes())
                .and_then(|()| output.flush());
        }
    }

    /// A line at level debug.
    pub fn debug(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Debug, source, message);
    }

    /// A line at level info.
    pub fn info(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Info, source, message);
    }

    /// A line at level unusual; it is also a `warning` notification.
    pub fn unusual(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Unusual, source, message);
    }

    /// A line at level broken; it is also a `warning` notification.
    pub fn broken(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Broken, source, message);
    }
}

fn open_all(files: &[String]) -> io::Result<Vec<Box<dyn Write + Send>>> {
    let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
    for file in files {
        outputs.push(if file == "-" {
            Box::new(io::stdout())
        } else {
            Box::new(open_file(Path::new(file))?)
        });
    }
    if outputs.is_empty() {
        outputs.push(Box::new(io::stdout()));
    }
    Ok(outputs)
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("Failed to open log file {}: {e}", path.display()),
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_has_lightningds_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = Log::open(LogConfig {
            level: Level::Debug,
            prefix: "l1: ".into(),
            files: vec![path.display().to_string()],
            ..LogConfig::default()
        })
        .unwrap();
        log.debug("plugin-manager", "started(1) /p");
        log.log(Level::Trace, "plugin-x", "not written");
        log.broken("lightningd", "a\nb\u{e9}");
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        let (stamp, rest) = lines[0].strip_prefix("l1: ").unwrap().split_at(24);
        assert!(
            stamp.ends_with('Z') && stamp.as_bytes()[10] == b'T',
            "{stamp}"
        );
        assert_eq!(rest, " DEBUG   plugin-manager: started(1) /p");
        assert!(
            lines[1].ends_with("**BROKEN** lightningd: a?b??"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let log = Log::open(LogConfig {
            files: vec![path.display().to_string()],
            ..LogConfig::default()
        })
        .unwrap();
        log.info("x", "before");
        std::fs::rename(&path, &moved).unwrap();
        log.info("x", "between");
        log.reopen();
        log.info("x", "after");
        let said = |path: &Path, what: &str| std::fs::read_to_string(path).unwrap().contains(what);
        assert!(said(&moved, "before") && said(&moved, "between") && !said(&moved, "after"));
        assert!(said(&path, "after") && !said(&path, "between"));
    }

    #[test]
    fn a_subsystem_has_its_own_level() {
        let log = Log::open(LogConfig {
            level: Level::Unusual,
            filters: vec![("plugin-a".into(), Level::Debug)],
            ..LogConfig::default()
        })
        .unwrap();
        assert!(log.wants(Level::Debug, "plugin-a.py"));
        assert!(!log.wants(Level::Info, "plugin-b.py"));
    }
}
