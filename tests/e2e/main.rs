//! The end-to-end tests, a module a subject: one program, so that it is linked once.

mod any_node;
mod bad_input;
mod channels;
mod check;
mod command;
mod command_nodes;
mod course;
mod eventlog;
mod events;
mod examples;
mod fleet;
mod gates;
mod get_bitcoind;
mod get_lightningd;
mod growth;
mod harness;
mod install;
mod leaks;
mod lifecycle;
mod matrix;
mod mcp;
mod mistakes;
mod new;
mod other_languages;
mod page;
mod plugin_host;
mod pytest;
mod readme;
mod rpc_answers;
mod serve;
mod shell;
mod soak;
mod surroundings;
mod taps;
mod topics;
mod trace;
mod walkthrough;
mod workshop;

#[path = "../../plugin/publish/tests/publish/proxy.rs"]
mod proxy;

use std::process::ExitCode;

use lab_tests::Suite;

fn main() -> ExitCode {
    if let Some(code) = lifecycle::hold_if_asked().or_else(harness::hold_if_asked) {
        return code;
    }
    Suite::new()
        .module("any_node", any_node::tests)
        .module("bad_input", bad_input::tests)
        .module("channels", channels::tests)
        .module("check", check::tests)
        .module("command", command::tests)
        .module("command_nodes", command_nodes::tests)
        .module("course", course::tests)
        .module("eventlog", eventlog::tests)
        .module("events", events::tests)
        .module("examples", examples::tests)
        .module("fleet", fleet::tests)
        .module("gates", gates::tests)
        .module("get_bitcoind", get_bitcoind::tests)
        .module("get_lightningd", get_lightningd::tests)
        .module("growth", growth::tests)
        .module("harness", harness::tests)
        .module("install", install::tests)
        .module("leaks", leaks::tests)
        .module("lifecycle", lifecycle::tests)
        .module("matrix", matrix::tests)
        .module("mcp", mcp::tests)
        .module("mistakes", mistakes::tests)
        .module("new", new::tests)
        .module("other_languages", other_languages::tests)
        .module("page", page::tests)
        .module("plugin_host", plugin_host::tests)
        .module("pytest", pytest::tests)
        .module("readme", readme::tests)
        .module("rpc_answers", rpc_answers::tests)
        .module("serve", serve::tests)
        .module("shell", shell::tests)
        .module("soak", soak::tests)
        .module("surroundings", surroundings::tests)
        .module("taps", taps::tests)
        .module("topics", topics::tests)
        .module("trace", trace::tests)
        .module("walkthrough", walkthrough::tests)
        .module("workshop", workshop::tests)
        .main()
}
