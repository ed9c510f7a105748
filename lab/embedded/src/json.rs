//! JSON as text: messages out of a byte stream, and what lightningd takes for JSON.
//!
//! lightningd's socket and its plugins' pipes carry JSON objects one after another,
//! with or without blank lines between them, and reads may cut them anywhere.
//! [`JsonStream`] finds the end of each one in a single pass, however small the
//! pieces in which it arrives.

use std::fmt;

use cln_wire::scan::{End, Scan, is_blank};
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
    scan: Scan,
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
            scan: Scan::default(),
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
        if self.scan.is_between() {
            let blank = self.buf[self.start..].iter().take_while(|b| is_blank(**b));
            self.start += blank.count();
            self.scanned = self.start;
        }
        let found = self.scan.advance(&self.buf[self.scanned..]);
        let unread = &self.buf[self.start..];
        // After the outermost `{` only a key or `}` may follow.
        let second = unread.iter().skip(1).find(|b| !is_blank(**b));
        let no_key = unread.starts_with(b"{") && second.is_some_and(|b| !b"\"}".contains(b));
        match found {
            Some((length, End::Message)) if !no_key => {
                let end = self.scanned + length;
                let message = self.buf[self.start..end].to_vec();
                (self.start, self.scanned) = (end, end);
                Ok(Some(message))
            }
            None if !self.scan.is_lost() && !no_key => {
                self.scanned = self.buf.len();
                if unread.len() > self.limit {
                    return Err(Garbage::TooLong(self.limit));
                }
                Ok(None)
            }
            _ => Err(Garbage::NotJson(self.quote())),
        }
    }

    /// The unread bytes, for an error message.
    pub fn quote(&self) -> String {
        quote(&self.buf[self.start..])
    }
}

/// Makes valid JSON of what lightningd's parser accepts beyond JSON: a bare word that
/// starts like a number, `true`, `false` or `null` and continues otherwise, such as
/// the `127.0.0.1` that `lightning-cli` sends, which becomes a string; and control
/// characters in a string. `None` if the result is not valid JSON, either.
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
        if first == '"' {
            for c in piece.chars() {
                match c {
                    '\0'..'\x20' => out += &format!("\\u{:04x}", u32::from(c)),
                    c => out.push(c),
                }
            }
        } else if len > 1 && serde_json::from_str::<&RawValue>(piece).is_err() {
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

/// The value that lightningd takes a text for; `null` if it takes it for none.
pub fn value(text: &str) -> serde_json::Value {
    let strict = serde_json::from_str(text).ok();
    let read = || serde_json::from_str(&lenient(text)?).ok();
    strict.or_else(read).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use cln_wire::Members;
    use proptest::prelude::*;

    use super::*;

    /// Texts of which messages consist, and others.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&str; 20] = [
            "{\"id\":",
            "\"id\"",
            "\"a\"",
            "\"params\":",
            "\"result\":",
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "1",
            "127.0.0.1",
            "1e400",
            "\\",
            "\\ud800",
            "\t",
            "\n\n",
            "null",
            "\u{e9}",
        ];
        let piece = prop_oneof![
            8 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_text_makes_lenient_panic(text in "[\\[\\]{}\"\\\\a-z0-9.:, é-]{0,40}") {
            let _ = lenient(&text);
        }

        /// Whatever a plugin or client writes: no message is empty, and the id of one that
        /// is JSON can be replaced.
        #[test]
        fn any_stream_is_read(bytes in stream(), cut in 1_usize..16) {
            let mut stream = JsonStream::with_limit(64);
            'outer: for piece in bytes.chunks(cut) {
                stream.push(piece);
                loop {
                    match stream.next_message() {
                        Ok(Some(message)) => {
                            prop_assert!(message.len() >= 2);
                            let Ok(text) = std::str::from_utf8(&message) else { continue };
                            let Some(members) = Members::read(text) else { continue };
                            for name in ["params", "result"] {
                                value(members.get(name).unwrap_or_default());
                            }
                            let json = serde_json::from_str::<&RawValue>(text);
                            let (Ok(_), Some(id)) = (json, members.get("id")) else { continue };
                            let replaced = splice(text, id, "42");
                            let replaced = Members::read(&replaced);
                            prop_assert_eq!(replaced.and_then(|all| all.get("id")), Some("42"));
                        }
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
            splice(text, id, "42"),
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
            ("[\"a\tb\"]", Some(r#"["a\u0009b"]"#)),
            (r#"{not json}"#, None),
            (r#"["x]"#, None),
            (r#"[xyz]"#, None),
        ] {
            assert_eq!(lenient(text).as_deref(), want, "{text}");
        }
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
