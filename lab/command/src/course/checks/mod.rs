//! What the steps check: a function of the step's name each.

pub(super) mod beyond;
pub(super) mod by_hand;
pub(super) mod library;
pub(super) mod releases;

use cln_lab::{Event, PluginHarness};
use serde_json::{Value, json};

use super::exam::{Exam, Outcome, lines_of, missed};
use super::on_node::FILE;

/// The node whose id stands in messages that no node sent.
const PEER: &str = "02aa0000000000000000000000000000000000000000000000000000000000aaaa";

/// A notification as lightningd sends it from v23.08 on.
fn wrapped(topic: &str, payload: &Value) -> Value {
    let mut params = serde_json::Map::new();
    params.insert(topic.to_owned(), payload.clone());
    json!({"jsonrpc": "2.0", "method": topic, "params": params})
}

/// The payload of a `connect`, from a port by which it is known again.
fn connect_payload(port: u16) -> Value {
    let address = json!({"type": "ipv4", "address": "127.0.0.1", "port": port});
    json!({"id": PEER, "direction": "out", "address": address})
}

/// The plugin, up without a node; it must subscribe to these topics alone.
async fn subscribed(exam: &mut Exam, topics: &[&str]) -> Outcome<PluginHarness> {
    let (plugin, manifest) = exam.up(json!({})).await?;
    must_subscribe(exam, &manifest, topics)?;
    Ok(plugin)
}

/// Sends these messages to the plugin, and ends it: the lines that it wrote. Nothing may
/// be answered.
async fn recorded(
    exam: &mut Exam,
    mut plugin: PluginHarness,
    done: &str,
    messages: &[Value],
) -> Outcome<Vec<String>> {
    for message in messages {
        exam.doing(done);
        exam.send(&mut plugin, message).await?;
    }
    let sent = exam.close(&mut plugin).await?;
    exam.must_be_silent(&sent)?;
    lines_of(&plugin.dir().join(FILE))
}

/// Exactly these topics, a line each, in this order.
fn must_record(exam: &mut Exam, lines: &[String], topics: &[&str]) -> Outcome<Vec<Event>> {
    let mut events = Vec::new();
    for (n, topic) in topics.iter().enumerate() {
        let Some(line) = lines.get(n) else {
            return missed(
                exam.done(),
                format!("line {} of {FILE}: `{topic} notification: {{…}}`", n + 1),
                if n == 0 {
                    format!("no {FILE} in the folder in which it ran")
                } else {
                    format!("only {n} lines")
                },
            );
        };
        events.push(exam.parsed(line, topic)?);
    }
    match lines.get(topics.len()) {
        None => Ok(events),
        Some(line) => missed(
            exam.done(),
            format!("{} lines in {FILE}", topics.len()),
            format!("one more: `{line}`"),
        ),
    }
}

/// The manifest subscribes to these topics, and to no others.
fn must_subscribe(exam: &mut Exam, manifest: &Value, topics: &[&str]) -> Outcome {
    let list = manifest["subscriptions"].as_array();
    let mut names: Vec<&str> = list
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    names.sort_unstable();
    let mut expected = topics.to_vec();
    expected.sort_unstable();
    exam.doing("getmanifest was asked");
    exam.must(
        names == expected,
        &format!("it subscribes to {}", topics.join(", ")),
        format!("\"subscriptions\": {}", json!(topics)),
        match manifest.get("subscriptions") {
            Some(value) => format!("\"subscriptions\": {value}"),
            None => format!("no subscriptions: {manifest}"),
        },
    )
}
