//! The RPC methods, as lightningd passes calls on.

#![allow(clippy::unwrap_used)]

mod common;

use common::Host;
use serde_json::{Value, json};

fn seqs(answer: &Value) -> Vec<u64> {
    let events = answer["events"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect()
}

/// Ten events: `connect` has the odd numbers, `disconnect` the even ones.
fn ten() -> Host {
    let mut host = Host::eventlog(json!({}));
    for n in 1..=10 {
        host.notify(
            if n % 2 == 1 { "connect" } else { "disconnect" },
            json!({"n": n}),
        );
    }
    host.records(10);
    host
}

#[test]
fn list_by_topic_since_limit_and_order() {
    let mut host = ten();
    let mut list = |params| host.call("eventlog-list", params).unwrap();
    assert_eq!(seqs(&list(json!({}))), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(seqs(&list(json!(["connect"]))), [9, 7, 5, 3, 1]);
    assert_eq!(seqs(&list(json!([["connect", "disconnect"], 9]))), [10, 9]);
    let paged = list(json!({"since": 4, "limit": 2, "newest": "last"}));
    assert_eq!((seqs(&paged), &paged["more"]), (vec![4, 5], &json!(true)));
    let all = list(json!({"since": 9, "limit": 2, "newest": "last"}));
    assert_eq!((seqs(&all), all.get("more")), (vec![9, 10], None));
    assert_eq!(seqs(&list(json!([null, null, 3]))), [10, 9, 8]);
    assert_eq!(seqs(&list(json!({"topic": "nosuch"}))), [0; 0]);
    let event = &list(json!({"limit": 1}))["events"][0];
    assert_eq!(event["topic"], "disconnect");
    assert_eq!(event["payload"], json!({"n": 10}));
}

#[test]
fn parameters_are_refused_as_lightningd_does() {
    let mut host = ten();
    for (method, params, message) in [
        ("eventlog-list", json!({"foo": 1}), "unknown parameter: foo"),
        (
            "eventlog-list",
            json!([1]),
            "topic: should be a name, or an array of names: invalid token 1",
        ),
        (
            "eventlog-list",
            json!([1, 2, 3, 4, 5]),
            "too many parameters: got 5, expected 4",
        ),
        (
            "eventlog-list",
            json!({"limit": 10001}),
            "limit: should be an integer from 0 to 10000: invalid token 10001",
        ),
        (
            "eventlog-list",
            json!({"newest": "up"}),
            "newest: should be 'first' or 'last': invalid token \"up\"",
        ),
        (
            "eventlog-wait",
            json!({"after": "x"}),
            "after: should be an integer: invalid token \"x\"",
        ),
        (
            "eventlog-wait",
            json!({"timeout": -1}),
            "timeout: should be an integer from 0 to 604800: invalid token -1",
        ),
        (
            "eventlog-stats",
            json!([1]),
            "too many parameters: got 1, expected 0",
        ),
    ] {
        let error = host.call(method, params).unwrap_err();
        assert_eq!(
            (&error["code"], error["message"].as_str().unwrap()),
            (&json!(-32602), message)
        );
    }
}

#[test]
fn wait_for_what_is_recorded_and_for_what_comes() {
    let mut host = ten();
    let event = host.call("eventlog-wait", json!({"after": 3})).unwrap();
    assert_eq!(event["seq"], 4);
    let event = host.call("eventlog-wait", json!(["connect", "4"])).unwrap();
    assert_eq!(event["seq"], 5);
    let error = host
        .call("eventlog-wait", json!({"timeout": 0}))
        .unwrap_err();
    assert_eq!(
        error,
        json!({"code": 2000, "message": "no such event in 0 seconds", "data": null})
    );
    // Many wait, each for its own.
    let ids: Vec<String> = (0..50)
        .map(|n| {
            host.request(
                "eventlog-wait",
                json!({"topic": (["connect", "disconnect"][n % 2]), "after": 10}),
            )
        })
        .collect();
    host.call("eventlog-stats", json!({})).unwrap();
    host.notify("disconnect", json!({"n": 11}));
    host.notify("connect", json!({"n": 12}));
    let mut answers = std::collections::BTreeMap::new();
    for _ in &ids {
        let (id, event) = host.any_answer();
        answers.insert(id, event.unwrap());
    }
    for (n, id) in ids.iter().enumerate() {
        let seq = [12, 11][n % 2];
        assert_eq!(answers[id]["seq"], seq);
        assert_eq!(answers[id]["payload"]["n"], seq);
    }
}

#[test]
fn too_many_waiters_are_refused() {
    let mut host = ten();
    for _ in 0..1000 {
        host.request("eventlog-wait", json!({}));
    }
    let last = host.request("eventlog-wait", json!({}));
    let (id, answer) = host.any_answer();
    assert_eq!(id, last);
    assert_eq!(answer.unwrap_err()["message"], "too many waiters (1000)");
}

#[test]
fn stats_count() {
    let mut host = ten();
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert_eq!(stats["last_seq"], 10);
    assert_eq!(stats["recorded"], 10);
    assert_eq!(stats["dropped"], 0);
    assert_eq!(stats["queue"]["length"], 0);
    assert_eq!(
        stats["asked_for"],
        json!(["connect", "disconnect", "invoice_creation"])
    );
    let topics = stats["topics"].as_array().unwrap();
    assert_eq!(
        (&topics[0]["topic"], &topics[0]["count"]),
        (&json!("connect"), &json!(5))
    );
    let records = host.records(10);
    assert_eq!(topics[0]["first"], records[0]["received_at"]);
    assert_eq!(topics[0]["last"], records[8]["received_at"]);
    let length = host.path("eventlog.jsonl").metadata().unwrap().len();
    assert_eq!(
        (&stats["file_bytes"], &stats["bytes_written"]),
        (&json!(length), &json!(length))
    );
    assert_eq!(stats.get("trouble"), None);
}

#[test]
fn rotate_by_hand_and_list_across_the_files() {
    let mut host = ten();
    let answer = host.call("eventlog-rotate", json!({})).unwrap();
    let older = host.path("eventlog.jsonl.1");
    assert_eq!(answer["rotated_to"], older.to_str().unwrap());
    host.notify("connect", json!({"n": 11}));
    assert_eq!(host.records(1)[0]["seq"], 11);
    let listed = host.call("eventlog-list", json!({"limit": 3})).unwrap();
    assert_eq!(seqs(&listed), [11, 10, 9]);
    let listed = host
        .call("eventlog-list", json!({"since": 9, "newest": "last"}))
        .unwrap();
    assert_eq!(seqs(&listed), [9, 10, 11]);
    let event = host.call("eventlog-wait", json!({"after": 2})).unwrap();
    assert_eq!(event["seq"], 3);
}

#[test]
fn setconfig_changes_what_it_says() {
    let mut host = ten();
    let set = |host: &mut Host, name: &str, value: Value| {
        host.call("setconfig", json!({"config": name, "val": value}))
    };
    set(
        &mut host,
        "eventlog-topics",
        json!(["block_added", "conect"]),
    )
    .unwrap();
    assert!(host.logged("conect").contains("did you mean `connect`?"));
    host.notify("connect", json!({"n": 11}));
    host.notify("block_added", json!({"height": 1}));
    assert_eq!(host.records(11)[10]["topic"], "block_added");
    set(&mut host, "eventlog-redact", json!("false")).unwrap();
    host.notify("block_added", json!({"preimage": "00"}));
    assert_eq!(host.records(12)[11]["payload"]["preimage"], "00");
    set(&mut host, "eventlog-format", json!("text")).unwrap();
    host.notify("block_added", json!({"height": 3}));
    let lines = host.lines("eventlog.jsonl", 13);
    assert_eq!(lines[12], r#"block_added notification: {"height":3}"#);
    let listed = host.call("eventlog-list", json!({"limit": 1})).unwrap();
    assert_eq!(listed["unreadable_lines"], 1);
    for (name, value) in [
        ("eventlog-format", json!("xml")),
        ("eventlog-rotate-keep", json!("x")),
        ("eventlog-file", json!("x")),
    ] {
        let error = set(&mut host, name, value).unwrap_err();
        assert_eq!(error["code"], -32602);
        assert!(
            error["message"].as_str().unwrap().starts_with(name),
            "{error}"
        );
    }
}
