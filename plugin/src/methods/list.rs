//! `eventlog-list`.

use serde_json::{Value, json};

use super::{Answer, Service, resume};
use crate::params::{Error, Params};
use crate::reader::{self, Order};

/// This many events are given by default, and at most.
const LIMIT: usize = 100;
const LIMIT_MOST: u64 = 10_000;

/// An answer holds at most this many bytes of events, or one event.
const ANSWER: usize = 4 << 20;

const NAMES: &[&str] = &["topic", "since", "limit", "newest", "cursor", "durable"];

pub(super) async fn list(service: &Service, params: Value) -> Result<Answer, Error> {
    let params = Params::read(params, NAMES)?;
    let topics = params.names("topic")?;
    let since = params.number("since", u64::MAX)?.unwrap_or(0);
    let cursor = params.cursor("cursor")?;
    let durable = params.flag("durable")?;
    for other in ["since", "newest"] {
        params.not_both("cursor", other)?;
    }
    let limit = params.number("limit", LIMIT_MOST)?;
    let limit = limit.map_or(LIMIT, |limit| usize::try_from(limit).unwrap_or(LIMIT));
    let order = match params.word("newest", &["first", "last"])? {
        Some("last") => Order::OldestFirst,
        _ if cursor.is_some() => Order::OldestFirst,
        _ => Order::NewestFirst,
    };
    let recorder = service.recorder.clone();
    let reading = service.read(move || {
        let path = recorder.path();
        let since = match cursor {
            Some(cursor) => resume(&recorder, cursor)?,
            None => since,
        };
        // How far the records were looked at, in their order.
        let mut seen = cursor;
        let mut events = String::new();
        let (mut count, mut unreadable, mut more) = (0, 0_u64, false);
        let passed_over = reader::lines(path, order, since, |line| {
            let Some((record, line)) = reader::record(line) else {
                unreadable += 1;
                return true;
            };
            if record.seq < since {
                return order == Order::OldestFirst;
            }
            let place = record.cursor();
            if order == Order::NewestFirst {
                seen = seen.or(Some(place));
            }
            let fits = topics.is_empty() || topics.iter().any(|topic| *topic == record.topic);
            more = fits && (count >= limit || (events.len() + line.len() > ANSWER && count > 0));
            if order == Order::OldestFirst && !more {
                seen = Some(place);
            }
            if fits && !more {
                events.push_str(if count > 0 { "," } else { "" });
                events.push_str(line);
                count += 1;
            }
            !more
        });
        let mut answer = format!("{{\"events\":[{events}]");
        if more {
            answer += ",\"more\":true";
        }
        if let Some(cursor) = seen {
            answer += &format!(",\"cursor\":\"{cursor}\"");
        }
        if unreadable > 0 {
            answer += &format!(",\"unreadable_lines\":{unreadable}");
        }
        if !passed_over.is_empty() {
            let errors: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
            answer += &format!(",\"unreadable_files\":{}", json!(errors));
        }
        Ok(answer + "}")
    });
    let (result, permit) = reading.await?;
    let result = result?;
    if durable {
        service.sync().await?;
    }
    Ok(Answer {
        result,
        reading: Some(permit),
    })
}
