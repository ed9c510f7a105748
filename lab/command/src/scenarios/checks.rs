//! What a scenario checks: members of payloads, order, the topic's entry in the table.

use serde_json::Value;

use cln_lab::{Error, Event, Result, msat};
use cln_topics::{Presence, Topic};

/// An error unless the event's member at `path` (`id`, or `address/port`) is this.
pub(super) fn same(event: &Event, path: &str, expected: impl Into<Value>) -> Result<()> {
    let expected = expected.into();
    let seen = event.payload.pointer(&format!("/{path}"));
    holds(seen.unwrap_or(&Value::Null) == &expected, || {
        format!("`{path}` should be {expected}: {}", event.line)
    })
}

/// An error unless the event's member at `path` is this amount, in millisatoshi.
pub(super) fn amount(event: &Event, path: &str, expected: u64) -> Result<()> {
    let seen = event.payload.pointer(&format!("/{path}"));
    holds(seen.and_then(msat) == Some(expected), || {
        format!("`{path}` should be {expected} msat: {}", event.line)
    })
}

/// An error unless the events came in this order.
pub(super) fn in_order(events: &[&Event]) -> Result<()> {
    let ordered = events.is_sorted_by(|a, b| a.seq < b.seq);
    holds(ordered, || {
        let lines: Vec<&str> = events.iter().map(|event| event.line.as_str()).collect();
        format!("expected in this order:\n    {}", lines.join("\n    "))
    })
}

/// An error that says `otherwise` unless this holds.
pub(super) fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if condition {
        return Ok(());
    }
    Err(unexpected("scenario", otherwise()))
}

/// The member of an answer that must be a string.
pub(super) fn text<'a>(answer: &'a Value, path: &str) -> Result<&'a str> {
    let member = answer.pointer(&format!("/{path}"));
    member
        .and_then(Value::as_str)
        .ok_or_else(|| unexpected("a node", format!("no string `{path}` in {answer}")))
}

/// The hash of a preimage, both in hexadecimal.
pub(super) fn hash_of(preimage: &str) -> Result<String> {
    crate::hash_of(preimage)
        .ok_or_else(|| unexpected(preimage, "not a preimage of 32 bytes in hexadecimal"))
}

pub(super) fn unexpected(from: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Answer {
        from: from.into(),
        why: why.into(),
    }
}

/// How a payload differs from the table: a member that is missing or that the table
/// does not have.
pub(super) fn difference(topic: &Topic, payload: &Value) -> Option<String> {
    let Some(members) = payload.as_object() else {
        return Some("not an object".to_owned());
    };
    let missing = topic
        .fields
        .iter()
        .find(|field| field.presence == Presence::Always && !members.contains_key(field.name));
    if let Some(field) = missing {
        return Some(format!("`{}` is missing", field.name));
    }
    let unknown = members
        .keys()
        .find(|key| topic.fields.iter().all(|field| field.name != *key));
    unknown.map(|key| format!("`{key}` is not in the table"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_payload_is_compared_with_the_table() {
        let topic = Topic::find("invoice_creation").expect("a topic");
        let difference = |payload| difference(topic, &payload);
        assert_eq!(difference(json!({"preimage": "00", "label": "l"})), None);
        let missing = difference(json!({"preimage": "00"}));
        assert_eq!(missing.as_deref(), Some("`label` is missing"));
        let more = difference(json!({"preimage": "00", "label": "l", "x": 1}));
        assert_eq!(more.as_deref(), Some("`x` is not in the table"));
        assert!(difference(json!([])).is_some());
    }
}
