//! JSON-RPC messages on a stream, as lightningd and its plugins exchange them.
//!
//! lightningd ends each message with an empty line, and so do its client
//! libraries; but it takes what comes without, too, and so does this: a message
//! ends where its JSON ends.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads messages from a stream.
#[derive(Debug)]
pub(crate) struct Messages<R> {
    reader: R,
    buffer: Vec<u8>,
}

/// Why there is no further message.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The stream failed.
    Io(std::io::Error),
    /// What came is not JSON; the text, as far as it is known.
    NotJson(String),
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Io(error) => error.fmt(f),
            Broken::NotJson(text) => write!(f, "this is not JSON: `{text}`"),
        }
    }
}

impl<R: AsyncRead + Unpin> Messages<R> {
    pub(crate) fn new(reader: R) -> Messages<R> {
        Messages {
            reader,
            buffer: Vec::new(),
        }
    }

    /// The next message; `None` at the end of the stream. What is left of a
    /// message there is an error. Safe to cancel: what was read stays.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Broken> {
        // Whole messages may be here already.
        let mut complete = !self.buffer.is_empty();
        loop {
            if complete && let Some(value) = self.take()? {
                return Ok(Some(value));
            }
            let before = self.buffer.len();
            let read = self.reader.read_buf(&mut self.buffer).await;
            if read.map_err(Broken::Io)? == 0 {
                let rest = String::from_utf8_lossy(&self.buffer).trim().to_owned();
                return match rest.is_empty() {
                    true => Ok(None),
                    false => Err(Broken::NotJson(rest)),
                };
            }
            // A message is an object: without a brace none can have ended, and a
            // long one is not parsed again for each piece of it.
            complete = self.buffer[before..].contains(&b'}');
        }
    }

    /// Takes the first message off the buffer, if all of it is there.
    fn take(&mut self) -> Result<Option<Value>, Broken> {
        let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let end = values.byte_offset();
                self.buffer.drain(..end);
                Ok(Some(value))
            }
            Some(Err(error)) if !error.is_eof() => Err(Broken::NotJson(
                String::from_utf8_lossy(&self.buffer).trim().to_owned(),
            )),
            _ => Ok(None),
        }
    }
}

/// Writes a message and the empty line that ends it.
pub(crate) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    message: &Value,
) -> std::io::Result<()> {
    let mut bytes = message.to_string().into_bytes();
    bytes.extend_from_slice(b"\n\n");
    writer.write_all(&bytes).await?;
    writer.flush().await
}

/// The answer to a request.
pub(crate) fn answer(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// What a notification tells: `params.TOPIC` if that is an object, else `params`,
/// as lightningd before v23.08 has it and as other plugins send theirs. Then the
/// object of `block_added` was named `block`.
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

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    /// Hands out one piece at a time.
    fn pieces(pieces: &'static [&'static str]) -> impl AsyncRead + Unpin {
        struct Pieces(std::slice::Iter<'static, &'static str>);
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                if let Some(piece) = self.0.next() {
                    buf.put_slice(piece.as_bytes());
                }
                std::task::Poll::Ready(Ok(()))
            }
        }
        Pieces(pieces.iter())
    }

    #[test]
    fn messages_end_where_their_json_ends() {
        block_on(async {
            let mut messages = Messages::new(pieces(&[
                "{\"a\":1}{\"b\"",
                ":{}}\n",
                "\n{\"c\":\"}\"",
                "}\n\n",
            ]));
            for expected in [json!({"a": 1}), json!({"b": {}}), json!({"c": "}"})] {
                let next = messages.next().await.expect("a message");
                assert_eq!(next, Some(expected));
            }
            assert!(messages.next().await.expect("the end").is_none());
        });
    }

    #[test]
    fn what_is_no_message_is_told() {
        for text in [&["{not json}\n"][..], &["{\"a\":"][..], &["hello"][..]] {
            let error = block_on(Messages::new(pieces(text)).next()).expect_err("garbage");
            assert!(matches!(error, Broken::NotJson(_)), "{error}");
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
