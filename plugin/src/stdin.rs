//! Stdin: notifications go one way, requests the other.
//!
//! A thread of its own reads stdin: it puts the notifications, in order, straight
//! into the recorder's queue, and passes the requests on to cln-plugin, which
//! does the rest of the protocol. cln-plugin's own subscriptions do not serve: it
//! makes a tree of each message, copies it several times and runs each handler as
//! a task, which takes longer than lightningd takes to send it, and loses the
//! order; it rounds numbers; it hides the origin; and one malformed message
//! ends it.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use cln_wire::{Frame, Frames, LONGEST, Members, Splitter};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::notification::{self, Message, Notification, Request};
use crate::requests::Requests;
use crate::standby;
use crate::stdout::{INTERNAL, PARSE_ERROR, UNKNOWN_METHOD, refuse};

/// As much as a pipe holds.
const READ: usize = 64 * 1024;

/// Where notifications go.
pub trait Sink: Send + 'static {
    /// One notification, read from lightningd at that time.
    fn notification(&mut self, received_at: SystemTime, notification: &Notification);
    /// Something was read at that time that may have been a notification, and
    /// could not be taken for one.
    fn lost(&mut self, received_at: SystemTime);
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
    stop: PipeWriter,
}

impl<S: Sink> Gate<S> {
    /// From here on notifications go to `sink`; `work` is done after each read,
    /// once all its notifications were given to the sink. When what this returns is
    /// dropped, nothing more is read, as at the end of the input.
    pub fn open(self, sink: S, work: impl Fn() + Send + Sync + 'static) -> PipeWriter {
        let _ = self.work.set(Box::new(work)); // a gate opens once
        // The thread is gone only if the input has ended; then the plugin ends.
        let _ = self.sink.send(sink);
        self.stop
    }
}

/// Where requests go, by method. Any other is refused here, for it would end
/// cln-plugin.
#[derive(Debug)]
pub struct Routes {
    /// The methods that cln-plugin answers.
    pub cln_plugin: &'static [&'static str],
    /// The plugin's own methods.
    pub own: &'static [&'static str],
    /// Takes the calls of the plugin's own.
    pub calls: mpsc::UnboundedSender<Call>,
}

/// A call of one of the plugin's own methods.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The request's id, as JSON text.
    pub id: String,
    /// The method's name.
    pub method: String,
    /// The parameters.
    pub params: Value,
}

/// Starts the threads that read stdin.
///
/// # Errors
/// Stdin cannot be used, or the threads not started.
pub fn listen<S: Sink>(routes: Routes) -> io::Result<(Requests, Gate<S>)> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (requests, messages) = mpsc::unbounded_channel();
    let (gate, opened) = std::sync::mpsc::channel();
    let (stopped, stop) = io::pipe()?;
    let mut reader = Reader {
        stdin,
        stopped,
        splitter: Splitter::default(),
        buffer: vec![0; READ],
        receiver: Receiver {
            requests,
            routes,
            opened,
            sink: None,
            shutdown: false,
        },
    };
    let work = Arc::new(OnceLock::<Work>::new());
    let gate = Gate {
        sink: gate,
        work: work.clone(),
        stop,
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
    /// Readable once the other end is dropped.
    stopped: PipeReader,
    splitter: Splitter,
    buffer: Vec<u8>,
    receiver: Receiver<S>,
}

/// Where each message goes.
struct Receiver<S> {
    requests: mpsc::UnboundedSender<Vec<u8>>,
    routes: Routes,
    opened: std::sync::mpsc::Receiver<S>,
    sink: Option<S>,
    /// `shutdown` came: what is there already is read, no more is waited for.
    shutdown: bool,
}

/// How to proceed after a message.
#[derive(PartialEq, Eq)]
enum Then {
    Go,
    /// `init`: notifications follow when it is answered.
    WaitForGate,
}

