//! The pipe itself: messages in pieces, many at once, and its end.

use std::time::{Duration, Instant};

use cln_lab::corpus::Message;
use cln_lab::{Error, Result, scaled};
use serde_json::{Value, json};

use super::codes;
use super::finding::{Finding, Level};
use super::run::{Run, title};
use super::session::short;

/// A burst has as much as the plugin handles in this time.
const BURST_TIME: Duration = Duration::from_secs(1);

/// So many notifications show how fast it is.
const FIRST: usize = 20;

/// One that is not slow is sent at least so many.
const LEAST: usize = 100;

/// How many are written at once.
const CHUNK: usize = 10;

impl Run<'_> {
    /// Pieces, then the burst.
    pub(super) async fn stream(&mut self) -> Result<()> {
        if !self.revive().await? {
            return Ok(());
        }
        let release = self.release;
        let subscriptions = self.manifest.subscriptions.clone();
        let mut messages = release.notifications(&subscriptions);
        // One that is known to be handled.
        let message = messages.find(|message| {
            message.deprecated && message.name != "shutdown" && !self.fails_at(&message.name)
        });
        self.pieces(message).await;
        let Some(message) = message else {
            return Ok(());
        };
        // Who does not understand pieces understands no burst.
        if !self.has(&codes::PIECES) && self.revive().await? {
            self.burst(message).await;
        }
        Ok(())
    }

    /// True if there is a finding of this code.
    fn has(&self, code: &codes::Code) -> bool {
        self.report
            .findings
            .iter()
            .any(|finding| finding.code == code)
    }

    /// True if there is a finding about this topic, hook or method.
    fn fails_at(&self, name: &str) -> bool {
        let name = format!("`{name}`");
        self.report
            .findings
            .iter()
            .any(|finding| finding.subject.contains(&name))
    }

    /// A request whose answer shows that the plugin is still there, if it has one: a method
    /// or hook that was answered before.
    pub(super) fn probe(&mut self) -> Option<(String, Value, String)> {
        let hook = self.manifest.hooks.iter().find_map(|hook| {
            self.release
                .hooks(hook)
                .find(|message| !self.fails_at(&message.name))
        });
        if let Some(message) = hook {
            let mut request = message.json();
            let name = message.name.clone();
            let id = self.id(&name);
            request["id"] = id.clone();
            return Some((name, id, request.to_string()));
        }
        if self.has(&codes::METHOD_DIES) {
            return None;
        }
        let answered = |method: &&String| !self.fails_at(method);
        let method = self.manifest.methods.iter().find(answered)?.clone();
        let id = self.id(&method);
        let params = json!({"lab-check-no-such-parameter": 1});
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Some((method, id, request.to_string()))
    }

    /// A message in four pieces, each read before the next is written.
    async fn pieces(&mut self, notification: Option<&Message>) {
        let probe = self.probe();
        let text = match (&probe, notification) {
            (Some(probe), _) => probe.2.clone(),
            (None, Some(message)) => message.message.clone(),
            (None, None) => return,
        };
        let Some(session) = &mut self.session else {
            return;
        };
        self.report.sent += 1;
        let bytes = format!("{text}\n\n").into_bytes();
        let cuts = [1, bytes.len() / 3, bytes.len() * 2 / 3, bytes.len()];
        let mut from = 0;
        let mut came = None;
        for to in cuts {
            came = session.plugin.raw(&bytes[from..to]).await.err();
            if came.is_some() {
                break;
            }
            session.settle(self.plan.patience).await;
            from = to;
        }
        if let (None, Some((method, id, _))) = (&came, &probe) {
            came = session.plugin.response(method, id).await.err();
        }
        session.settle(self.plan.patience).await;
        let gone = session.plugin.gone().await;
        session.forget_failures();
        if let Some(error) = came.or(gone) {
            let text = "a message that came in four pieces is not understood";
            let finding = Finding::new(&codes::PIECES, "in pieces", text);
            self.found(finding.sent(text_of(&bytes)).came(short(&error)));
            self.session = None;
        }
    }

    /// A few notifications, which show how fast the plugin is; then as many as it handles in
    /// a moment, as fast as it reads them. One that is slow, but reads on, is no failure.
    async fn burst(&mut self, message: &Message) {
        let mut sent = FIRST.min(self.plan.burst);
        let started = Instant::now();
        let mut failed = self.portion(message, sent).await;
        let took = started.elapsed();
        let slow = took > scaled(BURST_TIME);
        if failed.is_none() && !slow {
            let rate = sent as f64 / took.as_secs_f64();
            let rest = (rate * BURST_TIME.as_secs_f64()) as usize;
            let rest = rest.max(LEAST - FIRST).min(self.plan.burst - sent);
            sent += rest;
            failed = self.portion(message, rest).await;
        }
        self.report.sent += sent;
        let title = title(message);
        let finding = |text| Finding::new(&codes::BURST, "burst", text).sent(&message.message);
        if let Some(error) = failed {
            let what = match &error {
                Error::TimedOut { .. } => "it no longer answers",
                _ => "it ended",
            };
            let text = format!("{what} after {sent} notifications of {title} at once");
            self.found(finding(text).came(short(&error)));
            self.session = None;
        } else if slow {
            let text = format!(
                "it is slow: {sent} notifications of {title} at once take it {:.1} s",
                took.as_secs_f64()
            );
            self.found(finding(text).level(Level::Warning));
            // It may still be at work on them.
            self.session = None;
        }
    }

    /// Sends so many notifications and a request behind them: what it fails at, if it does.
    async fn portion(&mut self, message: &Message, count: usize) -> Option<Error> {
        let probe = self.probe();
        let patience = self.plan.patience;
        let session = self.session.as_mut()?;
        session.rpc.forget();
        let mut came = None;
        let mut left = count;
        // In small pieces: each has all of the patience.
        while left > 0 && came.is_none() {
            let chunk = left.min(CHUNK);
            came = session.send(&vec![&message.message; chunk]).await.err();
            left -= chunk;
        }
        if let (None, Some((method, id, request))) = (&came, &probe) {
            came = session.send(&[request]).await.err();
            // What is in the pipe comes first.
            session.settle(patience).await;
            if came.is_none() {
                came = session.answered(method, id).await.err();
            }
        }
        session.settle(patience).await;
        let gone = session.plugin.gone().await;
        session.forget_failures();
        gone.or(came)
    }

    /// `shutdown` for a plugin that subscribed to it, the end of its input for others.
    pub(super) async fn end(&mut self) -> Result<()> {
        if !self.revive().await? {
            return Ok(());
        }
        let subscriptions = self.manifest.subscriptions.clone();
        let mut messages = self.release.notifications(&subscriptions);
        let shutdown = messages.find(|message| message.name == "shutdown").cloned();
        let Some(mut session) = self.session.take() else {
            return Ok(());
        };
        if let Some(message) = shutdown {
            self.report.sent += 1;
            // It may have ended between.
            let _ = session.send(&[&message.message]).await;
            let ended = session.plugin.wait_exit().await;
            self.session = Some(session);
            if let Err(error) = ended {
                let text = "it still runs after `shutdown`";
                let finding = Finding::new(&codes::SHUTDOWN, "`shutdown`", text);
                self.found(finding.sent(&message.message).came(short(&error)));
            }
            return Ok(());
        }
        session.plugin.close_input();
        let ended = session.plugin.wait_exit().await;
        self.session = Some(session);
        if let Err(error) = ended {
            let text = "it still runs after the end of its input";
            let level = if self.release.since(23, 11) {
                Level::Error
            } else {
                Level::Warning
            };
            let finding = Finding::new(&codes::ORPHAN, "end of input", text).level(level);
            self.found(finding.came(short(&error)));
        }
        Ok(())
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
