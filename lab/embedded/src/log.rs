//! The node's log: lightningd's file format, levels and filters.
//!
//! A line is `2026-11-20T11:47:06.903Z DEBUG   plugin-manager: started(15479) …`:
//! time in UTC, level in seven columns, source, message. Each line is written at once
//! and in one piece, so that a reader of the file sees whole lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::lock::lock;

/// lightningd's levels, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every byte in and out; the embedded node writes none of these.
    Io,
    Trace,
    Debug,
    /// The default.
    Info,
    /// Needs attention; `warn` in a plugin's message.
    Unusual,
    /// Must not happen; `error` in a plugin's message.
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

/// The options `log-*`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `log-level` without a subsystem.
    pub level: Level,
    /// `log-level=LEVEL:SUBSYSTEM`: the level for sources that contain the text.
    pub filters: Vec<(String, Level)>,
    /// Before each line.
    pub prefix: String,
    pub timestamps: bool,
    /// `log-file`, each of them; `-` is stdout, as is an empty list.
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

/// One line, for the notifications `log` and `warning`.
#[derive(Debug)]
pub struct Entry<'a> {
    pub level: Level,
    pub time: SystemTime,
    /// For example `lightningd`, `plugin-eventlog`, `<node id>-connectd`.
    pub source: &'a str,
    /// One line, ASCII.
    pub message: &'a str,
    /// Whether it is in the log; a warning is sent even if it is not.
    pub written: bool,
}

impl Entry<'_> {
    /// The body of both notifications.
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

/// Lines from one thread keep their order.
pub struct Log {
    config: LogConfig,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
    listener: OnceLock<Listener>,
}

impl Log {
    /// Opens the files for appending; new ones with mode 0600, since a log can quote
    /// anything.
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

    /// Opens the files again after they were moved (SIGHUP, as in lightningd). If one
    /// cannot be opened, all stay as they were.
    pub fn reopen(&self) {
        match open_all(&self.config.files) {
            Ok(outputs) => {
                *lock(&self.outputs) = outputs;
                self.info("lightningd", "SIGHUP: log files reopened");
            }
            Err(e) => self.broken("lightningd", e.to_string()),
        }
    }

    /// Calls `listener` for every line from here on. Once only.
    pub fn listen(&self, listener: Listener) {
        let _ = self.listener.set(listener);
    }

    /// Whether a line with this level and source is written.
    pub fn wants(&self, level: Level, source: &str) -> bool {
        let wanted = self
            .config
            .filters
            .iter()
            .find(|(text, _)| source.contains(text.as_str()))
            .map_or(self.config.level, |(_, level)| *level);
        level >= wanted
    }

    /// Writes one line. Everything but printable ASCII becomes `?`, as in lightningd.
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
        for output in lock(&self.outputs).iter_mut() {
            // A full disk must not end the node, and there is nowhere to report it.
            let _ = output
                .write_all(line.as_bytes())
                .and_then(|()| output.flush());
        }
    }

    pub fn debug(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Debug, source, message);
    }

    pub fn info(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Info, source, message);
    }

    /// Also a `warning` notification.
    pub fn unusual(&self, source: &str, message: impl AsRef<str>) {
        self.log(Level::Unusual, source, message);
    }

    /// Also a `warning` notification.
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
    fn a_moved_file_is_reopened() {
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
        let has = |path: &Path, what: &str| std::fs::read_to_string(path).unwrap().contains(what);
        assert!(has(&moved, "before") && has(&moved, "between") && !has(&moved, "after"));
        assert!(has(&path, "after") && !has(&path, "between"));
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
