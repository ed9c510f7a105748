//! One message as lightningd wrote it: what kind it is, and for a
//! notification its topic, its origin and its payload in either wire shape.

use std::borrow::Cow;
use std::fmt;

use cln_topics::Topic;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A message from lightningd to a plugin.
#[derive(Debug)]
pub enum Message<'a> {
    /// It has an `id`: an answer is owed.
    Request(Request<'a>),
    /// It has none.
    Notification(Notification<'a>),
}

/// A request: only the parts needed to pass it on or to refuse it.
#[derive(Debug)]
pub struct Request<'a> {
    /// The `id`, as it stands in the message.
    pub id: &'a str,
    /// The method's name.
    pub method: Cow<'a, str>,
    /// The `params`, as JSON text.
    pub params: &'a str,
}

/// A notification. The texts are slices of the message: nothing is rounded,
/// reordered or lost on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification<'a> {
    /// The topic: `connect`.
    pub topic: Cow<'a, str>,
    /// The plugin that sent it, for a topic that is not lightningd's own.
    pub origin: Option<Cow<'a, str>>,
    /// Its payload, as JSON text.
    pub payload: &'a str,
    /// Is that JSON? lightningd takes some from a plugin that is not.
    pub is_json: bool,
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not an object with a `method`.
    #[error("not a JSON-RPC message: {0}")]
    Malformed(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    origin: Option<String>,
}

/// Reads one message.
///
/// # Errors
/// [`Error::Malformed`] if it is not a JSON object with a `method`.
pub fn parse(message: &[u8]) -> Result<Message<'_>, Error> {
    let envelope: Envelope = serde_json::from_slice(message)?;
    Ok(match envelope.id {
        Some(id) => Message::Request(Request {
            id: id.get(),
            method: envelope.method,
            params: envelope.params.map_or("{}", RawValue::get),
        }),
        None => Message::Notification(Notification::read(
            envelope.method,
            envelope.origin.map(Cow::Owned),
            envelope.params.map_or("{}", RawValue::get),
        )),
    })
}

impl<'a> Notification<'a> {
    /// Finds the payload within `params`. The shapes, by version:
    ///
    /// - today: `params[topic]`;
    /// - v23.02: `params` itself (`connect`, `disconnect`), `params.block` of
    ///   `block_added`, and for a topic of another plugin `params.payload` beside
    ///   `params.origin`;
    /// - v23.08 to v24.11: flat and nested at once, where the nested one counts;
    /// - from v25.09 on a plugin's `params` are its own, `origin` beside them, and
    ///   with deprecated APIs all three members within them as well.
    ///
    /// A plugin may wrap its payload in the topic's name as lightningd does
    /// (cln-plugin does it): the payload is what is within, in every version.
    fn read(topic: Cow<'a, str>, origin: Option<Cow<'a, str>>, params: &'a str) -> Self {
        let members = Members::find(params, &topic);
        let wrapped = match &origin {
            // Wrapped by lightningd: it put exactly these there.
            None => members.count == 2,
            Some(_) => members.count == 3 && members.topic.is_some() && members.origin == origin,
        };
        let (origin, payload) = match (origin, members) {
            (
                origin,
                Members {
                    origin: Some(inner),
                    payload: Some(payload),
                    topic,
                    ..
                },
                // What lightningd itself put under the topic's name is today's shape.
            ) if wrapped => (origin.or(Some(inner)), topic.unwrap_or(payload)),
            // lightningd's own.
            (None, members) => {
                let origin = members.topic.and(members.origin);
                return Self::json(topic, origin, members.topic.unwrap_or(params));
            }
            (origin, _) => (origin, params),
        };
        let inner = Members::find(payload, &topic);
        let payload = inner.topic.filter(|_| inner.count == 1).unwrap_or(payload);
        Self::json(topic, origin, payload)
    }

    /// What lightningd hands on although it is not JSON; the payload is a text.
    /// `None` if it has no method.
    pub fn not_json(message: &cln_wire::Members<'a>) -> Option<Self> {
        let params = message.get("params").unwrap_or_default();
        let origin = message.text("origin");
        // Wrapped by lightningd, before v25.09.
        let inner = cln_wire::Members::read(params).filter(|m| origin.is_none() && m.0.len() == 2);
        let inner = inner.and_then(|inner| Some((inner.text("origin")?, inner.get("payload")?)));
        let (origin, payload) = match inner {
            Some((origin, payload)) => (Some(origin), payload),
            None => (origin, params),
        };
        Some(Self {
            topic: message.text("method")?,
            origin,
            payload,
            is_json: false,
        })
    }

