//! The callers that wait for an event.

use std::collections::VecDeque;

use crate::chunk::Chunk;
use crate::format::{self, Style};
use crate::progress::{Awaited, WAITERS, Waiter};

/// In the order they came.
#[derive(Debug, Default)]
pub(crate) struct Waiters(VecDeque<Waiter>);

impl Waiters {
    /// Adds one that has seen the events up to `last_seq` or must look again. Where
    /// there are too many the oldest makes room: its client is the likeliest to be
    /// gone, of which lightningd gives no sign.
    pub(crate) fn add(&mut self, waiter: Waiter, last_seq: u64) {
        if last_seq > waiter.after {
            let _ = waiter.reply.send(Awaited::LookAgain); // gone: no matter
            return;
        }
        self.0.retain(|waiter| !waiter.reply.is_closed());
        if self.0.len() >= WAITERS
            && let Some(oldest) = self.0.pop_front()
        {
            let _ = oldest.reply.send(Awaited::Displaced); // as above
        }
        self.0.push_back(waiter);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Answers those that wait for one of these events, the first of which has the
    /// number `first_seq`.
    pub(crate) fn answer(&mut self, chunk: &Chunk, first_seq: u64, style: Style) {
        self.0.retain(|waiter| !waiter.reply.is_closed());
        for (seq, entry) in (first_seq..).zip(chunk.iter()) {
            if self.0.is_empty() {
                return;
            }
            let fits = |waiter: &Waiter| {
                let topics = &waiter.topics;
                seq > waiter.after && (topics.is_empty() || topics.iter().any(|t| t == entry.topic))
            };
            if !self.0.iter().any(fits) {
                continue;
            }
            let mut line = String::new();
            format::line(&mut line, seq, &entry, style);
            for waiter in std::mem::take(&mut self.0) {
                if fits(&waiter) {
                    let _ = waiter.reply.send(Awaited::Event(line.clone())); // as above
                } else {
                    self.0.push_back(waiter);
                }
            }
        }
    }
}
