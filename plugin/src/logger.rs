//! Log lines for the node's log, written at once: none is lost in a queue when
//! the process ends, and any thread can write one, a panicking one too.

use std::panic;
use std::str::FromStr;

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;

use crate::stdout;

/// Names the least level that is logged: `error`, `warn`, `info`, `debug`, `trace`.
const ENV: &str = "CLN_PLUGIN_LOG";

/// The longest line, in bytes. lightningd v26.06 aborts at one of 256 KiB.
const LONGEST: usize = 4096;

struct Lightningd;

impl Log for Lightningd {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let message = shortened(record.args().to_string());
        let _ = stdout::send(&json!({
            "jsonrpc": "2.0",
            "method": "log",
            "params": {"level": level, "message": message},
        }));
    }

    fn flush(&self) {}
}

fn shortened(mut message: String) -> String {
    let length = message.len();
    if length > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| message.is_char_boundary(at));
        message.truncate(end.unwrap_or(0));
        message += &format!("... ({length} bytes)");
    }
    message
}

/// From here on log lines and panics of any thread go to the node's log.
pub fn install() {
    let level = std::env::var(ENV)
        .ok()
        .and_then(|level| LevelFilter::from_str(&level).ok())
        .unwrap_or(LevelFilter::Info);
    if log::set_logger(&Lightningd).is_ok() {
        log::set_max_level(level);
    }
    // What and where, in one line.
    panic::set_hook(Box::new(|panic| {
        log::error!("{}", panic.to_string().replace('\n', " "))
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_shortened() {
        assert_eq!(shortened("short".to_owned()), "short");
        let line = shortened(format!("x{}", "\u{e9}".repeat(200_000)));
        assert!(line.len() < LONGEST + 40, "{}", line.len());
        assert!(line.ends_with("... (400001 bytes)"), "{line}");
    }
}
