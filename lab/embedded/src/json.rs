//! JSON as text: messages out of a byte stream, members of an object as written.
//!
//! lightningd's socket and its plugins' pipes carry JSON objects one after another,
//! with or without blank lines between them, and reads may cut them anywhere.
//! [`JsonStream`] finds the end of each one in a single pass, however small the
//! pieces in which it arrives.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The longest message that is accepted, in bytes. lightningd has no limit; without
/// one, a client or plugin that never closes its brace would use up all memory.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

/// At most this much of a message is quoted in an error, in bytes.
const QUOTE: usize = 1000;

/// Why a stream cannot be read further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// This cannot be the start of a JSON object.
    NotJson(String),
    /// A message is longer than this many bytes.
    TooLong(usize),
}

impl fmt::Display for Garbage {
    /// In lightningd's words where it has any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbage::NotJson(seen) => write!(f, "Failed to parse RPC JSON response '{seen}'"),
            Garbage::TooLong(limit) => write!(f, "JSON message of more than {limit} bytes"),
        }
    }
}

/// An incremental splitter: [`push`](Self::push) bytes in, take
/// [`next_message`](Self::next_message) out until it gives `None`.
#[derive(Debug)]
pub struct JsonStream {
    buf: Vec<u8>,
    /// Where the next message starts, or the whitespace before it.
    start: usize,
    /// Everything before this has been scanned.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// Just after the outermost `{`, where only a key or `}` may follow.
    expect_key: bool,
    limit: usize,
}

impl Default for JsonStream {
    fn default() -> Self {
        Self::with_limit(MAX_MESSAGE)
    }
}

impl JsonStream {
    /// A stream whose messages may be at most `limit` bytes long.
    fn with_limit(limit: usize) -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            expect_key: false,
            limit,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole message, without the whitespace around it; `None` if more bytes
    /// are needed. It is balanced, not necessarily valid JSON.
    ///
    /// # Errors
    /// No message can follow from what was read. The stream stays where it is: there
    /// is no way to find the next message.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, Garbage> {
        while self.scanned < self.buf.len() {
            let byte = self.buf[self.scanned];
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.scanned += 1;
                        self.start = self.scanned;
                        continue;
                    }
                    b'{' | b'[' => {}
                    _ => return Err(Garbage::NotJson(self.quote())),
                }
            }
            if self.expect_key && !byte.is_ascii_whitespace() {
                if byte != b'"' && byte != b'}' {
                    return Err(Garbage::NotJson(self.quote()));
                }
                self.expect_key = false;
            }
            self.scanned += 1;
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' {
                    self.escaped = true;
                } else if byte == b'"' {
                    self.in_string = false;
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.expect_key = self.depth == 0 && byte == b'{';
                    self.depth += 1;
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let message = self.buf[self.start..self.scanned].to_vec();
                        self.start = self.scanned;
                        return Ok(Some(message));
                    }
                }
                _ => {}
            }
        }
        if self.buf.len() - self.start > self.limit {
            return Err(Garbage::TooLong(self.limit));
        }
        Ok(None)
    }

    /// The unread bytes, for an error message.
    pub fn quote(&self) -> String {
        quote(&self.buf[self.start..])
    }
}

/// Makes valid JSON of what lightningd's parser accepts beyond JSON: a bare word that
/// starts like a number, `true`, `false` or `null` and continues otherwise, such as
/// the `127.0.0.1` that `lightning-cli` sends. Each becomes a string; `None` if the
/// result is not valid JSON, either.
pub fn lenient(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => string_len(rest)?,
            '-' | '0'..='9' | 't' | 'f' | 'n' => rest
                .find(|c: char| c.is_ascii_whitespace() || ",]}:\"".contains(c))
                .unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(len);
        if len > 1 && first != '"' && serde_json::from_str::<&RawValue>(piece).is_err() {
            out += &serde_json::Value::from(piece).to_string();
        } else {
            out += piece;
        }
        rest = after;
    }
    serde_json::from_str::<&RawValue>(&out)
        .is_ok()
        .then_some(out)
}

