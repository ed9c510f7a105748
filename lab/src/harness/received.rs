//! What the plugin has sent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::process::ChildStdout;
use tokio::sync::Notify;

use super::PluginHarness;
use crate::Result;
use crate::lock::lock;
use crate::wire::MessageReader;

/// Of more messages of a kind that nobody takes, only the last are kept.
const MOST: usize = 100_000;

/// What the plugin has sent. Of very many, the last.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// All of it that `next_message` has not taken, in order.
    all: VecDeque<Value>,
    pub answers: VecDeque<Value>,
    pub logs: VecDeque<PluginLog>,
    notifications: VecDeque<(String, Value)>,
    malformed: VecDeque<Value>,
    pub stderr: Vec<u8>,
    /// What it wrote to its standard output that is no message; it may well be running.
    pub noise: Option<String>,
    /// Why nothing more comes on its standard output.
    pub ended: Option<String>,
}

/// A line that a plugin asks lightningd to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginLog {
    /// `debug`, `info`, `warn` or `error`, as the plugin spells it.
    pub level: String,
    /// The line.
    pub message: String,
}

/// Sorts what the plugin sends until it closes its standard output.
pub(super) async fn listen(
    mut messages: MessageReader<ChildStdout>,
    received: Arc<Mutex<Received>>,
    news: Arc<Notify>,
) {
    loop {
        let next = messages.next_accepted().await;
        // One that floods leaves time to whoever takes what it sends.
        tokio::task::consume_budget().await;
        let mut received = lock(&received);
        match next {
            Ok(Some(message)) => {
                push(&mut received.all, message.clone());
                received.sort(message);
            }
            Ok(None) => received.ended = Some("it closed its standard output".to_owned()),
            Err(error) => {
                received.noise = Some(error.to_string());
                received.ended = Some(format!("it wrote to its standard output: {error}"));
            }
        }
        news.notify_one();
        if received.ended.is_some() {
            return;
        }
    }
}

/// One that floods does not fill the memory.
fn push<T>(received: &mut VecDeque<T>, item: T) {
    if received.len() == MOST {
        received.pop_front();
    }
    received.push_back(item);
}

impl Received {
    /// As lightningd: what has an id is an answer.
    fn sort(&mut self, mut message: Value) {
        let params = &message["params"];
        if message.get("id").is_some() {
            push(&mut self.answers, message);
            return;
        }
        match (message["method"].as_str(), params["message"].as_str()) {
            (Some("log"), Some(text)) => {
                let level = params["level"].as_str().unwrap_or("info").to_owned();
                let message = text.to_owned();
                push(&mut self.logs, PluginLog { level, message });
            }
            (Some(topic), _) if topic != "log" && !params.is_null() => {
                let topic = topic.to_owned();
                let params = message["params"].take();
                push(&mut self.notifications, (topic, params));
            }
            _ => push(&mut self.malformed, message),
        }
    }
}

impl PluginHarness {
    /// Waits for a line of the plugin's log that contains `text`; lines before it are
    /// skipped.
    ///
    /// # Errors
    /// [`crate::Error::TimedOut`] with the lines that came instead; [`crate::Error::Died`].
    pub async fn expect_log(&mut self, text: &str) -> Result<PluginLog> {
        let received = Arc::clone(&self.received);
        self.wait(&format!("a log line with `{text}`"), || {
            let mut received = lock(&received);
            let at = received
                .logs
                .iter()
                .position(|l| l.message.contains(text))?;
            received.logs.drain(..=at).next_back()
        })
        .await
    }

    /// Waits for a notification that the plugin itself sends; its `params`. Those
    /// before it are skipped.
    pub async fn expect_notification(&mut self, topic: &str) -> Result<Value> {
        let received = Arc::clone(&self.received);
        self.wait(&format!("a `{topic}` notification from the plugin"), || {
            let mut received = lock(&received);
            let at = received.notifications.iter().position(|n| n.0 == topic)?;
            Some(received.notifications.drain(..=at).next_back()?.1)
        })
        .await
    }

    /// Waits for the next message of any kind: an answer, whatever its id, a log line, a
    /// notification. Each is taken once.
    ///
    /// # Errors
    /// As [`PluginHarness::call`], if none comes.
    pub async fn next_message(&mut self) -> Result<Value> {
        self.next_message_within(self.patience).await
    }

    /// The same, with a patience of its own, which is scaled as every one is.
    ///
    /// # Errors
    /// As [`PluginHarness::call`], if none comes.
    pub async fn next_message_within(&mut self, patience: Duration) -> Result<Value> {
        let received = Arc::clone(&self.received);
        self.wait_within(patience, "a message", || lock(&received).all.pop_front())
            .await
    }

    /// The messages that came and that [`PluginHarness::next_message`] has not taken.
    pub fn pending_messages(&mut self) -> Vec<Value> {
        lock(&self.received).all.drain(..).collect()
    }

    /// Drops the answers to requests with these ids: nobody waits for them any more.
    pub fn forget(&mut self, ids: &[&Value]) {
        let mut received = lock(&self.received);
        received
            .answers
            .retain(|answer| !ids.contains(&&answer["id"]));
    }

    /// Takes the answers that no request here was waiting for: to notifications, or with
    /// an id that nobody sent.
    pub fn take_strays(&mut self) -> Vec<Value> {
        lock(&self.received).answers.drain(..).collect()
    }

    /// Takes its log lines that no `expect_log` has taken or skipped.
    pub fn take_logs(&mut self) -> Vec<PluginLog> {
        lock(&self.received).logs.drain(..).collect()
    }

    /// Takes the notifications that it sent, topic and `params`, but for `log`.
    pub fn take_notifications(&mut self) -> Vec<(String, Value)> {
        lock(&self.received).notifications.drain(..).collect()
    }

    /// Takes what was neither an answer nor a notification that lightningd accepts: without
    /// an id, a method or `params`, or a `log` without a text.
    pub fn take_malformed(&mut self) -> Vec<Value> {
        lock(&self.received).malformed.drain(..).collect()
    }

    /// What it wrote to its standard output that lightningd refuses as a message, and why: nothing is read
    /// after that, as lightningd kills such a plugin.
    pub fn noise(&self) -> Option<String> {
        lock(&self.received).noise.clone()
    }

    /// What it wrote to its standard error so far; of more than 64 KiB, the end.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&lock(&self.received).stderr).into_owned()
    }

    /// Its log lines that no `expect_log` has taken or skipped.
    pub fn logs(&self) -> Vec<PluginLog> {
        lock(&self.received).logs.iter().cloned().collect()
    }
}
