//! JSON-RPC messages on a stream, as lightningd, its clients and its plugins
//! exchange them.
//!
//! lightningd and its client libraries end each message with an empty line, but
//! lightningd accepts messages without one, and so does this: a message ends where
//! its JSON ends.

use std::io::{Error, ErrorKind, Result};

use cln_topics::Topic;
use cln_wire::scan::{End, Scan, value_length};
use cln_wire::{LONGEST, Members};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Errors quote this many characters of what is wrong.
const QUOTED: usize = 200;
/// So many levels of what is no JSON are read member by member.
const DEPTH: usize = 32;
const NO_MESSAGE: &str = "it is neither the start of a message nor its continuation";

/// Cuts a stream of bytes into messages, each an object or an array.
///
/// It looks for ends as lightningd's own parser does, since lightningd hands on what
/// others write, JSON or not. After what cannot be a message, the next empty line is
/// where messages are looked for again.
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
    scan: Scan,
    /// An error was returned for what is being scanned: it is left out.
    left_out: bool,
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
        self.next_with(|message| serde_json::from_slice(message).map_err(|e| e.to_string()))
    }

    /// Takes the first message, which `read` reads.
    fn next_with<T>(
        &mut self,
        read: impl Fn(&[u8]) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        while let Some((length, end)) = self.scan.advance(&self.buffer[self.looked_at..]) {
            self.looked_at += length;
            let message = match end {
                _ if std::mem::take(&mut self.left_out) => None,
                End::Message => {
                    Some(read(&self.buffer[..self.looked_at]).map_err(|why| self.invalid(&why)))
                }
                End::Garbage => Some(Err(self.invalid(&NO_MESSAGE))),
            };
            self.forget();
            if let Some(message) = message {
                return message.map(Some);
            }
        }
        self.looked_at = self.buffer.len();
        let why = if self.scan.is_lost() {
            NO_MESSAGE
        } else if self.looked_at > LONGEST {
            "it is longer than 64 MiB"
        } else {
            return Ok(None);
        };
        let error = self.invalid(&why);
        self.forget();
        if std::mem::replace(&mut self.left_out, true) {
            return Ok(None);
        }
        Err(error)
    }

    /// Forgets what was looked at.
    fn forget(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.looked_at));
    }

    /// What came of a message that is not complete.
    pub fn rest(&self) -> String {
        self.start_of_rest(self.buffer.len())
    }

    /// At most so many bytes of the start of that.
    pub fn start_of_rest(&self, most: usize) -> String {
        let start = &self.buffer[..most.min(self.buffer.len())];
        String::from_utf8_lossy(start).trim().to_owned()
    }

    /// An error that quotes the start of what was looked at.
    fn invalid(&self, why: &dyn std::fmt::Display) -> Error {
        let text = String::from_utf8_lossy(&self.buffer[..self.looked_at.min(5 * QUOTED)]);
        let text = text.trim();
        let quoted: String = text.chars().take(QUOTED).collect();
        let cut = if quoted.len() < text.len() { "…" } else { "" };
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
        self.next_with(Messages::next).await
    }

    /// The next message that lightningd accepts, JSON or not. What no [`Value`] can hold
    /// is a string in it, as it is written: `1e400`, `"\ud800"`, what lies too deep.
    ///
    /// # Errors
    /// As [`MessageReader::next`], for what lightningd refuses.
    pub(crate) async fn next_accepted(&mut self) -> Result<Option<Value>> {
        self.next_with(|messages| messages.next_with(accepted))
            .await
    }

    async fn next_with<T>(
        &mut self,
        next: impl Fn(&mut Messages) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            if let Some(message) = next(&mut self.messages)? {
                return Ok(Some(message));
            }
            self.messages.buffer.reserve(16 * 1024);
            if self.reader.read_buf(&mut self.messages.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.messages);
                return if rest.left_out || rest.rest().is_empty() {
                    Ok(None)
                } else {
                    Err(rest.invalid(&"the stream ended within it"))
                };
            }
        }
    }
}

/// A message as lightningd takes it: all that [`Scan`] finds whole and that is UTF-8.
fn accepted(message: &[u8]) -> std::result::Result<Value, String> {
    let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
    let mut value = lenient(text.trim_ascii(), DEPTH);
    // Of members with one name lightningd takes the first, serde_json the last.
    if let (Value::Object(map), Some(Members(all))) = (&mut value, Members::read(text.trim_ascii()))
        && map.len() < all.len()
    {
        for (name, value) in all.into_iter().rev() {
            map.insert(name.to_owned(), lenient(value, DEPTH));
        }
    }
    Ok(value)
}

