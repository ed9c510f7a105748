//! JSON-RPC messages on a stream, as lightningd, its clients and its plugins
//! exchange them.
//!
//! lightningd and its client libraries end each message with an empty line, but
//! lightningd accepts messages without one, and so does this: a message ends where
//! its JSON ends.

use std::io::{Error, ErrorKind, Result};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest message, in bytes.
const LONGEST: usize = 64 << 20;
/// Errors quote this many characters of what is wrong.
const QUOTED: usize = 200;

/// Cuts a stream of bytes into messages, each an object or an array.
///
/// It looks for ends as lightningd's own parser does, since lightningd hands on what
/// others write: a bare word such as `127.0.0.1` continues up to a blank, a comma or a
/// closing bracket, whatever else is in it. After what cannot be a message, the next
/// empty line is where messages are looked for again.
///
/// ```
/// let mut messages = cln_lab::Messages::default();
/// messages.push(b"{\"id\": 1}\n\n{\"id\"");
/// let first: Option<serde_json::Value> = messages.next()?;
/// assert_eq!(first, Some(serde_json::json!({"id": 1})));
/// assert!(messages.next::<serde_json::Value>()?.is_none());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug, Default)]
pub struct Messages {
    buffer: Vec<u8>,
    /// How many bytes of it were looked at.
    looked_at: usize,
    /// Where that ends.
    place: Place,
    /// The open brackets there: true for `{`.
    open: Vec<bool>,
}

/// A place in the stream.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    #[default]
    BetweenMessages,
    BetweenTokens,
    Text,
    /// In a string, after a backslash.
    Escape,
    /// In a number, `true`, `null`, or what passes for one.
    Word,
    /// In what is no message, until an empty line.
    Lost,
    /// There, after a line's end.
    LostLine,
}

impl Messages {
    /// Adds bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the first message; `None` if its end is not here yet. Its type can be a
    /// [`Value`], or a `Box<RawValue>`, which is the text itself.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] if it is not JSON, not of this type, or longer than
    /// 64 MiB. It is left out then: the next call continues after it.
    // Not an iterator: what is `None` now may be here later.
    #[allow(clippy::should_implement_trait)]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        while let Some(&byte) = self.buffer.get(self.looked_at) {
            self.looked_at += 1;
            let was = self.place;
            let closed = self.step(byte);
            if closed {
                let message = serde_json::from_slice(&self.buffer[..self.looked_at]);
                let message = message.map_err(|error| self.invalid(self.looked_at, &error));
                self.forget();
                return message.map(Some);
            }
            let is_lost = |place| matches!(place, Place::Lost | Place::LostLine);
            if is_lost(self.place) && !is_lost(was) {
                return Err(self.lose("it does not start a message, or continue one"));
            }
            if was == Place::LostLine && self.place == Place::BetweenMessages {
                self.forget();
            }
        }
        if matches!(
            self.place,
            Place::BetweenMessages | Place::Lost | Place::LostLine
        ) {
            self.forget();
        } else if self.buffer.len() > LONGEST {
            return Err(self.lose("it is longer than 64 MiB"));
        }
        Ok(None)
    }

    /// Continues at the next empty line.
    fn lose(&mut self, why: &str) -> Error {
        let error = self.invalid(self.buffer.len(), &why);
        self.place = Place::Lost;
        self.open.clear();
        self.forget();
        error
    }

    /// Continues with this byte; true if it ends a message.
    fn step(&mut self, byte: u8) -> bool {
        let blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.place = match (self.place, byte) {
            (Place::BetweenMessages, _) if blank => Place::BetweenMessages,
            (Place::BetweenMessages | Place::BetweenTokens, b'{' | b'[') => {
                self.open.push(byte == b'{');
                Place::BetweenTokens
            }
            (Place::BetweenTokens | Place::Word, b'}' | b']') => {
                let matches = self.open.pop() == Some(byte == b'}');
                match (matches, self.open.is_empty()) {
                    (true, true) => Place::BetweenMessages,
                    (true, false) => Place::BetweenTokens,
                    (false, _) => Place::Lost,
                }
            }
            (Place::BetweenTokens, b'"') => Place::Text,
            (Place::BetweenTokens, b',' | b':') => Place::BetweenTokens,
            (Place::BetweenTokens, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => Place::Word,
            (Place::Word, b',') => Place::BetweenTokens,
            (Place::BetweenTokens | Place::Word, _) if blank => Place::BetweenTokens,
            (Place::Word, b' '..=b'~') => Place::Word,
            (Place::Text, b'"') => Place::BetweenTokens,
            (Place::Text, b'\\') => Place::Escape,
            (Place::Text | Place::Escape, _) => Place::Text,
            (Place::LostLine, b'\n') => Place::BetweenMessages,
            (Place::Lost, b'\n') => Place::LostLine,
            _ => Place::Lost,
        };
        self.place == Place::BetweenMessages && matches!(byte, b'}' | b']')
    }

    /// Forgets what was looked at.
    fn forget(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.looked_at));
    }

    /// What came of a message that is not complete.
    pub fn rest(&self) -> String {
        String::from_utf8_lossy(&self.buffer).trim().to_owned()
    }

    /// An error that quotes the start of the buffer's first `length` bytes.
    fn invalid(&self, length: usize, why: &dyn std::fmt::Display) -> Error {
        let start = &self.buffer[..length.min(4 * QUOTED)];
        let text = String::from_utf8_lossy(start);
        let quoted: String = text.trim().chars().take(QUOTED).collect();
        let cut = if quoted.len() < length.min(text.trim().len()) {
            "…"
        } else {
            ""
        };
        let why = format!("this is not JSON: `{quoted}{cut}`: {why}");
        Error::new(ErrorKind::InvalidData, why)
    }
}

