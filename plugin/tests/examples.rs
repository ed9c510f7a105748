//! The examples, as lightningd runs them.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::{Host, example};
use serde_json::json;

fn from_scratch(topics: &[&str]) -> Host {
    let mut command = Command::new(example("from_scratch"));
    command.arg("records").args(topics);
    Host::spawn(command)
}

#[test]
fn from_scratch_writes_what_it_subscribed_to() {
    let mut host = from_scratch(&["connect", "disconnect"]);
    let manifest = host.handshake(json!({}));
    assert_eq!(manifest["subscriptions"], json!(["connect", "disconnect"]));
    let connect =
        r#"{"jsonrpc":"2.0","method":"connect","params":{"connect":{"id":"02","z":1.10}}}"#;
    host.write(connect.as_bytes());
    host.write(b"\n\n{\"method\":\"other\",\"par");
    host.write(b"ams\":{}}\n\n");
    host.notify("disconnect", json!({"id": "02"}));
    let lines = host.lines("records", 2);
    assert_eq!(lines[0], format!("connect notification: {connect}"));
    assert!(lines[1].starts_with("disconnect notification: {\"jsonrpc\""));
    assert!(host.logged("other").contains("ignored an unknown message"));
}

#[test]
fn from_scratch_survives_what_it_does_not_know() {
    let mut host = from_scratch(&["connect"]);
    host.handshake(json!({}));
    host.write(b"not json\n\n[1,2]\n\n\"x\"\n\n");
    let error = host.call("nosuch", json!({})).unwrap_err();
    assert_eq!(error["code"], -32601);
    assert_eq!(error["message"], "Unknown command 'nosuch'");
    assert!(host.close().success());
}

#[test]
fn failing_handlers_are_logged_with_their_place_and_the_plugin_lives() {
    let mut host = Host::spawn(Command::new(example("failing_handler")));
    host.handshake(json!({}));
    host.notify("connect", json!({"id": "02"}));
    let error = host.logged("connect: ");
    assert!(error.starts_with("warn: "), "{error}");
    assert!(error.contains("examples/failing_handler.rs:"), "{error}");
    assert!(error.contains("no_such_member is not a number"), "{error}");
    host.notify("disconnect", json!({"id": "02"}));
    let panic = host.logged("panicked at");
    assert!(panic.starts_with("error: "), "{panic}");
    assert!(panic.contains("examples/failing_handler.rs:"), "{panic}");
    assert!(panic.contains("index out of bounds"), "{panic}");
    host.notify(
        "invoice_creation",
        json!({"msat": 1, "preimage": "00", "label": "inv"}),
    );
    assert_eq!(
        host.logged("handled"),
        "info: handled invoice_creation: label inv"
    );
    assert!(host.child.try_wait().unwrap().is_none(), "still running");
}
