//! `eventlog-stats`.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Answer;
use crate::format::rfc3339;
use crate::params::{Error, Params};
use crate::prometheus::{Kind, Page};
use crate::recorder::Recorder;

pub(super) fn stats(recorder: &Recorder, params: Value) -> Result<Answer, Error> {
    let params = Params::read(params, &["format"])?;
    if params.word("format", &["json", "prometheus"])? == Some("prometheus") {
        return Ok(Answer::new(json!({"metrics": prometheus(recorder)})));
    }
    let progress = recorder.progress();
    let counts = recorder.counts();
    let settings = recorder.settings().get();
    let topics: Vec<Value> = progress
        .topics
        .iter()
        .map(|(topic, count)| {
            json!({
                "topic": topic,
                "count": count.count,
                "first": rfc3339(count.first).to_string(),
                "last": rfc3339(count.last).to_string(),
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
        "cursor": recorder.cursor().to_string(),
        "recorded": progress.topics.values().map(|count| count.count).sum::<u64>(),
        "bytes_written": progress.bytes,
        "rotations": progress.rotations,
        "dropped": counts.dropped,
        "unreadable": counts.unreadable,
        "unsynced": progress.unsynced,
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
    Ok(Answer::new(answer))
}

/// The numbers, as Prometheus reads them.
fn prometheus(recorder: &Recorder) -> String {
    let progress = recorder.progress();
    let counts = recorder.counts();
    let mut page = Page::default();
    let mut recorded = page.metric(
        "eventlog_recorded_total",
        Kind::Counter,
        "Notifications recorded since the start.",
    );
    for (topic, count) in &progress.topics {
        recorded.value(&[("topic", topic)], count.count);
    }
    let mut last = page.metric(
        "eventlog_last_recorded_timestamp_seconds",
        Kind::Gauge,
        "When the last notification came.",
    );
    for (topic, count) in &progress.topics {
        let since = count.last.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs_f64();
        last.value(&[("topic", topic)], seconds);
    }
    let writable = u64::from(progress.trouble.is_none());
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    #[rustfmt::skip]
    let others = [
        ("dropped_total", counter, "Notifications lost for want of memory.", counts.dropped),
        ("unreadable_total", counter, "Messages that were no notifications.", counts.unreadable),
        ("unsynced_total", counter, "Records that the disk did not confirm.", progress.unsynced),
        ("written_bytes_total", counter, "Bytes written.", progress.bytes),
        ("rotations_total", counter, "Rotations.", progress.rotations),
        ("last_seq", gauge, "The last sequence number.", progress.last_seq),
        ("file_bytes", gauge, "The length of the file.", progress.length),
        ("queue_records", gauge, "Notifications that wait to be written.", counts.length as u64),
        ("queue_bytes", gauge, "The memory they take.", counts.bytes as u64),
        ("queue_most_bytes", gauge, "The memory they may take.", recorder.buffer() as u64),
        ("writable", gauge, "1 if the file can be written, else 0.", writable),
    ];
    for (name, kind, help, value) in others {
        let name = format!("eventlog_{name}");
        page.metric(&name, kind, help).value(&[], value);
    }
    page.into_text()
}
