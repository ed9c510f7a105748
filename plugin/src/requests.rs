//! Requests, as the stream that cln-plugin reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// The requests, as a stream for [`cln_plugin::Builder::new`].
#[derive(Debug)]
pub struct Requests {
    messages: mpsc::UnboundedReceiver<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Requests {
    /// The stream of the messages sent through the channel.
    pub(crate) fn new(messages: mpsc::UnboundedReceiver<Vec<u8>>) -> Self {
        Self {
            messages,
            current: Vec::new(),
            at: 0,
        }
    }
}

impl AsyncRead for Requests {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context,
        buffer: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        if self.at == self.current.len() {
            match self.messages.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())), // the end
                Poll::Ready(Some(message)) => {
                    self.current = message;
                    self.at = 0;
                }
            }
        }
        let left = &self.current[self.at..];
        let taken = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..taken]);
        self.at += taken;
        Poll::Ready(Ok(()))
    }
}
