//! `eventlog-stats`.

use serde_json::{Value, json};

use super::Answer;
use crate::format::rfc3339;
use crate::params::{Error, Params};
use crate::recorder::Recorder;

pub(super) fn stats(recorder: &Recorder, params: Value) -> Result<Answer, Error> {
    Params::read(params, &[])?;
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
