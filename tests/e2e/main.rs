//! The end-to-end tests, a module a subject: one program, so that it is linked once.

mod bad_input;
mod behaviour;
mod channels;
mod command;
mod command_nodes;
mod eventlog;
mod events;
mod examples;
mod gates;
mod harness;
mod hosting;
mod lifecycle;
mod nodes;
mod other_languages;
mod shell;
mod taps;
mod topics;
mod walkthrough;

use std::process::ExitCode;

use lab_tests::Suite;

fn main() -> ExitCode {
    if let Some(code) = lifecycle::hold_if_asked() {
        return code;
    }
    Suite::new()
        .module("bad_input", bad_input::tests)
        .module("behaviour", behaviour::tests)
        .module("channels", channels::tests)
        .module("command", command::tests)
        .module("command_nodes", command_nodes::tests)
        .module("eventlog", eventlog::tests)
        .module("events", events::tests)
        .module("examples", examples::tests)
        .module("gates", gates::tests)
        .module("harness", harness::tests)
        .module("hosting", hosting::tests)
        .module("lifecycle", lifecycle::tests)
        .module("nodes", nodes::tests)
        .module("other_languages", other_languages::tests)
        .module("shell", shell::tests)
        .module("taps", taps::tests)
        .module("topics", topics::tests)
        .module("walkthrough", walkthrough::tests)
        .main()
}