/// A value whose brackets are nested at most so deep beside what serde_json can read.
fn lenient(text: &str, depth: usize) -> Value {
    if let Ok(value) = serde_json::from_str(text) {
        return value;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return text.into();
    };
    if let Some(Members(members)) = Members::read(text) {
        let member = |(key, value): (&str, &str)| (key.to_owned(), lenient(value, depth));
        // Of two with one name the first counts.
        return members.into_iter().rev().map(member).collect();
    }
    let Some(mut rest) = text.strip_prefix('[') else {
        return text.into();
    };
    let mut elements = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',', ':']);
        let length = value_length(rest.as_bytes());
        let Some((element, after)) = length.and_then(|length| rest.split_at_checked(length)) else {
            return elements.into();
        };
        elements.push(lenient(element, depth));
        rest = after;
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
/// lightningd sent it before v23.08 and as other plugins send theirs. Some
/// releases name the object otherwise: [`Topic::other_name`].
pub(crate) fn payload_of(topic: &str, mut params: Value) -> Value {
    for name in [Some(topic), Topic::other_name(topic)]
        .into_iter()
        .flatten()
    {
        if let Some(nested) = params.get_mut(name).filter(|value| value.is_object()) {
            return nested.take();
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts of which messages consist, and others.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&str; 19] = [
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":"#,
            r#"["a"]}"#,
            "{}}",
            "[",
            "]",
            "{",
            "}",
            "\"a\"",
            "\"",
            "\\",
            ":",
            ",",
            "007",
            "1e400",
            "\\ud800",
            "\t",
            "\n\n",
            "\n",
            "null",
        ];
        let piece = prop_oneof![
            8 => prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ];
        prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// However a stream is cut, its messages and errors are the same.
        #[test]
        fn any_stream_is_framed(bytes in stream(), cut in 1_usize..40) {
            let framed = |cut| {
                let (mut messages, mut seen) = (Messages::default(), Vec::new());
                for piece in bytes.chunks(cut) {
                    messages.push(piece);
                    loop {
                        seen.push(match messages.next::<Box<serde_json::value::RawValue>>() {
                            Ok(Some(message)) => message.get().to_owned(),
                            Ok(None) => break,
                            Err(_) => "!".to_owned(),
                        });
                    }
                }
                seen
            };
            prop_assert_eq!(framed(cut), framed(bytes.len().max(1)));
        }
    }

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

    #[tokio::test]
    async fn what_lightningd_accepts_has_its_members() {
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (result, expected) in [
            (
                "{\"x\":\"\\ud800\",\"y\":1}",
                json!({"x": "\"\\ud800\"", "y": 1}),
            ),
            ("[2,1e400]", json!([2, "1e400"])),
            ("[007]", json!(["007"])),
            ("{\"x\":1e400,\"x\":2}", json!({"x": "1e400"})),
            ("{\"x\":true}", json!({"x": true})),
        ] {
            let text = format!("{{\"id\":\"a#1\",\"result\":{result}}}\n\n");
            let mut messages = MessageReader::new(text.as_bytes());
            let seen = messages.next_accepted().await.expect("accepted");
            assert_eq!(seen, Some(json!({"id": "a#1", "result": expected})));
        }
        for levels in [100, 200, 10_000] {
            let text = format!("{{\"id\":1,\"result\":{}}}", deep(levels));
            let mut messages = MessageReader::new(text.as_bytes());
            let seen = messages.next_accepted().await.expect("accepted");
            let seen = seen.expect("a message");
            assert!(seen["id"] == 1 && seen["result"].is_array(), "{levels}");
        }
        let mut messages = MessageReader::new(&br#"{"id":1,"id":2,"result":{"a":1}}"#[..]);
        let first = messages.next_accepted().await.expect("accepted");
        assert_eq!(first, Some(json!({"id": 1, "result": {"a": 1}})));
        for refused in [&b"{\"x\":\"\xff\"}"[..], b"print", b"{]"] {
            let mut messages = MessageReader::new(refused);
            assert!(messages.next_accepted().await.is_err(), "{refused:?}");
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