    fn json(topic: Cow<'a, str>, origin: Option<Cow<'a, str>>, payload: &'a str) -> Self {
        Self {
            topic,
            origin,
            payload,
            is_json: true,
        }
    }
}

/// The members of `params` that decide which shape it has.
#[derive(Default)]
struct Members<'a> {
    /// `params[topic]`, if that is an object.
    topic: Option<&'a str>,
    /// `params.origin`, if that is a string and `params.payload` is there.
    origin: Option<Cow<'a, str>>,
    payload: Option<&'a str>,
    count: usize,
}

impl<'a> Members<'a> {
    fn find(params: &'a str, topic: &str) -> Self {
        let mut deserializer = serde_json::Deserializer::from_str(params);
        let mut members = deserializer
            .deserialize_map(MembersVisitor { topic })
            .unwrap_or_default(); // for example an array: then it is the payload
        if members.payload.is_none() {
            members.origin = None;
        }
        members
    }
}

struct MembersVisitor<'t> {
    topic: &'t str,
}

impl<'de> Visitor<'de> for MembersVisitor<'_> {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(Key(key)) = map.next_key()? {
            members.count += 1;
            let other = members.topic.is_none() && Topic::other_name(self.topic) == Some(&*key);
            if key == self.topic || other {
                let value = map.next_value::<&RawValue>()?.get();
                members.topic = value.starts_with('{').then_some(value);
                // A plugin may call its topic `payload` or `origin`.
            } else if key == "payload" {
                members.payload = Some(map.next_value::<&RawValue>()?.get());
            } else if key == "origin" {
                let value = map.next_value::<&RawValue>()?.get();
                members.origin = serde_json::from_str(value).ok().map(Cow::Owned);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(members)
    }
}

