//! Which message of a topic or hook a message is.

use cln_lab::corpus::{Kind, Message, Shape};
use cln_topics::Topic;
use serde_json::Value;

/// The members whose values distinguish the messages of a name. Messages that differ in
/// nothing else but their shape are distinguished by that.
const DISTINGUISH: &[(&str, &[&str])] = &[
    ("getmanifest", &["allow-deprecated-apis"]),
    ("init", &["configuration/startup"]),
    ("connect", &["direction"]),
    ("warning", &["level"]),
    ("log", &["level"]),
    ("forward_event", &["status"]),
    ("sendpay_failure", &["code"]),
    // Before v25.09 a list, whose first is the kind.
    ("coin_movement", &["type", "primary_tag", "tags/0"]),
    ("channel_state_changed", &["old_state", "new_state"]),
    ("pay_part_end", &["status"]),
    ("deprecated_oneshot", &["deprecated_ok"]),
    ("peer_connected", &["peer/direction", "direction"]),
];

/// The values of the members that distinguish a message from others of its name.
pub(super) fn form(name: &str, message: &Value) -> String {
    let params = &message["params"];
    let names = [Some(name), Topic::other_name(name)];
    let nested = names.iter().flatten().filter_map(|name| params.get(name));
    let payload = nested
        .filter(|value| value.is_object())
        .chain([params])
        .next();
    let payload = payload.unwrap_or(params);
    let members = DISTINGUISH.iter().find(|(of, _)| *of == name);
    let values = members.iter().flat_map(|(_, members)| members.iter());
    let mut words: Vec<String> = values
        .filter_map(|member| {
            let value = payload.pointer(&format!("/{member}"))?;
            Some(match value {
                // Before v26.03 the first state has this in place of one before.
                Value::String(text) if text == "unknown" => return None,
                Value::String(text) => text.clone(),
                Value::Bool(_) => format!("{}={value}", member.rsplit('/').next()?),
                _ => value.to_string(),
            })
        })
        .collect();
    words.dedup();
    // The first has every statement that makes the database.
    if let Some(writes) = payload["writes"].as_array().filter(|_| name == "db_write") {
        let form = if writes.len() == 1 { "one" } else { "many" };
        words.push(form.to_owned());
    }
    words.join("-")
}

/// The form of a message of the corpus, without what its shape adds.
pub(super) fn form_of(message: &Message) -> String {
    form(&message.name, &message.json())
}

/// The shape of a message, without members that are anybody's own: options, and what a
/// client gave to a method.
pub(super) fn shape_of(message: &Message) -> Shape {
    let json = message.json();
    let shape = Shape::of(&json);
    match (message.kind, message.name.as_str()) {
        (Kind::Hook, "rpc_command") => shape
            .without("params.rpc_command.params")
            .without("params.rpc_command.rpc_command.params"),
        (Kind::Init, _) => shape.without("params.options"),
        (Kind::Request, super::witness::NAME) => shape.without("params"),
        _ => shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forms_are_values_of_members_in_either_shape() {
        let connect = |params| form("connect", &json!({"method": "connect", "params": params}));
        assert_eq!(connect(json!({"connect": {"direction": "in"}})), "in");
        assert_eq!(connect(json!({"direction": "out"})), "out");
        let moved =
            json!({"params": {"coin_movement": {"type": "chain_mvt", "tags": ["deposit"]}}});
        assert_eq!(form("coin_movement", &moved), "chain_mvt-deposit");
        let both = json!({"params": {"coin_movement":
            {"type": "chain_mvt", "primary_tag": "deposit", "tags": ["deposit"]}}});
        assert_eq!(form("coin_movement", &both), "chain_mvt-deposit");
        assert_eq!(form("disconnect", &json!({"params": {"id": "02"}})), "");
    }
}
