//! The plugin's RPC methods.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Result;
use cln_plugin::{Plugin, RpcMethodBuilder};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::params::{Params, error};
use crate::progress::{Awaited, Command, WAITERS, Waiter};
use crate::reader::{self, Order};
use crate::recorder::Recorder;

/// Their names.
pub const NAMES: [&str; 4] = [
    "eventlog-list",
    "eventlog-wait",
    "eventlog-stats",
    "eventlog-rotate",
];

/// lightningd's code for an error of its own (`LIGHTNINGD`).
const FAILED: i64 = -1;

/// JSON-RPC's code for an internal error.
const INTERNAL: i64 = -32603;

/// lightningd's code for a wait that timed out (`WAIT_TIMEOUT`).
const WAIT_TIMEOUT: i64 = 2000;

/// `eventlog-list` gives this many by default, and at most.
const LIMIT: usize = 100;
const LIMIT_MOST: u64 = 10_000;

/// An answer of `eventlog-list` holds at most this many bytes of events, or one event.
const ANSWER: usize = 4 << 20;

/// `eventlog-wait` waits this many seconds by default, and at most.
const TIMEOUT: u64 = 60;
const TIMEOUT_MOST: u64 = 7 * 24 * 3600;

/// All four.
pub fn all() -> [RpcMethodBuilder<Recorder>; 4] {
    [
        RpcMethodBuilder::new(NAMES[0], |plugin, params| guard(list(plugin, params)))
            .usage("[topic] [since] [limit] [newest]")
            .description(
                "List recorded events: of the topic (or several, with commas between), from \
                 sequence number since on, at most limit (default 100, most 10000); newest: \
                 first (the default) or last",
            ),
        RpcMethodBuilder::new(NAMES[1], |plugin, params| guard(wait(plugin, params)))
            .usage("[topic] [after] [timeout]")
            .description(
                "Wait for the next event of the topic (or several, with commas between; default \
                 any) with a sequence number above after (default: of the last one recorded), up \
                 to timeout seconds (default 60)",
            ),
        RpcMethodBuilder::new(NAMES[2], |plugin, params| guard(stats(plugin, params))).description(
            "Show what was recorded since the start, by topic, what waits to be written, what \
                 was dropped, and the file",
        ),
        RpcMethodBuilder::new(NAMES[3], |plugin, params| guard(rotate(plugin, params)))
            .description("Move the file to .1, older ones on by one, and start a new one"),
    ]
}

/// A panic within a method is an answer as well: cln-plugin would give none.
async fn guard(method: impl Future<Output = Result<Value>>) -> Result<Value> {
    let mut method = Box::pin(method);
    let guarded = std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| method.as_mut().poll(context));
        match std::panic::catch_unwind(poll) {
            Ok(poll) => poll,
            Err(_) => Err(error(INTERNAL, "internal error: see the node's log")).into(),
        }
    });
    guarded.await
}

async fn list(plugin: Plugin<Recorder>, params: Value) -> Result<Value> {
    let params = Params::read(params, &["topic", "since", "limit", "newest"])?;
    let topics = params.names("topic")?;
    let since = params.number("since", u64::MAX)?.unwrap_or(0);
    let limit = params.number("limit", LIMIT_MOST)?;
    let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT));
    let order = match params.word("newest", &["first", "last"])? {
        Some("last") => Order::OldestFirst,
        _ => Order::NewestFirst,
    };
    let path = plugin.state().path().to_owned();
    blocking(move || {
        let mut events = Vec::new();
        let (mut bytes, mut unreadable, mut more) = (0, 0_u64, false);
        reader::lines(&path, order, |line| {
            let Some(record) = reader::record(line) else {
                unreadable += 1;
                return true;
            };
            if record.seq < since {
                return order == Order::OldestFirst;
            }
            if !topics.is_empty() && !topics.iter().any(|topic| *topic == record.topic) {
                return true;
            }
            more = events.len() >= limit || (bytes + line.len() > ANSWER && bytes > 0);
            if !more {
                bytes += line.len();
                match serde_json::from_slice::<Value>(line) {
                    Ok(event) => events.push(event),
                    Err(_) => unreadable += 1, // a number too large for a float
                }
            }
            !more
        })
        .map_err(|why| error(FAILED, format!("{}: {why}", path.display())))?;
        let mut answer = json!({"events": events});
        if more {
            answer["more"] = json!(true);
        }
        if unreadable > 0 {
            answer["unreadable_lines"] = json!(unreadable);
        }
        Ok(answer)
    })
    .await
}

