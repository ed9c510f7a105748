//! What `eventlog` prints to a person: no lightningd speaks to it then.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;

use crate::{methods, options};

/// Where the text of an option or a method stands, and where it ends.
const TEXT: &str = "          ";
const WIDTH: usize = 90;

/// `--version`.
pub fn version() -> String {
    format!("eventlog {}\n", env!("CARGO_PKG_VERSION"))
}

/// `--help`: the options and methods, as the manifest has them.
pub fn help() -> String {
    let mut help = "\
Record lightningd's notifications in order, none lost, each a line of a file

A plugin: lightningd starts it, and it ends with lightningd. Its options are lightningd's
while it is there, on the command line, in the configuration file, and for `plugin start`.

Usage: lightningd --plugin=/PATH/eventlog [OPTIONS]
       lightning-cli -k plugin subcommand=start plugin=/PATH/eventlog [OPTION=VALUE]...

Options:
"
    .to_owned();
    for option in options::all() {
        let default = match option.default() {
            Some(default) => format!(" Default: {}", text(default)),
            None => String::new(),
        };
        let value = serde_json::to_value(&option).unwrap_or_default();
        let kind = value["type"].as_str().unwrap_or_default().to_uppercase();
        let description = value["description"].as_str().unwrap_or_default();
        let term = format!("--{} <{kind}>", option.name());
        entry(&mut help, &term, &format!("{description}{default}"));
    }
    help.push_str("Methods:\n");
    for method in &methods::ALL {
        let term = format!("{} {}", method.name, method.usage);
        entry(&mut help, term.trim_end(), method.description);
    }
    help.push_str("Environment:\n");
    let topics = "Topics of other plugins to subscribe to, for lightningd before v23.08";
    entry(&mut help, "EVENTLOG_TOPICS", topics);
    let level = "The level from which it logs: error, warn, info (default), debug, trace";
    entry(&mut help, "CLN_PLUGIN_LOG", level);
    help.truncate(help.trim_end().len());
    help + "\n"
}

/// A term, and its text indented below.
fn entry(help: &mut String, term: &str, text: &str) {
    let _ = write!(help, "      {term}");
    let mut column = WIDTH;
    for word in text.split_whitespace() {
        if column + 1 + word.len() > WIDTH {
            let _ = write!(help, "\n{TEXT}{word}");
            column = TEXT.len() + word.len();
        } else {
            let _ = write!(help, " {word}");
            column += 1 + word.len();
        }
    }
    help.push_str("\n\n");
}

fn text(default: &cln_plugin::options::Value) -> String {
    match serde_json::to_value(default) {
        Ok(Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// What to print instead of being a plugin: asked for by an argument, or because nobody
/// speaks at stdin. It waits until stdin has something, or ends.
///
/// Other arguments are lightningd's: `--developer`.
pub fn instead(arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    match arguments.into_iter().next() {
        Some(argument) if argument == "--version" || argument == "-V" => Some(version()),
        Some(argument) if argument == "--help" || argument == "-h" => Some(help()),
        Some(_) => None,
        None => nobody_speaks(io::stdin()).then(help),
    }
}

/// True for a terminal, `/dev/null` or what has ended before it sent anything: lightningd
/// has a pipe or a socket there, and asks at once.
fn nobody_speaks(stdin: impl AsFd) -> bool {
    let kind = stdin
        .as_fd()
        .try_clone_to_owned()
        .and_then(|stdin| File::from(stdin).metadata())
        .map(|stdin| stdin.file_type());
    if kind.is_ok_and(|kind| kind.is_char_device()) {
        return true;
    }
    let mut stdin = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    poll(&mut stdin, PollTimeout::NONE).is_ok()
        && stdin[0].revents().is_some_and(|there| {
            there.contains(PollFlags::POLLHUP) && !there.contains(PollFlags::POLLIN)
        })
}
