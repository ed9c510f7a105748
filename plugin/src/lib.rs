//! `eventlog`, a Core Lightning plugin that records lightningd's notifications:
//! in order, none lost, each a line of a file.
//!
//! The library is there so that tests can use its parts without a process; the
//! plugin is the executable.
//!
//! # Layout
//!
//! A notification's way, from lightningd to the file:
//!
//! - [`stdin`]: notifications go one way, requests the other
//! - [`standby`]: two threads at stdin, so that no write keeps it from being read
//! - [`notification`]: topic, origin and payload, in either wire shape
//! - [`chunk`]: notifications side by side in memory
//! - [`queue`]: in order, never waiting, bounded in memory
//! - [`progress`]: what the next two share
//! - [`recorder`]: the handle that feeds the file and reports on it
//! - `writer`: owns the file, in a thread for what is not written at once
//! - [`mod@format`]: `json` or `text`, one line each
//! - [`redact`]: secrets left out of a payload
//! - `secrets`: their names, and their values in a text
//! - [`mod@file`]: opened safely, appended to
//! - [`mod@cursor`]: epoch and number, and where a reader goes on
//! - [`older`]: the files that rotation leaves
//! - [`state`]: what is known from one start to the next
//! - `waiters`: the callers of `eventlog-wait`
//!
//! What a person sets and asks:
//!
//! - [`requests`]: the stream of requests that cln-plugin reads
//! - [`stdout`]: answers and log lines, each in one piece
//! - [`topics`]: what lightningd sends, and which of it is recorded
//! - [`options`]: the options and their values
//! - [`methods`]: `eventlog-list`, `-wait`, `-stats`, `-rotate`
//! - [`params`]: a method's parameters, by name or by position
//! - [`prometheus`]: numbers as Prometheus reads them
//! - [`reader`]: recorded events read back
//! - [`tail`]: the records as they come, for another process
//! - [`logger`]: lines in the node's log
//! - [`help`]: what a person reads who runs it

pub mod chunk;
pub mod cursor;
pub mod file;
pub mod format;
pub mod help;
mod lock;
pub mod logger;
pub mod methods;
pub mod notification;
pub mod older;
pub mod options;
pub mod params;
pub mod progress;
pub mod prometheus;
pub mod queue;
pub mod reader;
pub mod recorder;
pub mod redact;
pub mod requests;
mod secrets;
pub mod standby;
pub mod state;
pub mod stdin;
pub mod stdout;
pub mod tail;
pub mod topics;
mod waiters;
mod writer;