async fn wait(plugin: Plugin<Recorder>, params: Value) -> Result<Value> {
    let params = Params::read(params, &["topic", "after", "timeout"])?;
    let topics = params.names("topic")?;
    let after = params.number("after", u64::MAX)?;
    let timeout = params.number("timeout", TIMEOUT_MOST)?.unwrap_or(TIMEOUT);
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let recorder = plugin.state();
    let mut after = after.unwrap_or_else(|| recorder.last_seq());
    let line = loop {
        // First the recorded events, then those that come.
        let last = recorder.last_seq();
        if after < last {
            if let Some(found) = find(recorder, topics.clone(), after).await? {
                break found;
            }
            after = last;
        }
        let (reply, answer) = oneshot::channel();
        recorder.command(Command::Wait(Waiter {
            after,
            topics: topics.clone(),
            reply,
        }));
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(Awaited::Event(line))) => break line,
            Ok(Ok(Awaited::LookAgain)) => {}
            Ok(Ok(Awaited::TooMany)) => {
                return Err(error(FAILED, format!("too many waiters ({WAITERS})")));
            }
            Ok(Err(_)) => return Err(error(FAILED, "the plugin is stopping")),
            Err(_) => {
                return Err(error(
                    WAIT_TIMEOUT,
                    format!("no such event in {timeout} seconds"),
                ));
            }
        }
    };
    Ok(serde_json::from_str(&line)?)
}

/// The first event of these topics after a sequence number, among the recorded.
async fn find(recorder: &Recorder, topics: Vec<String>, after: u64) -> Result<Option<String>> {
    let path = recorder.path().to_owned();
    blocking(move || {
        let mut first = None;
        // From the end: the event is mostly a recent one.
        let read = reader::lines(&path, Order::NewestFirst, |line| {
            let Some(record) = reader::record(line) else {
                return true;
            };
            if record.seq <= after {
                return false;
            }
            if topics.is_empty() || topics.iter().any(|topic| *topic == record.topic) {
                first = std::str::from_utf8(line).ok().map(str::to_owned);
            }
            true
        });
        read.map_err(|why| error(FAILED, format!("{}: {why}", path.display())))?;
        Ok(first)
    })
    .await
}

async fn stats(plugin: Plugin<Recorder>, params: Value) -> Result<Value> {
    Params::read(params, &[])?;
    let recorder = plugin.state();
    let progress = recorder.progress();
    let counts = recorder.counts();
    let settings = recorder.settings().get();
    let time = |at| humantime::format_rfc3339_micros(at).to_string();
    let topics: Vec<Value> = progress
        .topics
        .iter()
        .map(|(topic, count)| {
            json!({
                "topic": topic,
                "count": count.count,
                "first": time(count.first),
                "last": time(count.last),
            })
        })
        .collect();
    let mut answer = json!({
        "file": recorder.path().display().to_string(),
        "file_bytes": progress.length,
        "format": settings.format.name(),
        "redact": settings.redacts(),
        "asked_for": settings.wanted.names().collect::<Vec<_>>(),
        "last_seq": progress.last_seq,
        "recorded": progress.topics.values().map(|count| count.count).sum::<u64>(),
        "bytes_written": progress.bytes,
        "rotations": progress.rotations,
        "dropped": counts.dropped,
        "queue": {
            "length": counts.length,
            "high_water": counts.high_water,
            "bytes": counts.bytes,
            "bytes_high_water": counts.bytes_high_water,
            "bytes_most": recorder.buffer(),
        },
        "topics": topics,
    });
    if let Some(trouble) = progress.trouble {
        answer["trouble"] = json!(trouble);
    }
    Ok(answer)
}

async fn rotate(plugin: Plugin<Recorder>, params: Value) -> Result<Value> {
    Params::read(params, &[])?;
    let (reply, answer) = oneshot::channel();
    plugin.state().command(Command::Rotate(reply));
    match answer.await {
        Ok(Ok(path)) => Ok(json!({"rotated_to": path.display().to_string()})),
        Ok(Err(why)) => Err(error(FAILED, why)),
        Err(_) => Err(error(FAILED, "the plugin is stopping")),
    }
}

/// Reads files on a thread of its own: other requests are answered meanwhile.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(error(INTERNAL, "internal error: see the node's log")),
    }
}
