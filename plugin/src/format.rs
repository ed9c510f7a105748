//! How one notification is written: `json` or `text`, one line each.

use std::borrow::Cow;
use std::fmt::Write;
use std::str::FromStr;
use std::time::SystemTime;

use serde::Deserialize;

use crate::chunk::{Entry, Kind};
use crate::cursor::Epoch;
use crate::redact;

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{"seq":…,"epoch":…,"received_at":…,"node_id":…,"topic":…,"origin":…,"payload":{…}}`;
    /// with `"not_json":true` where the payload is a string instead, the text of
    /// one that is not JSON.
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
    /// Which numbers the records have.
    pub epoch: Epoch,
    /// The form.
    pub format: Format,
    /// Are secrets left out?
    pub redact: bool,
}

/// Appends one line, with its end.
pub fn line(out: &mut String, seq: u64, entry: &Entry, style: Style) {
    let payload = match (entry.kind, style.redact) {
        (Kind::NotJson, false) => Cow::Borrowed(entry.payload),
        (Kind::NotJson, true) => redact::not_json(entry.payload),
        (Kind::Event, true) => match one_line(entry.payload) {
            Cow::Borrowed(payload) => redact::payload(entry.topic, payload),
            Cow::Owned(payload) => Cow::Owned(redact::payload(entry.topic, &payload).into_owned()),
        },
        (Kind::Event | Kind::Own, _) => one_line(entry.payload),
    };
    match style.format {
        Format::Json => json(out, seq, &payload, entry, style),
        Format::Text => text(out, entry.topic, &one_line(&payload)),
    }
    out.push('\n');
}

/// A time as it is recorded: RFC 3339, UTC, microseconds. A clock that is set to a
/// time before 1970 shows 1970.
pub fn rfc3339(at: SystemTime) -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_micros(at.max(SystemTime::UNIX_EPOCH))
}

fn json(out: &mut String, seq: u64, payload: &str, entry: &Entry, style: Style) {
    let time = rfc3339(entry.received_at);
    let _ = write!(
        out,
        r#"{{"seq":{seq},"epoch":"{}","received_at":"{time}","node_id":"#,
        style.epoch
    );
    match style.node_id {
        Some(id) => quote(out, id),
        None => out.push_str("null"),
    }
    out.push_str(",\"topic\":");
    quote(out, entry.topic);
    if let Some(origin) = entry.origin {
        out.push_str(",\"origin\":");
        quote(out, origin);
    }
    if entry.kind == Kind::NotJson {
        out.push_str(",\"not_json\":true,\"payload\":");
        quote(out, payload);
    } else {
        out.push_str(",\"payload\":");
        out.push_str(payload);
    }
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

    use serde_json::json;

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
            epoch: Epoch::NONE,
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
            "{\"seq\":7,\"epoch\":\"0000000000000000\",\"received_at\":\"2023-11-14T22:13:20.123456Z\",\"node_id\":\"02ab\",\
             \"topic\":\"mine\",\"origin\":\"a \\\"b\\\".py\",\"payload\":{\"z\": 1,\"a\":0.10}}\n"
        );
    }

    #[test]
    fn a_payload_that_is_not_json_is_a_string() {
        let entry = Entry {
            received_at: UNIX_EPOCH - Duration::from_secs(1),
            kind: Kind::NotJson,
            topic: "mine",
            origin: None,
            payload: "{\"a\":007,\n\"b\":\"\t\"}",
        };
        let mut style = Style {
            node_id: None,
            epoch: Epoch::NONE,
            format: Format::Json,
            redact: true,
        };
        let mut out = String::new();
        line(&mut out, 1, &entry, style);
        let record: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(record["not_json"], true);
        assert_eq!(record["payload"], json!(entry.payload));
        // humantime knows no time before 1970.
        assert_eq!(record["received_at"], "1970-01-01T00:00:00.000000Z");
        style.format = Format::Text;
        out.clear();
        line(&mut out, 1, &entry, style);
        assert_eq!(out, "mine notification: {\"a\":007,\"b\":\"\t\"}\n");
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
