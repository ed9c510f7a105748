//! How one notification is written: `json` or `text`, one line each.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;

use serde::Deserialize;

use crate::queue::{Entry, Kind};
use crate::redact;

/// The topic of the line that stands where notifications were dropped.
pub const DROPPED: &str = "eventlog_dropped";

/// The topic of the first line of a file started on SIGHUP.
pub const REOPENED: &str = "eventlog_reopened";

/// The topic that an entry is recorded under.
pub fn topic<'a>(entry: &Entry<'a>) -> &'a str {
    match entry.kind {
        Kind::Event => entry.topic,
        Kind::Dropped(_) => DROPPED,
        Kind::Reopened => REOPENED,
    }
}

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"seq":…,"received_at":…,"node_id":…,"topic":…,"origin":…,"payload":{…}}`
    Json,
    /// `connect notification: {…}`
    Text,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("`{other}` is neither `json` nor `text`")),
        }
    }
}

impl Format {
    /// The option's value for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// The same for every line of a run.
#[derive(Debug, Clone, Copy)]
pub struct Style<'a> {
    /// The node's id, if lightningd answered `getinfo`.
    pub node_id: Option<&'a str>,
    /// The form.
    pub format: Format,
    /// Are secrets left out?
    pub redact: bool,
}

/// Appends one line, with its end.
pub fn line(out: &mut String, seq: u64, entry: &Entry, style: Style) {
    let topic = topic(entry);
    let payload = match entry.kind {
        Kind::Event => one_line(entry.payload),
        Kind::Dropped(count) => Cow::Owned(format!(r#"{{"count":{count}}}"#)),
        Kind::Reopened => Cow::Borrowed("{}"),
    };
    let payload = if style.redact {
        match payload {
            Cow::Borrowed(payload) => redact::payload(payload),
            Cow::Owned(payload) => Cow::Owned(redact::payload(&payload).into_owned()),
        }
    } else {
        payload
    };
    match style.format {
        Format::Json => json(out, seq, topic, &payload, entry, style.node_id),
        Format::Text => text(out, topic, &payload),
    }
    out.push('\n');
}

fn json(
    out: &mut String,
    seq: u64,
    topic: &str,
    payload: &str,
    entry: &Entry,
    node_id: Option<&str>,
) {
    let time = humantime::format_rfc3339_micros(entry.received_at);
    let _ = write!(out, r#"{{"seq":{seq},"received_at":"{time}","node_id":"#);
    match node_id {
        Some(id) => quote(out, id),
        None => out.push_str("null"),
    }
    out.push_str(",\"topic\":");
    quote(out, topic);
    if let Some(origin) = entry.origin {
        out.push_str(",\"origin\":");
        quote(out, origin);
    }
    out.push_str(",\"payload\":");
    out.push_str(payload);
    out.push('}');
}

/// The workshop's lines: a `disconnect` shows the peer's id alone.
fn text(out: &mut String, topic: &str, payload: &str) {
    #[derive(Deserialize)]
    struct Disconnect<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }

    out.extend(topic.chars().map(|c| if c.is_control() { ' ' } else { c }));
    out.push_str(" notification: ");
    if topic == "disconnect"
        && let Ok(disconnect) = serde_json::from_str::<Disconnect>(payload)
        && !disconnect.id.contains(char::is_control)
    {
        out.push_str(&disconnect.id);
    } else {
        out.push_str(payload);
    }
}

/// Appends a JSON string.
fn quote(out: &mut String, text: &str) {
    if text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_-./: ".contains(&b))
    {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// JSON may have line ends between its parts, and a plugin's `params` come as
/// that plugin wrote them: a record is one line.
fn one_line(json: &str) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_none() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(json.chars().filter(|c| !matches!(c, '\n' | '\r')).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn written(topic: &str, payload: &str, format: Format, redact: bool) -> String {
        let entry = Entry {
            received_at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            kind: Kind::Event,
            topic,
            origin: Some("a \"b\".py"),
            payload,
        };
        let style = Style {
            node_id: Some("02ab"),
            format,
            redact,
        };
        let mut out = String::new();
        line(&mut out, 7, &entry, style);
        out
    }

    #[test]
    fn a_json_line_keeps_the_payload_as_it_came() {
        assert_eq!(
            written("mine", "{\"z\": 1,\r\n\"a\":0.10}", Format::Json, true),
            "{\"seq\":7,\"received_at\":\"2023-11-14T22:13:20.123456Z\",\"node_id\":\"02ab\",\
             \"topic\":\"mine\",\"origin\":\"a \\\"b\\\".py\",\"payload\":{\"z\": 1,\"a\":0.10}}\n"
        );
    }

    #[test]
    fn text_lines_are_the_workshops() {
        let text = |topic, payload| written(topic, payload, Format::Text, false);
        assert_eq!(
            text("connect", r#"{"id":"02"}"#),
            "connect notification: {\"id\":\"02\"}\n"
        );
        assert_eq!(
            text("disconnect", r#"{"id":"02"}"#),
            "disconnect notification: 02\n"
        );
        assert_eq!(
            text("disconnect", r#"{"x":1}"#),
            "disconnect notification: {\"x\":1}\n"
        );
        assert_eq!(
            text("disconnect", r#"{"id":"a\nb"}"#),
            "disconnect notification: {\"id\":\"a\\nb\"}\n"
        );
        assert_eq!(text("a\nb", "1"), "a b notification: 1\n");
    }
}
