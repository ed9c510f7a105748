//! `eventlog-wait`.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, FAILED, Service, resume, stopping};
use crate::params::{Error, Params, error};
use crate::progress::{Awaited, Command, WAITERS, Waiter};
use crate::reader::{self, Order};

/// lightningd's code for a wait that timed out (`WAIT_TIMEOUT`).
const WAIT_TIMEOUT: i64 = 2000;

/// A call waits this many seconds by default, and at most.
const TIMEOUT: u64 = 60;
const TIMEOUT_MOST: u64 = 7 * 24 * 3600;

const NAMES: &[&str] = &["topic", "after", "timeout", "cursor", "durable"];

pub(super) async fn wait(service: &Service, params: Value) -> Result<Answer, Error> {
    let params = Params::read(params, NAMES)?;
    let topics = params.names("topic")?;
    let after = params.number("after", u64::MAX)?;
    let cursor = params.cursor("cursor")?;
    let durable = params.flag("durable")?;
    params.not_both("cursor", "after")?;
    let timeout = params.number("timeout", TIMEOUT_MOST)?.unwrap_or(TIMEOUT);
    let deadline = Instant::now() + Duration::from_secs(timeout);
    let recorder = &service.recorder;
    let mut after = match (cursor, after) {
        (Some(cursor), _) => {
            let recorder = recorder.clone();
            let resumed = service.read(move || resume(&recorder, cursor));
            resumed.await?.0? - 1
        }
        (None, after) => after.unwrap_or_else(|| recorder.last_seq()),
    };
    loop {
        // First the recorded events, then those that come.
        let last = recorder.last_seq();
        if after < last {
            if let Some(found) = find(service, topics.clone(), after).await? {
                return service.event(&found, durable).await;
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
            Ok(Ok(Awaited::Event(line))) => return service.event(line.trim_end(), durable).await,
            Ok(Ok(Awaited::LookAgain)) => {}
            Ok(Ok(Awaited::Displaced)) => {
                let message = format!(
                    "too many waiters ({WAITERS}): this one, the oldest, made room for another"
                );
                return Err(error(FAILED, message));
            }
            Ok(Err(_)) => return Err(stopping()),
            Err(_) => {
                let message = format!("no such event in {timeout} seconds");
                return Err(error(WAIT_TIMEOUT, message));
            }
        }
    }
}

impl Service {
    /// An event as it was recorded; `durable`: once the disk has confirmed it.
    async fn event(&self, line: &str, durable: bool) -> Result<Answer, Error> {
        if durable {
            self.sync().await?;
        }
        Ok(Answer::new(line))
    }
}

/// The first event of these topics after a sequence number, among the recorded.
async fn find(service: &Service, topics: Vec<String>, after: u64) -> Result<Option<String>, Error> {
    let path = service.recorder.path().to_owned();
    let reading = service.read(move || {
        let mut first = None;
        reader::lines(&path, Order::OldestFirst, after + 1, |line| {
            let Some((record, line)) = reader::record(line) else {
                return true;
            };
            let fits = topics.is_empty() || topics.iter().any(|topic| *topic == record.topic);
            if record.seq > after && fits {
                first = Some(line.to_owned());
            }
            first.is_none()
        });
        first
    });
    Ok(reading.await?.0)
}
