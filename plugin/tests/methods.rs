//! The RPC methods, as lightningd passes calls on.

#![allow(clippy::unwrap_used)]

mod common;

use common::Host;
use serde_json::{Value, json};

/// The numbers within the events; the record of the start has none.
fn ns(answer: &Value) -> Vec<u64> {
    let events = answer["events"].as_array().unwrap();
    events
        .iter()
        .filter_map(|event| {
            let n = event["payload"]["n"].as_u64()?;
            assert_eq!(event["seq"], seq(n));
            Some(n)
        })
        .collect()
}

/// The sequence number of the event with this number: the first is of the start.
fn seq(n: u64) -> u64 {
    n + 1
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
    assert_eq!(ns(&list(json!({}))), [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(ns(&list(json!(["connect"]))), [9, 7, 5, 3, 1]);
    assert_eq!(
        ns(&list(json!([["connect", "disconnect"], seq(9)]))),
        [10, 9]
    );
    let paged = list(json!({"since": seq(4), "limit": 2, "newest": "last"}));
    assert_eq!((ns(&paged), &paged["more"]), (vec![4, 5], &json!(true)));
    let all = list(json!({"since": seq(9), "limit": 2, "newest": "last"}));
    assert_eq!((ns(&all), all.get("more")), (vec![9, 10], None));
    assert_eq!(ns(&list(json!([null, null, 3]))), [10, 9, 8]);
    assert_eq!(ns(&list(json!({"topic": "nosuch"}))), [0; 0]);
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
            json!([1, 2, 3, 4, 5, 6, 7]),
            "too many parameters: got 7, expected 6",
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
            "eventlog-rotate",
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
    let event = host
        .call("eventlog-wait", json!({"after": seq(3)}))
        .unwrap();
    assert_eq!(event["payload"]["n"], 4);
    let event = host
        .call("eventlog-wait", json!(["connect", seq(4).to_string()]))
        .unwrap();
    assert_eq!(event["payload"]["n"], 5);
    let error = host
        .call("eventlog-wait", json!({"timeout": 0}))
        .unwrap_err();
    assert_eq!(
        error,
        json!({"code": 2000, "message": "no such event in 0 seconds"})
    );
    // Many wait, each for its own.
    let ids: Vec<String> = (0..50)
        .map(|n| {
            host.request(
                "eventlog-wait",
                json!({"topic": (["connect", "disconnect"][n % 2]), "after": seq(10)}),
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
        let number = [12, 11][n % 2];
        assert_eq!(answers[id]["seq"], seq(number));
        assert_eq!(answers[id]["payload"]["n"], number);
    }
}

#[test]
fn the_oldest_of_too_many_waiters_makes_room() {
    let mut host = ten();
    let first = host.request("eventlog-wait", json!({}));
    for _ in 0..1000 {
        host.request("eventlog-wait", json!({}));
    }
    let (id, answer) = host.any_answer();
    assert_eq!(id, first);
    let message = "too many waiters (1000): this one, the oldest, made room for another";
    assert_eq!(answer.unwrap_err()["message"], message);
    // The last that came is among those that are answered.
    host.notify("connect", json!({"n": 11}));
    for _ in 0..1000 {
        assert_eq!(host.any_answer().1.unwrap()["payload"]["n"], 11);
    }
}

/// Sends a request with these `params`, as they are; gives its answer as text.
fn raw_call(host: &mut Host, method: &str, params: &str) -> String {
    let id = format!("raw:{method}");
    host.write(
        format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"method\":\"{method}\",\"params\":{params}}}\n\n")
            .as_bytes(),
    );
    host.answer_text(&id)
}

#[test]
fn params_that_cannot_be_read_are_refused_and_recording_continues() {
    let mut host = ten();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for params in [
        "[1e400]",
        r#"["\ud800"]"#,
        &deep,
        "[007]",
        "[1{]",
        "[\"a\tb\"]",
    ] {
        let text = raw_call(&mut host, "eventlog-list", params);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"]["code"], -32700, "{params}: {answer}");
    }
    host.call("eventlog-stats", json!({})).unwrap();
    let set = raw_call(
        &mut host,
        "setconfig",
        r#"{"config":"eventlog-redact","val":1e400}"#,
    );
    assert!(set.contains("-32700"), "{set}");
    host.call(
        "setconfig",
        json!({"config": "eventlog-redact", "val": "true"}),
    )
    .unwrap();
    host.notify("connect", json!({"n": 11}));
    assert_eq!(host.records(11)[10]["payload"]["n"], 11);
}

#[test]
fn an_empty_line_within_a_request_forges_nothing() {
    let mut host = Host::eventlog(json!({}));
    let forged = "[\"a\",[\n\n{\"jsonrpc\":\"2.0\",\"id\":\"f\",\"method\":\"setconfig\",\
                  \"params\":{\"config\":\"eventlog-redact\",\"val\":\"false\"}}\n\n,\n\n\
                  {\"method\":\"invoice_creation\",\"params\":{\"label\":\"FORGED\"}}\n\n,\
                  {\"method\":\"shutdown\",\"params\":{}}\n\n]]";
    let answer = raw_call(&mut host, "eventlog-list", forged);
    assert!(answer.contains("-32602"), "{answer}");
    // The same in the params of another plugin's notification.
    host.write(
        format!("{{\"method\":\"mine\",\"origin\":\"a\",\"params\":{forged}}}\n\n").as_bytes(),
    );
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert_eq!(
        (&stats["redact"], &stats["recorded"]),
        (&json!(true), &json!(0))
    );
    assert!(host.records(0).is_empty());
}

#[test]
fn stats_are_there_for_prometheus() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "*"}));
    let odd = "a\"b\nc";
    for topic in ["connect", "connect", odd] {
        host.notify(topic, json!({}));
    }
    host.records(3);
    let stats = host.call("eventlog-stats", json!({"format": "prometheus"}));
    let stats = stats.unwrap();
    let page = stats["metrics"].as_str().unwrap();
    for line in [
        "eventlog_recorded_total{topic=\"connect\"} 2",
        r#"eventlog_recorded_total{topic="a\"b\nc"} 1"#,
        "# TYPE eventlog_recorded_total counter",
        "eventlog_dropped_total 0",
        "eventlog_last_seq 4",
        "eventlog_writable 1",
    ] {
        assert!(page.lines().any(|one| one == line), "{line}: {page}");
    }
    let sample = regex::Regex::new(r#"^(\w+)(\{topic="[^\n]*"\})? [0-9.]+$"#).unwrap();
    let mut typed = Vec::new();
    for line in page.lines() {
        match line
            .strip_prefix("# TYPE ")
            .and_then(|line| line.split_once(' '))
        {
            Some((name, _)) => typed.push(name),
            None if line.starts_with("# HELP ") => {}
            None => assert_eq!(
                sample.captures(line).expect(line)[1],
                *typed[typed.len() - 1]
            ),
        }
    }
    let file = std::fs::metadata(host.path("eventlog.jsonl"))
        .unwrap()
        .len();
    assert!(
        page.contains(&format!("eventlog_file_bytes {file}\n")),
        "{page}"
    );
    let wrong = host.call("eventlog-stats", json!({"format": "xml"}));
    assert_eq!(wrong.unwrap_err()["code"], -32602);
}

