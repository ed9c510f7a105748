//! Stdin: notifications go one way, requests the other.
//!
//! A thread of its own reads stdin: it puts the notifications, in order, straight
//! into the recorder's queue, and passes the requests on to cln-plugin, which
//! does the rest of the protocol. cln-plugin's own subscriptions do not serve: it
//! makes a tree of each message, copies it several times and runs each handler as
//! a task, which takes longer than lightningd takes to send it, and loses the
//! order; it rounds numbers; it hides the origin; and one malformed message
//! ends it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde_json::json;
use tokio::sync::mpsc;

use crate::framing::{Messages, Splitter};
use crate::notification::{self, Message, Notification};
use crate::requests::Requests;
use crate::standby;
use crate::stdout::refuse;

/// As much as a pipe holds.
const READ: usize = 64 * 1024;

/// Where notifications go.
pub trait Sink: Send + 'static {
    /// One notification, read from lightningd at that time.
    fn notification(&mut self, received_at: SystemTime, notification: &Notification);
    /// All notifications of one read were given.
    fn flush(&mut self);
    /// No more will come.
    fn end(&mut self);
}

/// Done after each read, apart from it: it may take long.
type Work = Box<dyn Fn() + Send + Sync>;

/// Opens the way for notifications, once the plugin is configured.
pub struct Gate<S> {
    sink: std::sync::mpsc::Sender<S>,
    work: Arc<OnceLock<Work>>,
}

impl<S: Sink> Gate<S> {
    /// From here on notifications go to `sink`; `work` is done after each read,
    /// once all its notifications were given to the sink.
    pub fn open(self, sink: S, work: impl Fn() + Send + Sync + 'static) {
        let _ = self.work.set(Box::new(work)); // a gate opens once
        // The thread is gone only if the input has ended; then the plugin ends.
        let _ = self.sink.send(sink);
    }
}

/// Starts the threads that read stdin. `methods` are the requests that
/// cln-plugin can answer: any other is refused here, for it would end it.
///
/// # Errors
/// Stdin cannot be used, or the threads not started.
pub fn listen<S: Sink>(methods: &[&str]) -> io::Result<(Requests, Gate<S>)> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let methods: BTreeSet<String> = methods.iter().map(|&name| name.to_owned()).collect();
    let (requests, messages) = mpsc::unbounded_channel();
    let (gate, opened) = std::sync::mpsc::channel();
    let mut reader = Reader {
        stdin,
        splitter: Splitter::default(),
        buffer: vec![0; READ],
        receiver: Receiver {
            requests,
            methods,
            opened,
            sink: None,
        },
    };
    let work = Arc::new(OnceLock::<Work>::new());
    let gate = Gate {
        sink: gate,
        work: work.clone(),
    };
    standby::run(
        move || reader.read(),
        move || {
            if let Some(work) = work.get() {
                work();
            }
        },
    )?;
    Ok((Requests::new(messages), gate))
}

struct Reader<S> {
    stdin: File,
    splitter: Splitter,
    buffer: Vec<u8>,
    receiver: Receiver<S>,
}

/// Where each message goes.
struct Receiver<S> {
    requests: mpsc::UnboundedSender<Vec<u8>>,
    methods: BTreeSet<String>,
    opened: std::sync::mpsc::Receiver<S>,
    sink: Option<S>,
}

/// How to proceed after a message.
#[derive(PartialEq, Eq)]
enum Then {
    Go,
    /// `init`: notifications follow when it is answered.
    WaitForGate,
    /// `shutdown`: nothing after it matters.
    Stop,
}

impl<S: Sink> Reader<S> {
    /// Reads once.
    fn read(&mut self) -> ControlFlow<()> {
        let read = match self.stdin.read(&mut self.buffer) {
            Ok(0) => return self.receiver.end(),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return ControlFlow::Continue(());
            }
            Err(error) => {
                log::error!("reading stdin: {error}");
                return self.receiver.end();
            }
        };
        let messages = self.splitter.push(&self.buffer[..read]);
        self.receiver.messages(messages)
    }
}

