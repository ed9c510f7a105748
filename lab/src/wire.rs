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

/// Cuts a stream of bytes into messages, each an object or an array.
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
    /// How many bytes were looked at, and what they leave open: brackets, a string,
    /// an escape in it.
    looked_at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
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
    /// [`ErrorKind::InvalidData`] if it is not JSON, or not of this type.
    // Not an iterator: what is `None` now may be here later.
    #[allow(clippy::should_implement_trait)]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        while let Some(&byte) = self.buffer.get(self.looked_at) {
            self.looked_at += 1;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 && !self.in_string && !byte.is_ascii_whitespace() {
                let end = std::mem::take(&mut self.looked_at);
                let message = serde_json::from_slice(&self.buffer[..end])
                    .map_err(|error| invalid(&self.rest(), &error))?;
                self.buffer.drain(..end);
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// What came of a message that is not complete.
    pub fn rest(&self) -> String {
        String::from_utf8_lossy(&self.buffer).trim().to_owned()
    }
}

fn invalid(text: &str, why: &dyn std::fmt::Display) -> Error {
    let why = format!("this is not JSON: `{text}`: {why}");
    Error::new(ErrorKind::InvalidData, why)
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
                let rest = self.messages.rest();
                return if rest.is_empty() {
                    Ok(None)
                } else {
                    Err(invalid(&rest, &"the stream ended within it"))
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

    #[tokio::test]
    async fn malformed_messages_are_errors() {
        for text in ["{not json}\n", "{\"a\":", "hello"] {
            let mut messages = MessageReader::new(text.as_bytes());
            let error = messages.next::<Value>().await.expect_err("garbage");
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.to_string().contains(text.trim()), "{error}");
        }
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
