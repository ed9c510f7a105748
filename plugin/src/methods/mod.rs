//! The plugin's RPC methods.
//!
//! They are answered here, not by cln-plugin: a recorded line goes into an answer
//! as it stands in the file. As a tree it would lose what no tree holds: the
//! digits of a large number, the second of two equal keys, a lone surrogate.

mod list;
mod stats;
mod wait;

use std::sync::Arc;

use cln_plugin::{Plugin, RpcMethodBuilder};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::cursor::{self, Cursor};
use crate::params::{Error, Params, error};
use crate::progress::{Command, WAITERS};
use crate::recorder::Recorder;
use crate::stdin::Call;
use crate::stdout::{self, INTERNAL};

/// Their names.
pub const NAMES: &[&str] = &[
    "eventlog-list",
    "eventlog-wait",
    "eventlog-stats",
    "eventlog-rotate",
];

/// lightningd's code for an error of its own (`LIGHTNINGD`).
const FAILED: i64 = -1;

/// There is no going on after a cursor.
const CURSOR: i64 = 1;

/// At most this many calls are worked on at once, those that wait included.
const CALLS: usize = 2 * WAITERS;

/// At most this many of them read files at once: each takes a thread, a
/// descriptor, and the memory of its answer.
const READERS: usize = 4;

/// A method, as the manifest and the help have it.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its parameters; optional ones in brackets.
    pub usage: &'static str,
    /// What it does.
    pub description: &'static str,
}

/// The four of them.
pub const ALL: [Method; 4] = [
    Method {
        name: NAMES[0],
        usage: "[topic] [since] [limit] [newest] [cursor] [durable]",
        description: "List recorded events: of the topic (or several, with commas between), from \
             sequence number since on, at most limit (default 100, most 10000); newest: \
             first (the default) or last. With a cursor (from an earlier answer; epoch:seq of \
             a record) what came after it, the oldest first, or an error if some of that is \
             no longer kept. durable=true: only what the disk has confirmed. Needs \
             eventlog-format=json",
    },
    Method {
        name: NAMES[1],
        usage: "[topic] [after] [timeout] [cursor] [durable]",
        description: "Wait for the next event of the topic (or several, with commas between; \
             default any) with a sequence number above after (default: of the last one \
             recorded), up to timeout seconds (default 60); or after a cursor (epoch:seq of a \
             record), with an error if what came after it is no longer kept. durable=true: once \
             the disk has confirmed it. Among events already recorded it finds those recorded \
             with eventlog-format=json",
    },
    Method {
        name: NAMES[2],
        usage: "[format]",
        description: "Show what was recorded since the start, by topic, what waits to be written, \
             what was dropped, and the file. format=prometheus: the numbers as Prometheus reads \
             them, the text in metrics",
    },
    Method {
        name: NAMES[3],
        usage: "",
        description: "Move the file to .1, older ones on by one, and start a new one",
    },
];

/// The four of them, for the manifest.
pub fn manifest() -> [RpcMethodBuilder<Recorder>; 4] {
    // `serve` takes the calls first.
    ALL.map(|method| {
        RpcMethodBuilder::new(method.name, |_: Plugin<Recorder>, _| async {
            Ok(json!({}))
        })
        .usage(method.usage)
        .description(method.description)
    })
}

/// Answers calls, each in a task of its own, until stdin ends.
pub async fn serve(mut calls: mpsc::UnboundedReceiver<Call>, recorder: Recorder) {
    let service = Service {
        recorder,
        readers: Arc::new(Semaphore::new(READERS)),
    };
    let free = Arc::new(Semaphore::new(CALLS));
    while let Some(call) = calls.recv().await {
        let Ok(place) = free.clone().try_acquire_owned() else {
            let message = format!("too many calls at once ({CALLS})");
            stdout::refuse(&call.id, FAILED, &message);
            continue;
        };
        let service = service.clone();
        tokio::spawn(async move {
            let id = call.id.clone();
            // A panic within a method is an answer as well.
            match tokio::spawn(service.run(call)).await {
                Ok(Ok(answer)) => answer.send(id).await,
                Ok(Err(error)) => stdout::refuse(&id, error.code, &error.message),
                Err(_) => {
                    stdout::refuse(&id, INTERNAL, "internal error: see the node's log");
                }
            }
            drop(place);
        });
    }
}

/// What the methods work with.
#[derive(Debug, Clone)]
struct Service {
    recorder: Recorder,
    readers: Arc<Semaphore>,
}

/// A method's result as JSON text.
struct Answer {
    result: String,
    /// Held until the answer is written.
    reading: Option<OwnedSemaphorePermit>,
}

impl Answer {
    fn new(result: impl ToString) -> Self {
        Self {
            result: result.to_string(),
            reading: None,
        }
    }

    /// Writes it: a large one on a thread of its own, for lightningd may be slow
    /// to take it.
    async fn send(self, id: String) {
        if self.reading.is_none() {
            return stdout::answer(&id, &self.result);
        }
        let write = move || stdout::answer(&id, &self.result);
        let _ = tokio::task::spawn_blocking(write).await; // the hook has logged a panic
    }
}

impl Service {
    async fn run(self, call: Call) -> Result<Answer, Error> {
        match call.method.as_str() {
            "eventlog-list" => list::list(&self, call.params).await,
            "eventlog-wait" => wait::wait(&self, call.params).await,
            "eventlog-stats" => stats::stats(&self.recorder, call.params),
            _ => self.rotate(call.params).await,
        }
    }

    async fn rotate(&self, params: serde_json::Value) -> Result<Answer, Error> {
        Params::read(params, &[])?;
        let (reply, answer) = oneshot::channel();
        self.recorder.command(Command::Rotate(reply));
        match answer.await {
            Ok(Ok(Some(path))) => Ok(Answer::new(
                json!({"rotated_to": path.display().to_string()}),
            )),
            Ok(Ok(None)) => Ok(Answer::new(
                json!({"rotated_to": null, "reason": "the file is empty"}),
            )),
            Ok(Err(reason)) => Err(error(FAILED, reason)),
            Err(_) => Err(stopping()),
        }
    }

    /// Returns when the disk has confirmed all that was recorded.
    async fn sync(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.recorder.command(Command::Sync(reply));
        match answer.await {
            Ok(synced) => synced.map_err(|reason| error(FAILED, reason)),
            Err(_) => Err(stopping()),
        }
    }

    /// Reads files on a thread of its own: other calls are answered meanwhile.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Error> {
        let internal = || error(INTERNAL, "internal error: see the node's log");
        let permit = self.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|_| internal())?; // it is never closed
        let read = tokio::task::spawn_blocking(work).await;
        Ok((read.map_err(|_| internal())?, permit))
    }
}

/// The sequence number from which to read on after a cursor.
fn resume(recorder: &Recorder, cursor: Cursor) -> Result<u64, Error> {
    let resumed = cursor::resume(recorder.path(), cursor, Some(recorder.cursor()));
    resumed.map_err(|gap| error(CURSOR, gap.to_string()))
}

fn stopping() -> Error {
    error(FAILED, "the plugin is stopping")
}