impl<S: Sink> Receiver<S> {
    fn messages(&mut self, mut messages: Messages) -> ControlFlow<()> {
        while let Some(message) = messages.next() {
            // The hook has logged what and where.
            let then = catch_unwind(AssertUnwindSafe(|| self.message(message)));
            match then.unwrap_or(Then::Go) {
                Then::Go => {}
                Then::WaitForGate => match self.opened.recv() {
                    Ok(sink) => self.sink = Some(sink),
                    Err(_) => return ControlFlow::Break(()), // disabled
                },
                Then::Stop => return self.end(),
            }
        }
        if let Some(sink) = &mut self.sink {
            sink.flush();
        }
        ControlFlow::Continue(())
    }

    fn end(&mut self) -> ControlFlow<()> {
        if let Some(sink) = &mut self.sink {
            sink.end();
            // The process ends when all is written. Until then cln-plugin, which
            // would log the end of its input as an error, sees none.
            std::mem::forget(self.requests.clone());
        }
        ControlFlow::Break(())
    }

    fn message(&mut self, message: &[u8]) -> Then {
        match notification::parse(message) {
            Ok(Message::Notification(notification)) => {
                let Some(sink) = &mut self.sink else {
                    return Then::Go; // lightningd sends none before `init`
                };
                sink.notification(SystemTime::now(), &notification);
                if notification.topic == "shutdown" {
                    return Then::Stop;
                }
                Then::Go
            }
            Ok(Message::Request(request)) => {
                let init = request.method == "init";
                if !self.methods.contains(&*request.method) {
                    refuse(
                        request.id,
                        -32601,
                        &format!("Unknown command '{}'", request.method),
                    );
                    return Then::Go;
                }
                let mut bytes = if request.has_params {
                    message.to_vec()
                } else {
                    // cln-plugin ends if there are none.
                    format!(
                        r#"{{"jsonrpc":"2.0","id":{},"method":{},"params":{{}}}}"#,
                        request.id,
                        json!(request.method)
                    )
                    .into_bytes()
                };
                bytes.extend_from_slice(b"\n\n");
                if self.requests.send(bytes).is_err() {
                    return Then::Stop;
                }
                if init { Then::WaitForGate } else { Then::Go }
            }
            Err(error) => {
                let start = String::from_utf8_lossy(&message[..message.len().min(80)]).into_owned();
                log::warn!("left out a message that cannot be read ({error}): {start:?}");
                Then::Go
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Cannot take the topic `bad`.
    struct Fragile(std::sync::mpsc::Sender<String>);

    impl Sink for Fragile {
        fn notification(&mut self, _: SystemTime, notification: &Notification) {
            assert_ne!(notification.topic, "bad");
            self.0.send(notification.topic.to_string()).unwrap();
        }

        fn flush(&mut self) {}

        fn end(&mut self) {}
    }

    #[test]
    fn a_panic_costs_one_notification() {
        let (requests, _requests) = mpsc::unbounded_channel();
        let (_gate, opened) = std::sync::mpsc::channel();
        let (send, heard) = std::sync::mpsc::channel();
        let mut receiver = Receiver {
            requests,
            methods: BTreeSet::new(),
            opened,
            sink: Some(Fragile(send)),
        };
        let bytes = ["connect", "bad", "disconnect"]
            .map(|topic| format!("{{\"method\":\"{topic}\",\"params\":{{}}}}\n\n"))
            .concat();
        let mut splitter = Splitter::default();
        let then = receiver.messages(splitter.push(bytes.as_bytes()));
        assert!(then.is_continue());
        let heard: Vec<String> = heard.try_iter().collect();
        assert_eq!(heard, ["connect", "disconnect"]);
    }
}