/// Reads [`Messages`] from an async stream.
#[derive(Debug)]
pub struct MessageReader<R> {
    reader: R,
    messages: Messages,
}

impl<R: AsyncRead + Unpin> MessageReader<R> {
    /// Reads from here on.
    pub fn new(reader: R) -> MessageReader<R> {
        MessageReader {
            reader,
            messages: Messages::default(),
        }
    }

    /// The next message; `None` at the end of the stream. Safe to cancel: what was
    /// read stays.
    ///
    /// # Errors
    /// The stream's; as [`Messages::next`], also if the stream ends within a message.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        loop {
            if let Some(message) = self.messages.next()? {
                return Ok(Some(message));
            }
            self.messages.buffer.reserve(16 * 1024);
            if self.reader.read_buf(&mut self.messages.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.messages);
                return if rest.open.is_empty() {
                    Ok(None)
                } else {
                    Err(rest.invalid(rest.buffer.len(), &"the stream ended within it"))
                };
            }
        }
    }
}

/// Writes a message and the empty line that ends it.
pub(crate) async fn send<W: AsyncWrite + Unpin>(writer: &mut W, message: &Value) -> Result<()> {
    let mut bytes = message.to_string().into_bytes();
    bytes.extend_from_slice(b"\n\n");
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// A notification's payload: `params.TOPIC` if that is an object, else `params`, as
/// lightningd sent it before v23.08 and as other plugins send theirs. Before v23.08
/// the object of `block_added` was named `block`.
pub(crate) fn payload_of(topic: &str, mut params: Value) -> Value {
    let old_name = (topic == "block_added").then_some("block");
    for name in [Some(topic), old_name].into_iter().flatten() {
        if let Some(nested) = params.get_mut(name).filter(|value| value.is_object()) {
            return nested.take();
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_end_where_their_json_ends() {
        let pieces = [
            "{\"a\":1}{\"b\"",
            ":{}}\n",
            "\n{\"c\":\"}\\",
            "\"\"",
            "}\n\n[{}]",
        ];
        let (mut messages, mut seen) = (Messages::default(), Vec::new());
        for piece in pieces {
            messages.push(piece.as_bytes());
            while let Some(message) = messages.next::<Value>().expect("JSON") {
                seen.push(message);
            }
        }
        let expected = [
            json!({"a": 1}),
            json!({"b": {}}),
            json!({"c": "}\""}),
            json!([{}]),
        ];
        assert_eq!(seen, expected);
        assert_eq!(messages.rest(), "");
    }

    /// What `next` gives for a stream that comes byte by byte: messages' texts, and
    /// `!` for an error.
    fn all(stream: &str) -> Vec<String> {
        let (mut messages, mut seen) = (Messages::default(), Vec::new());
        for byte in stream.bytes() {
            messages.push(&[byte]);
            match messages.next::<Box<serde_json::value::RawValue>>() {
                Ok(Some(message)) => seen.push(message.get().to_owned()),
                Ok(None) => {}
                Err(_) => seen.push("!".to_owned()),
            }
        }
        assert_eq!(messages.looked_at, messages.buffer.len());
        seen
    }

    #[test]
    fn what_lightningd_takes_for_json_costs_no_other_message() {
        // Its parser takes each for an array of one word.
        for odd in ["[1{]", "[1\"]", "[127.0.0.1]", "[1:[]", "[t{[\"x]", "[007]"] {
            let stream = format!("{{\"a\":{odd}}}\n\n{{\"b\":1}}\n\n");
            assert_eq!(all(&stream), ["!", "{\"b\":1}"], "{odd}");
        }
    }

    #[test]
    fn after_garbage_an_empty_line_starts_anew() {
        for bad in [
            "5",
            "\"x\"",
            "null",
            "oops}",
            "{]",
            "{\"a\": oops}",
            "{1",
            "\u{e9}",
        ] {
            let stream = format!("{{}}\n\n{bad}\n{{}}x\n\n{{\"b\":1}}");
            // Within the bracket that `{1` leaves open, `{}x` is what is wrong.
            assert_eq!(all(&stream), ["{}", "!", "{\"b\":1}"], "{bad}");
        }
    }

    #[tokio::test]
    async fn malformed_messages_are_errors() {
        for text in ["{not json}\n", "{\"a\":", "hello", "[1,]"] {
            let mut messages = MessageReader::new(text.as_bytes());
            let error = messages.next::<Value>().await.expect_err("garbage");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains(text.trim()), "{error}");
            let end = messages.next::<Value>().await.expect("one error");
            assert_eq!(end, None, "{text}");
        }
    }

    #[test]
    fn errors_quote_a_bounded_part() {
        let mut messages = Messages::default();
        messages.push(format!("{{{}}}", "x".repeat(1_000_000)).as_bytes());
        let error = messages.next::<Value>().expect_err("garbage").to_string();
        assert!(error.len() < 500, "{}", error.len());
        messages.push(b"\n\n{}");
        assert_eq!(messages.next::<Value>().expect("JSON"), Some(json!({})));
    }

    #[test]
    fn payloads_of_either_shape() {
        let nested = json!({"connect": {"id": "02aa"}});
        assert_eq!(payload_of("connect", nested), json!({"id": "02aa"}));
        let flat = json!({"id": "02aa"});
        assert_eq!(payload_of("connect", flat), json!({"id": "02aa"}));
        let named = json!({"custom": "text", "x": 1});
        assert_eq!(payload_of("custom", named.clone()), named);
    }
}