/// The length of the string that `text` starts with, quotes included.
fn string_len(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// The start of `bytes` as text.
pub fn quote(bytes: &[u8]) -> String {
    match bytes.get(..QUOTE) {
        Some(head) if bytes.len() > QUOTE => {
            format!("{}… ({} bytes)", String::from_utf8_lossy(head), bytes.len())
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// `whole` with `part`, a slice of it, replaced. The rest stays byte for byte as it
/// was written, as in lightningd with a plugin's answers.
pub fn splice(whole: &str, part: &str, with: &str) -> String {
    let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match (whole.get(..at), whole.get(at.wrapping_add(part.len())..)) {
        (Some(before), Some(after)) => format!("{before}{with}{after}"),
        // Not a slice of it.
        _ => whole.to_owned(),
    }
}

/// An object's members as they were written: in order, values raw, duplicates kept.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// # Errors
    /// `text` is not a valid JSON object.
    pub fn read(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The first member of this name.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let members = std::iter::from_fn(|| map.next_entry().transpose());
                let named = |member: Result<(Key<'de>, _), _>| member.map(|(Key(n), v)| (n, v));
                members.map(named).collect::<Result<_, _>>().map(Members)
            }
        }
        d.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[\\\\\"{}\\[\\]\n ]*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|v| serde_json::Value::Object(v.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Any values, with any whitespace between them, cut anywhere, come out as
        /// they went in.
        #[test]
        fn what_goes_in_comes_out(
            values in prop::collection::vec(value().prop_map(|v| serde_json::json!({ "v": v })), 0..8),
            blank in "[ \n\r\t]{0,3}",
            cut in 1usize..64,
            pretty: bool,
        ) {
            let mut text = blank.clone();
            for v in &values {
                text += &if pretty { serde_json::to_string_pretty(v).unwrap() } else { v.to_string() };
                text += &blank;
            }
            let mut stream = JsonStream::default();
            let mut seen = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                stream.push(piece);
                while let Some(message) = stream.next_message().unwrap() {
                    seen.push(serde_json::from_slice::<serde_json::Value>(&message).unwrap());
                }
            }
            prop_assert_eq!(seen, values);
        }

        #[test]
        fn no_text_makes_lenient_panic(text in "[\\[\\]{}\"\\\\a-z0-9.:, é-]{0,40}") {
            let _ = lenient(&text);
        }

        /// No message is empty, either.
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, cut in 1usize..16) {
            let mut stream = JsonStream::with_limit(64);
            'outer: for piece in bytes.chunks(cut) {
                stream.push(piece);
                loop {
                    match stream.next_message() {
                        Ok(Some(message)) => prop_assert!(message.len() >= 2),
                        Ok(None) => break,
                        Err(_) => break 'outer,
                    }
                }
            }
        }
    }

    #[test]
    fn splice_replaces_only_the_id() {
        let text = r#"{"jsonrpc": "2.0", "result": {"id": "x"},  "id" : "cln:x#1" }"#;
        let id = Members::read(text).unwrap().get("id").unwrap();
        assert_eq!(
            splice(text, id.get(), "42"),
            r#"{"jsonrpc": "2.0", "result": {"id": "x"},  "id" : 42 }"#
        );
    }

    #[test]
    fn bare_words_become_strings() {
        for (text, want) in [
            (r#"[ 127.0.0.1, 5 ]"#, Some(r#"[ "127.0.0.1", 5 ]"#)),
            (r#"{"a": 1xyz}"#, Some(r#"{"a": "1xyz"}"#)),
            (r#"{"1.2.3": "1.2.3\" "}"#, Some(r#"{"1.2.3": "1.2.3\" "}"#)),
            (r#"[true, nonsense]"#, Some(r#"[true, "nonsense"]"#)),
            (r#"{not json}"#, None),
            (r#"["x]"#, None),
            (r#"[xyz]"#, None),
        ] {
            assert_eq!(lenient(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn members_as_written() {
        let members = Members::read(r#"{"a": 1.0, "b" : null, "a":"x\\u0041"}"#).unwrap();
        let seen: Vec<_> = members.0.iter().map(|(n, v)| (&**n, v.get())).collect();
        assert_eq!(seen, [("a", "1.0"), ("b", "null"), ("a", r#""x\\u0041""#)]);
        assert_eq!(members.get("b").unwrap().get(), "null");
        Members::read("[1]").unwrap_err();
    }

    #[test]
    fn garbage_is_refused_at_once() {
        for text in ["Hello, world\n", "{not json}\n", "}", "42", "\"x\"", "{ 1"] {
            let mut stream = JsonStream::default();
            stream.push(text.as_bytes());
            assert_eq!(
                stream.next_message(),
                Err(Garbage::NotJson(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn an_endless_message_is_refused_at_the_limit() {
        let mut stream = JsonStream::with_limit(1000);
        stream.push(b"{\"a\":\"");
        for _ in 0..99 {
            stream.push(&[b'x'; 10]);
            assert_eq!(stream.next_message(), Ok(None));
        }
        stream.push(&[b'x'; 10]);
        assert_eq!(stream.next_message(), Err(Garbage::TooLong(1000)));
    }
}