impl<S: Sink> Reader<S> {
    /// Waits for input: true if there is some to read.
    fn wait(&self) -> bool {
        let patience = if self.receiver.shutdown {
            PollTimeout::ZERO
        } else {
            PollTimeout::NONE
        };
        let mut inputs = [
            PollFd::new(self.stdin.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut inputs, patience) {
            Ok(0) => false,
            Ok(_) => inputs[1].any() == Some(false),
            Err(Errno::EINTR) => self.wait(),
            Err(_) => true, // the read reports it
        }
    }

    /// Reads once.
    fn read(&mut self) -> ControlFlow<()> {
        if !self.wait() {
            return self.receiver.end();
        }
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
        let frames = self.splitter.push(&self.buffer[..read]);
        self.receiver.frames(frames)
    }
}

impl<S: Sink> Receiver<S> {
    fn frames(&mut self, mut frames: Frames) -> ControlFlow<()> {
        while let Some(frame) = frames.next() {
            // The hook has logged what and where.
            let then = catch_unwind(AssertUnwindSafe(|| self.frame(frame)));
            let then = then.unwrap_or_else(|_| self.lose());
            match then {
                Then::Go => {}
                Then::WaitForGate => match self.opened.recv() {
                    Ok(sink) => self.sink = Some(sink),
                    Err(_) => return ControlFlow::Break(()), // disabled
                },
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

    fn frame(&mut self, frame: Frame) -> Then {
        match frame {
            Frame::Message(message) => match notification::parse(message) {
                Ok(Message::Notification(notification)) => self.notification(&notification),
                Ok(Message::Request(request)) => self.request(&request),
                Err(_) => self.not_json(&String::from_utf8_lossy(message)),
            },
            Frame::TooLong(length) => {
                log::warn!("left out a message of {length} bytes: at most {LONGEST} are held");
                self.lose()
            }
            Frame::Garbage(length) => {
                log::warn!("left out {length} bytes that are not a message");
                self.lose()
            }
        }
    }

    fn notification(&mut self, notification: &Notification) -> Then {
        let Some(sink) = &mut self.sink else {
            return Then::Go; // lightningd sends none before `init`
        };
        sink.notification(SystemTime::now(), notification);
        self.shutdown |= notification.topic == "shutdown";
        Then::Go
    }

    /// Something came that may have been a notification.
    fn lose(&mut self) -> Then {
        if let Some(sink) = &mut self.sink {
            sink.lost(SystemTime::now());
        }
        Then::Go
    }

    /// lightningd hands on the `params` of others as they are written, and its
    /// parser takes more than JSON: what a plugin sends is recorded as text, what
    /// an RPC caller sends is refused.
    fn not_json(&mut self, message: &str) -> Then {
        let found = Members::read(message).unwrap_or_default();
        match (found.get("id"), Notification::not_json(&found)) {
            (Some(id), _) => {
                refuse(json_or_null(id), PARSE_ERROR, "the request is not JSON");
                Then::Go
            }
            (None, Some(notification)) => self.notification(&notification),
            (None, None) => {
                let length = message.len();
                log::warn!("left out a message of {length} bytes that has no method");
                self.lose()
            }
        }
    }

    fn request(&mut self, request: &Request) -> Then {
        let id = json_or_null(request.id);
        let method = &*request.method;
        let own = self.routes.own.contains(&method);
        if !own && !self.routes.cln_plugin.contains(&method) {
            let unknown = format!("Unknown command '{method}'");
            refuse(id, UNKNOWN_METHOD, &unknown);
            return Then::Go;
        }
        // It may be JSON and still have what no number, text or tree here holds.
        let params: Value = match serde_json::from_str(request.params) {
            Ok(params) => params,
            Err(error) => {
                refuse(id, PARSE_ERROR, &format!("params: {error}"));
                return Then::Go;
            }
        };
        let sent = if own {
            self.routes
                .calls
                .send(Call {
                    id: id.to_owned(),
                    method: method.to_owned(),
                    params,
                })
                .is_ok()
        } else {
            let method = Value::from(method);
            let message = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":{method},\"params\":{params}}}\n\n"
            );
            self.requests.send(message.into_bytes()).is_ok()
        };
        if !sent {
            refuse(
                id,
                INTERNAL,
                "eventlog answers no requests any more, but still records: see the node's log",
            );
            return Then::Go;
        }
        if method == "init" {
            return Then::WaitForGate;
        }
        Then::Go
    }
}

/// An id to answer to: one that cannot be read back stands for none.
fn json_or_null(id: &str) -> &str {
    serde_json::from_str::<Value>(id).map_or("null", |_| id)
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

        fn lost(&mut self, _: SystemTime) {
            self.0.send("(lost)".to_owned()).unwrap();
        }

        fn flush(&mut self) {}

        fn end(&mut self) {}
    }

    /// Where both kinds of requests go.
    type Ends = (
        mpsc::UnboundedReceiver<Vec<u8>>,
        mpsc::UnboundedReceiver<Call>,
    );

    /// What the sink got of these bytes, before and after the requests' ends are
    /// handed to `between`.
    fn received(bytes: &str, between: impl FnOnce(Ends)) -> Vec<String> {
        let (requests, protocol) = mpsc::unbounded_channel();
        let (calls, own) = mpsc::unbounded_channel();
        let (_gate, opened) = std::sync::mpsc::channel();
        let (send, heard) = std::sync::mpsc::channel();
        let mut receiver = Receiver {
            requests,
            routes: Routes {
                cln_plugin: &["setconfig"],
                own: &["eventlog-list"],
                calls,
            },
            opened,
            sink: Some(Fragile(send)),
            shutdown: false,
        };
        between((protocol, own));
        let mut splitter = Splitter::default();
        assert!(
            receiver
                .frames(splitter.push(bytes.as_bytes()))
                .is_continue()
        );
        heard.try_iter().collect()
    }

    fn notifications(topics: &[&str]) -> String {
        topics
            .iter()
            .map(|topic| format!("{{\"method\":\"{topic}\",\"params\":{{}}}}\n\n"))
            .collect()
    }

    #[test]
    fn a_panic_costs_one_notification_which_is_marked() {
        let bytes = notifications(&["connect", "bad", "disconnect"]);
        let heard = received(&bytes, drop);
        assert_eq!(heard, ["connect", "(lost)", "disconnect"]);
    }

    #[test]
    fn a_dead_request_loop_does_not_stop_the_recording() {
        let request = r#"{"jsonrpc":"2.0","id":"a","method":"METHOD","params":{}}"#;
        let bytes = [
            request.replace("METHOD", "setconfig"),
            request.replace("METHOD", "eventlog-list"),
            notifications(&["connect"]),
        ];
        // Both ends are gone before the first request.
        assert_eq!(received(&bytes.concat(), drop), ["connect"]);
    }

    #[test]
    fn garbage_and_what_has_no_method_is_marked() {
        let bytes = format!("oops\n\n[1]\n\n{}", notifications(&["connect"]));
        assert_eq!(received(&bytes, drop), ["(lost)", "(lost)", "connect"]);
    }
}
