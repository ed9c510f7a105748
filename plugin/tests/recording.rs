//! The plugin as lightningd sees it: manifest, notifications, end.

#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Host, eventlog};
use serde_json::json;

#[test]
fn the_manifest_says_what_the_plugin_is() {
    let mut command = eventlog();
    command.env("LIGHTNINGD_VERSION", "v26.06.6");
    let mut host = Host::spawn(command);
    let manifest = host.handshake(json!({}));
    assert_eq!(manifest["dynamic"], true);
    let mut subscriptions: Vec<_> = manifest["subscriptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
        .collect();
    subscriptions.sort_unstable();
    assert_eq!(subscriptions, ["*", "log"]);
    let options = manifest["options"].as_array().unwrap();
    let names: Vec<_> = options
        .iter()
        .map(|option| option["name"].as_str().unwrap())
        .collect();
    for name in [
        "eventlog-file",
        "eventlog-format",
        "eventlog-topics",
        "eventlog-redact",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn an_older_lightningd_is_asked_for_topics_by_name() {
    let mut command = eventlog();
    command
        .env("LIGHTNINGD_VERSION", "v23.02.2")
        .env("EVENTLOG_TOPICS", "mine");
    let mut host = Host::spawn(command);
    let manifest = host.handshake(json!({"eventlog-topics": "connect,mine"}));
    let subscriptions = manifest["subscriptions"].as_array().unwrap();
    assert!(subscriptions.contains(&json!("connect")) && subscriptions.contains(&json!("mine")));
    assert!(!subscriptions.contains(&json!("*")));
    host.send(&json!({"method": "mine", "params": {"origin": "a.py", "payload": {"a": 1}}}));
    let records = host.records(1);
    assert_eq!(records[0]["origin"], "a.py");
    assert_eq!(records[0]["payload"], json!({"a": 1}));
}

#[test]
fn help_ends_the_plugin_before_init() {
    let mut host = Host::spawn(eventlog());
    host.call("getmanifest", json!({})).unwrap();
    assert!(host.close().success());
    assert!(!host.path("eventlog.jsonl").exists());
}

#[test]
fn the_workshops_three_topics_are_recorded_by_default() {
    let mut host = Host::eventlog(json!({}));
    let peer = "030ba0efcd5971fde7a6a31074ca352437e34a187b4134ff7f03ff2c986ddbaca6";
    host.notify("connect", json!({"id": peer, "direction": "out"}));
    host.notify("block_added", json!({"height": 1}));
    host.notify("disconnect", json!({"id": peer}));
    host.notify(
        "invoice_creation",
        json!({"msat": 100_000_000, "preimage": "00".repeat(32), "label": "inv"}),
    );
    let records = host.records(3);
    let topics: Vec<_> = records.iter().map(|record| &record["topic"]).collect();
    assert_eq!(topics, ["connect", "disconnect", "invoice_creation"]);
    let seqs: Vec<_> = records
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [2, 3, 4], "the first is of the start");
    assert_eq!(
        records[0]["payload"],
        json!({"id": peer, "direction": "out"})
    );
    assert_eq!(records[2]["payload"]["msat"], 100_000_000);
    assert_eq!(records[2]["payload"]["label"], "inv");
    let keys: Vec<_> = records[0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["seq", "epoch", "received_at", "node_id", "topic", "payload"]
    );
    let mode = host
        .path("eventlog.jsonl")
        .metadata()
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn text_is_the_workshops_lines() {
    let mut host = Host::eventlog(json!({"eventlog-format": "text", "eventlog-file": "log"}));
    host.notify("connect", json!({"id": "02", "direction": "out"}));
    // As v23.02 sends it.
    host.send(&json!({"method": "disconnect", "params": {"id": "02"}}));
    host.notify(
        "invoice_creation",
        json!({"msat": 1, "preimage": "00", "label": "inv"}),
    );
    assert_eq!(
        host.lines("log", 3),
        [
            r#"connect notification: {"id":"02","direction":"out"}"#,
            "disconnect notification: 02",
            r#"invoice_creation notification: {"msat":1,"preimage":"00","label":"inv"}"#,
        ]
    );
}

#[test]
fn twenty_thousand_in_order_none_lost() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "flood"}));
    let mut all = String::new();
    for n in 0..20_000 {
        all += &format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"flood\",\"origin\":\"f\",\"params\":{{\"n\":{n}}}}}\n\n"
        );
    }
    // `shutdown` right behind: nothing of the backlog is lost.
    all += "{\"jsonrpc\":\"2.0\",\"method\":\"shutdown\",\"params\":{\"shutdown\":{}}}\n\n";
    host.write(all.as_bytes());
    assert!(host.ended().success());
    let records = host.records(20_000);
    assert_eq!(records.len(), 20_000);
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], n + 2);
        assert_eq!(record["payload"]["n"], n);
    }
}

#[test]
fn shutdown_is_recorded_if_chosen_and_ends_the_plugin() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "all"}));
    host.notify("connect", json!({"id": "02"}));
    host.notify("shutdown", json!({}));
    assert!(host.ended().success());
    let topics: Vec<_> = host
        .records(2)
        .iter()
        .map(|record| record["topic"].clone())
        .collect();
    assert_eq!(topics, ["connect", "shutdown"]);
}

