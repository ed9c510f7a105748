//! Every message captured from real nodes is decoded: v23.02.2 and v26.06.6.

#![allow(clippy::unwrap_used)]

mod common;

use cln_topics::{Release, TOPICS, Topic};
use common::captures;
use eventlog::notification::{Message, Notification, parse};
use serde_json::Value;

fn read(bytes: &[u8]) -> Notification<'_> {
    match parse(bytes).unwrap() {
        Message::Notification(notification) => notification,
        Message::Request(request) => panic!("{request:?}"),
    }
}

fn one(version: &str, name: &str) -> (String, Value) {
    let all = captures(version);
    let (_, bytes) = all.iter().find(|(file, _)| file == name).unwrap();
    let notification = read(bytes);
    (
        notification.topic.to_string(),
        serde_json::from_str(notification.payload).unwrap(),
    )
}

#[test]
fn all_of_them_decode() {
    for (version, count) in [("v23.02.2", 38), ("v26.06.6", 70)] {
        let all = captures(version);
        assert_eq!(all.len(), count, "{version}");
        for (name, bytes) in all {
            let notification = read(&bytes);
            let topic = name.split('.').next().unwrap();
            assert_eq!(notification.topic, topic, "{version} {name}");
            let payload: Value = serde_json::from_str(notification.payload).unwrap();
            assert!(payload.is_object(), "{version} {name}: {payload}");
            // The payload is what is within, in whatever shape it came.
            let wrapped = payload.get(topic).is_some_and(Value::is_object);
            assert!(!wrapped, "{version} {name}: {payload}");
            assert!(
                payload.get("origin").is_none(),
                "{version} {name}: {payload}"
            );
            if topic != "tap_custom" {
                let known = Topic::find(topic).unwrap_or_else(|| panic!("{topic} in the table"));
                assert!(
                    known.since <= version.parse::<Release>().unwrap(),
                    "{version} {name}"
                );
            }
        }
    }
}

#[test]
fn every_topic_of_the_table_was_captured() {
    let captured = captures("v26.06.6");
    for topic in TOPICS {
        let prefix = format!("{}.", topic.name);
        assert!(
            captured.iter().any(|(name, _)| name.starts_with(&prefix)),
            "{}",
            topic.name
        );
    }
}

#[test]
fn flat_and_nested_give_the_same_members() {
    for name in [
        "connect.json",
        "disconnect.json",
        "invoice_creation.json",
        "invoice_payment.json",
    ] {
        let (old_topic, old) = one("v23.02.2", name);
        let (new_topic, new) = one("v26.06.6", name);
        assert_eq!(old_topic, new_topic);
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(&old), keys(&new), "{name}");
    }
    assert_eq!(
        one("v23.02.2", "invoice_creation.json").1["msat"],
        "100000000msat"
    );
    assert_eq!(
        one("v26.06.6", "invoice_creation.json").1["msat"],
        100_000_000
    );
}

#[test]
fn topics_of_plugins_say_where_they_come_from() {
    for (version, name, origin) in [
        ("v23.02.2", "tap_custom.json", "tap.py"),
        ("v26.06.6", "tap_custom.json", "tap.py"),
        ("v23.02.2", "pay_success.json", "pay"),
        ("v26.06.6", "pay_success.json", "pay"),
        ("v26.06.6", "pay_part_end.json", "cln-xpay"),
    ] {
        let all = captures(version);
        let (_, bytes) = all.iter().find(|(file, _)| file == name).unwrap();
        assert_eq!(
            read(bytes).origin.as_deref(),
            Some(origin),
            "{version} {name}"
        );
    }
}