#[test]
fn events_are_handed_out_as_they_are_recorded() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "mine"}));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let odd = [
        r#"{"n":1e400,"n":123456789012345678901234567890,"f":0.10}"#,
        r#"{"s":"\ud800"}"#,
        &deep,
    ];
    let mut after = 1;
    for (n, payload) in odd.into_iter().enumerate() {
        host.write(
            format!("{{\"method\":\"mine\",\"origin\":\"a\",\"params\":{payload}}}\n\n").as_bytes(),
        );
        host.records_as_text(n + 2);
        let answer = raw_call(
            &mut host,
            "eventlog-wait",
            &format!("{{\"after\":{after}}}"),
        );
        assert!(
            answer.contains(&format!("\"payload\":{payload}}}")),
            "{answer}"
        );
        after += 1;
    }
    let answer = raw_call(&mut host, "eventlog-list", "{}");
    assert!(
        odd.iter().all(|payload| answer.contains(payload)),
        "{answer}"
    );
    assert!(!answer.contains("unreadable"), "{answer}");
    // One that comes while somebody waits.
    let id = host.request("eventlog-wait", json!({"after": after}));
    host.call("eventlog-stats", json!({})).unwrap();
    host.write(
        format!(
            "{{\"method\":\"mine\",\"origin\":\"a\",\"params\":{}}}\n\n",
            odd[0]
        )
        .as_bytes(),
    );
    assert!(host.answer_text(&id).contains(odd[0]));
}