#[test]
fn the_end_of_input_is_an_end_without_loss() {
    let mut host = Host::eventlog(json!({}));
    for n in 0..500 {
        host.notify("connect", json!({"id": n}));
    }
    assert!(host.close().success());
    assert_eq!(host.records(500).len(), 500);
    assert_eq!(host.log_until_end().len(), 1, "only: getinfo has no socket");
}

#[test]
fn malformed_messages_and_unknown_requests_end_nothing() {
    let mut host = Host::eventlog(json!({}));
    host.write(b"{\"jsonrpc\": oops}\n\n");
    host.write(b"\xff\xfe\n\n\n\n[]\n\n");
    host.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"connect\"}\n\n");
    host.write(b"{\"jsonrpc\":\"2.0\",\"method\":\"connect\",\"params\":[1]}\n\n");
    assert_eq!(host.call("nosuch", json!({})).unwrap_err()["code"], -32601);
    host.send(&json!({"jsonrpc": "2.0", "id": 7, "method": "nosuch"}));
    assert_eq!(host.answer_to(&json!(7)).unwrap_err()["code"], -32601);
    host.notify("connect", json!({"id": "02"}));
    let records = host.records(6);
    // Nobody knows what the first three were.
    let reason = json!({"count": 1, "reason": "not readable"});
    for record in &records[..3] {
        assert_eq!(record["topic"], "eventlog_dropped");
        assert_eq!(record["payload"], reason);
    }
    assert_eq!(records[3]["payload"], json!({}));
    assert_eq!(records[4]["payload"], json!([1]));
    assert_eq!(records[5]["payload"], json!({"id": "02"}));
    let line = host.logged("left out");
    assert!(line.ends_with("bytes that are not a message"), "{line}");
    // What was in it may be a secret.
    assert!(host.log.iter().all(|(_, line)| !line.contains("oops")));
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert_eq!(stats["unreadable"], 3);
}

#[test]
fn what_lightningd_takes_for_json_is_recorded_as_text() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "mine"}));
    // As lightningd v26.06.6 hands them on, each seen to do so.
    let odd = [
        "[\"a\tb\"]",
        "[\"a\n\nb\"]",
        "[007]",
        "[1{]",
        "[1\"]",
        "[127.0.0.1]",
        "{\"a\":1,,}",
    ];
    for params in odd {
        host.write(
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"mine\",\"origin\":\"a.py\",\"params\":{params}}}\n\n")
                .as_bytes(),
        );
    }
    // Another topic is not wanted.
    host.write(b"{\"method\":\"other\",\"params\":[007]}\n\n");
    host.write(
        format!(
            "{{\"method\":\"mine\",\"params\":{{\"preimage\":\"{}\",\"x\":007}}}}\n\n",
            "00".repeat(32)
        )
        .as_bytes(),
    );
    let records = host.records(odd.len() + 1);
    assert_eq!(records.len(), odd.len() + 1);
    for (record, params) in records.iter().zip(odd) {
        assert_eq!(
            (&record["topic"], &record["origin"]),
            (&json!("mine"), &json!("a.py"))
        );
        assert_eq!(
            (&record["not_json"], &record["payload"]),
            (&json!(true), &json!(params))
        );
    }
    assert_eq!(records[odd.len()]["payload"], "redacted");
}

#[test]
fn however_the_bytes_arrive() {
    let mut host = Host::eventlog(json!({}));
    let message = br#"{"jsonrpc":"2.0","method":"connect","params":{"connect":{"id":"02"}}}"#;
    for byte in message {
        host.write(&[*byte]);
    }
    host.write(b"\n");
    host.write(b"\n");
    let twice = [&message[..], b"\n\n", message, b"\n\n{\"jsonrpc\":"].concat();
    host.write(&twice);
    host.write(&message[b"{\"jsonrpc\":".len()..]);
    host.write(b"\n\n");
    let records = host.records(4);
    assert!(records.iter().all(|record| record["payload"]["id"] == "02"));
}

/// A plugin that is sent a signal while much waits in its stdin.
fn signalled(signal: nix::sys::signal::Signal) -> (Host, usize) {
    let mut host = Host::eventlog(json!({"eventlog-topics": "flood"}));
    let count = 30_000;
    let all: String = (0..count)
        .map(|n| format!("{{\"method\":\"flood\",\"params\":{{\"n\":{n}}}}}\n\n"))
        .collect();
    host.write(all.as_bytes());
    let pid = nix::unistd::Pid::from_raw(host.child.id() as i32);
    nix::sys::signal::kill(pid, signal).unwrap();
    (host, count)
}

#[test]
fn a_signal_that_ends_the_plugin_loses_nothing() {
    use nix::sys::signal::Signal::{SIGINT, SIGTERM};
    for signal in [SIGTERM, SIGINT] {
        let (mut host, count) = signalled(signal);
        // lightningd still has something to send.
        host.logged("recording until lightningd ends");
        host.notify("flood", json!({"n": count}));
        host.records(count + 1);
        assert!(host.close().success());
        let records = host.records(count + 1);
        assert_eq!(records[count]["payload"]["n"], count);
    }
}

#[test]
fn a_signal_ends_the_plugin_even_if_lightningd_lives_on() {
    let (mut host, count) = signalled(nix::sys::signal::Signal::SIGTERM);
    assert!(host.ended().success());
    assert_eq!(host.records(count).len(), count);
}