/// An object's key, borrowed where it has no escapes.
pub(crate) struct Key<'a>(pub(crate) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(message: &str) -> Notification<'_> {
        match parse(message.as_bytes()).unwrap() {
            Message::Notification(notification) => notification,
            Message::Request(request) => panic!("{request:?}"),
        }
    }

    #[test]
    fn both_wire_shapes_give_the_same() {
        let nested = read(
            r#"{"jsonrpc":"2.0","method":"disconnect","params":{"disconnect":{"id":"02aa"}}}"#,
        );
        let flat = read(r#"{"jsonrpc":"2.0","method":"disconnect","params":{"id":"02aa"}}"#);
        let both =
            read(r#"{"method":"disconnect","params":{"id":"02aa","disconnect":{"id":"02aa"}}}"#);
        assert_eq!(nested.payload, r#"{"id":"02aa"}"#);
        assert_eq!(nested, flat);
        assert_eq!(nested, both);
    }

    #[test]
    fn a_block_in_each_shape_it_had() {
        let block = r#"{"hash":"00aa","height":72}"#;
        for params in [
            format!(r#"{{"block":{block}}}"#),
            format!(r#"{{"block_added":{block}}}"#),
            format!(r#"{{"block":{{}},"block_added":{block}}}"#),
            format!(r#"{{"block_added":{block},"block":{{}}}}"#),
        ] {
            let message = format!(r#"{{"method":"block_added","params":{params}}}"#);
            assert_eq!(read(&message).payload, block, "{params}");
        }
        // Another plugin's topic may have one of its own.
        let custom = read(r#"{"method":"mine","params":{"block":{"height":1}}}"#);
        assert_eq!(custom.payload, r#"{"block":{"height":1}}"#);
    }

    #[test]
    fn custom_topics_old_and_new() {
        let old = read(r#"{"method":"mine","params":{"origin":"a.py","payload":{"a": 1}}}"#);
        let new = read(r#"{"method":"mine","origin":"a.py","params":{"a": 1}}"#);
        assert_eq!(old, new);
        assert_eq!(new.origin.as_deref(), Some("a.py"));
        assert_eq!(new.payload, r#"{"a": 1}"#);
        // Deprecated form beside the new one, as v25.09 to v26.06 send it.
        let three = read(
            r#"{"method":"mine","origin":"a","params":{"origin":"a","payload":{"a":1},"mine":{"a":1}}}"#,
        );
        assert_eq!(three.payload, r#"{"a":1}"#);
        // One that wraps its payload itself, in each version.
        for wrapped in [
            r#"{"method":"mine","params":{"origin":"a.py","payload":{"mine":{"a": 1}}}}"#,
            r#"{"method":"mine","origin":"a.py","params":{"mine":{"a": 1}}}"#,
            r#"{"method":"mine","origin":"a.py","params":{"origin":"a.py","payload":{"mine":{"a": 1}},"mine":{"a": 1}}}"#,
        ] {
            assert_eq!(read(wrapped), new, "{wrapped}");
        }
        // The two may differ, as those of channel_hint_update do.
        let hint = read(
            r#"{"method":"hint","origin":"pay","params":{"origin":"pay","payload":{"a":{"b":1}},"hint":{"b":1}}}"#,
        );
        assert_eq!(hint.payload, r#"{"b":1}"#);
        let hint = r#"{"method":"channel_hint_update","params":{"origin":"pay","payload":{"channel_hint":{"b":1}}}}"#;
        assert_eq!(read(hint).payload, r#"{"b":1}"#);
        // Nothing beside it gets lost.
        let beside = read(r#"{"method":"mine","origin":"a","params":{"mine":{"a":1},"b":2}}"#);
        assert_eq!(beside.payload, r#"{"mine":{"a":1},"b":2}"#);
        // A plugin's own `origin` and `payload` are left alone.
        let own = r#"{"method":"mine","origin":"a","params":{"origin":"x","payload":2,"mine":{}}}"#;
        assert_eq!(read(own).payload, r#"{"origin":"x","payload":2,"mine":{}}"#);
        let own = read(r#"{"method":"mine","origin":"a","params":{"origin":"x","payload":2}}"#);
        assert_eq!(own.payload, r#"{"origin":"x","payload":2}"#);
    }

    #[test]
    fn odd_params_are_kept_as_they_are() {
        assert_eq!(read(r#"{"method":"m"}"#).payload, "{}");
        assert_eq!(read(r#"{"method":"m","params":[1,2]}"#).payload, "[1,2]");
        assert_eq!(
            read(r#"{"method":"m","params":{"m":3}}"#).payload,
            r#"{"m":3}"#
        );
        assert_eq!(
            read(r#"{"method":"m","params":{"m":{"n":1e400,"n":0.10}}}"#).payload,
            r#"{"n":1e400,"n":0.10}"#
        );
    }

    #[test]
    fn requests_and_malformed_messages_are_recognized() {
        let Message::Request(request) =
            parse(br#"{"jsonrpc":"2.0","id":"cln:init#1","method":"init"}"#).unwrap()
        else {
            panic!("a request");
        };
        assert_eq!(
            (request.id, &*request.method, request.params),
            ("\"cln:init#1\"", "init", "{}")
        );
        for bad in [
            &b"{}"[..],
            b"",
            b"[1]",
            b"{\"method\":1}",
            b"\xff",
            b"{\"method\":\"x\"} y",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Any JSON value, not too large.
    pub(crate) fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "[0-9a-f]{64}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            4 => ".{0,8}",
            1 => "(connect|mine|origin|payload|method|params|id)",
            1 => "(preimage|payment_preimage|payment_secret|secret)",
        ];
        leaf.prop_recursive(4, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_are_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn any_json_is_a_message_or_is_not(value in json()) {
            let _ = parse(value.to_string().as_bytes());
        }

        #[test]
        fn any_params_give_a_payload_that_is_part_of_them(
            topic in "(connect|mine|origin|payload)",
            origin in prop::option::of("[a-z.]{1,9}"),
            params in json(),
        ) {
            let mut message = serde_json::json!({"jsonrpc": "2.0", "method": topic});
            if let Some(origin) = &origin {
                message["origin"] = Value::from(origin.as_str());
            }
            message["params"] = params.clone();
            let text = message.to_string();
            let read = read(&text);
            prop_assert_eq!(&*read.topic, topic.as_str());
            let payload: Value = serde_json::from_str(read.payload).unwrap();
            let none = Value::Object(Default::default());
            let whole = if params.is_null() { &none } else { &params };
            let within = [whole, &params[&topic], &params["payload"], &params["payload"][&topic]];
            prop_assert!(within.contains(&&payload), "{}", payload);
            let count = params.as_object().map_or(0, serde_json::Map::len);
            if count != 2 && count != 3 {
                // No shape but a payload wrapped in the topic's name.
                let wrapped = params[&topic].is_object() && (origin.is_none() || count == 1);
                prop_assert_eq!(&payload, if wrapped { &params[&topic] } else { whole });
            }
            if origin.is_some() {
                prop_assert_eq!(read.origin.as_deref(), origin.as_deref());
            }
        }
    }
}