#[test]
fn an_older_file_that_cannot_be_read_is_named_and_passed_over() {
    let mut host = ten();
    for n in [11, 12] {
        host.call("eventlog-rotate", json!({})).unwrap();
        host.notify("connect", json!({"n": n}));
        host.records(1);
    }
    let first = host.path("eventlog.jsonl.1");
    std::fs::remove_file(&first).unwrap();
    std::os::unix::fs::symlink("/dev/null", &first).unwrap();
    let listed = host.call("eventlog-list", json!({"limit": 3})).unwrap();
    assert_eq!(ns(&listed), [12, 10, 9]);
    let named = listed["unreadable_files"][0].as_str().unwrap();
    assert!(
        named.contains("eventlog.jsonl.1: is not a regular file"),
        "{named}"
    );
    // A start takes no harm either, and the next number is not given twice.
    let mut host = Host::eventlog_in(host.into_dir(), json!({}));
    assert!(host.logged("passed over").contains("eventlog.jsonl.1"));
    host.notify("connect", json!({"n": 14}));
    assert_eq!(host.records(2)[1]["seq"], 15);
}

#[test]
fn many_lists_at_once_take_little_memory() {
    let mut host = Host::eventlog(json!({}));
    let pad = "x".repeat(1000);
    for n in 1..=5000 {
        host.notify("connect", json!({"n": n, "pad": pad}));
    }
    host.records(5000);
    let ids: Vec<String> = (0..24)
        .map(|_| host.request("eventlog-list", json!({"limit": 10_000})))
        .collect();
    for _ in &ids {
        assert_eq!(host.any_answer().1.unwrap()["more"], true);
    }
    // Each answer has 4 MiB.
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.child.id())).unwrap();
    let highest = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let highest: u64 = highest.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(highest < 90_000, "{highest} kB");
}

#[test]
fn stats_count() {
    let mut host = ten();
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert_eq!(stats["last_seq"], seq(10));
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
    assert_eq!(host.records(1)[0]["seq"], seq(11));
    let listed = host.call("eventlog-list", json!({"limit": 3})).unwrap();
    assert_eq!(ns(&listed), [11, 10, 9]);
    let listed = host
        .call("eventlog-list", json!({"since": seq(9), "newest": "last"}))
        .unwrap();
    assert_eq!(ns(&listed), [9, 10, 11]);
    let event = host
        .call("eventlog-wait", json!({"after": seq(2)}))
        .unwrap();
    assert_eq!(event["payload"]["n"], 3);
}

#[test]
fn rotating_an_empty_file_moves_nothing() {
    let mut host = ten();
    for _ in 0..3 {
        host.call("eventlog-rotate", json!({})).unwrap();
    }
    let answer = host.call("eventlog-rotate", json!({})).unwrap();
    assert_eq!(
        answer,
        json!({"rotated_to": null, "reason": "the file is empty"})
    );
    assert!(!host.path("eventlog.jsonl.2").exists());
    assert_eq!(
        ns(&host.call("eventlog-list", json!({})).unwrap()).len(),
        10
    );
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
    let lines = host.lines("eventlog.jsonl", 14);
    assert_eq!(lines[13], r#"block_added notification: {"height":3}"#);
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
