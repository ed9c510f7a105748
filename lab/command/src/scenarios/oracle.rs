//! The notifications that lightningd saves as sent: the reference for a recorder.
//!
//! `--dev-save-plugin-io=DIR` (v25.09) makes lightningd put every notification it
//! sends to all subscribers into a file of its own in `DIR`, named
//! `notification_out-TOPIC-PID-START-NUMBER`, the number counting up from each start;
//! v25.09 leaves out the start. `shutdown` and `deprecated_oneshot` go to one plugin
//! only, and are not among them.

use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use cln_lab::{Error, Event, IoContext, Result, Version};

use super::checks::unexpected;

/// The plugin that records.
pub(super) const RECORDER: &str = "eventlog";

/// The option, without its dashes.
pub(super) const OPTION: &str = "dev-save-plugin-io";

/// Its value: the network directory, in which lightningd runs.
pub(super) const FOLDER: &str = ".";

/// Topics that lightningd sends to one plugin only, and does not save.
const TO_ONE: [&str; 2] = ["shutdown", "deprecated_oneshot"];

/// True if this lightningd has the option.
pub(super) fn available(version: &Version) -> bool {
    version.at_least(25, 9)
}

/// One notification as lightningd sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    topic: String,
    origin: Option<String>,
    /// The payload, byte for byte.
    payload: String,
}

impl Sent {
    /// From the line that a recorder wrote.
    fn recorded(event: &Event) -> Result<Sent> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(borrow)]
            payload: &'a RawValue,
        }
        let line: Line<'_> =
            serde_json::from_str(&event.line).map_err(|e| unreadable(&event.line, &e))?;
        Ok(Sent {
            topic: event.topic.clone(),
            origin: event.origin.clone(),
            payload: line.payload.get().to_owned(),
        })
    }

    /// From a file that lightningd wrote.
    fn read(message: &str) -> Result<Sent> {
        #[derive(Deserialize)]
        struct Message<'a> {
            method: String,
            origin: Option<String>,
            #[serde(borrow)]
            params: &'a RawValue,
        }
        let message: Message<'_> =
            serde_json::from_str(message).map_err(|e| unreadable(message, &e))?;
        // The object of the topic's name; a plugin's own topic may have none.
        let params: std::collections::HashMap<String, &RawValue> =
            serde_json::from_str(message.params.get()).unwrap_or_default();
        let payload = params
            .get(&message.method)
            .filter(|payload| payload.get().starts_with('{'))
            .unwrap_or(&message.params);
        Ok(Sent {
            payload: payload.get().to_owned(),
            origin: message.origin,
            topic: message.method,
        })
    }
}

fn unreadable(message: &str, error: &serde_json::Error) -> Error {
    unexpected(format!("notification `{message}`"), error.to_string())
}

/// What lightningd saved in a folder, in the order it was sent: by the time of the file,
/// since every start of the node has its own numbers, then by number.
pub(super) fn saved(folder: &Path) -> Result<Vec<Sent>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).doing("list", folder)? {
        let entry = entry.doing("list", folder)?;
        let path = entry.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(name) = name.strip_prefix("notification_out-") else {
            continue;
        };
        let Some(Ok(number)) = name.rsplit('-').next().map(str::parse::<u64>) else {
            continue;
        };
        let written = entry.metadata().and_then(|file| file.modified());
        found.push((written.doing("read the time of", &path)?, number, path));
    }
    found.sort();
    let mut sent = Vec::with_capacity(found.len());
    for (n, (_, _, path)) in found.iter().enumerate() {
        let text = std::fs::read_to_string(path).doing("read", path)?;
        match Sent::read(&text) {
            Ok(message) => sent.push(message),
            // The newest may be half written.
            Err(_) if n + 1 == found.len() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Compares what was recorded with what was sent: from a start of the recorder on
/// it must be the same, message for message. Returns how many there were.
///
/// `sent` may continue after the last that was recorded: a caller that has seen the
/// last notification recorded knows that everything before is there.
///
/// # Errors
/// [`Error::Answer`] with the first difference.
pub(super) fn compare(node: &str, sent: &[Sent], recorded: &[Event]) -> Result<usize> {
    let recorded: Vec<(Sent, bool)> = recorded
        .iter()
        .filter(|event| !TO_ONE.contains(&event.topic.as_str()))
        .map(|event| Ok((Sent::recorded(event)?, is_own_start(event))))
        .collect::<Result<_>>()?;
    let with_log = recorded.iter().any(|(event, _)| event.topic == "log");
    let mut sent = sent.iter().filter(|sent| with_log || sent.topic != "log");
    let bad = |why: String| {
        let from = format!("{node}: what eventlog recorded, compared with what lightningd sent");
        unexpected(from, why)
    };
    match recorded.first() {
        None => return Err(bad("nothing was recorded".to_owned())),
        Some((first, false)) => {
            return Err(bad(format!(
                "the first is not the recorder's own `plugin_started`: {first:?}"
            )));
        }
        Some(_) => {}
    }
    for (n, (ours, start)) in recorded.iter().enumerate() {
        let theirs = if *start {
            // The recorder was not up for what was sent before.
            sent.find(|theirs| *theirs == ours)
        } else {
            sent.next()
        };
        if theirs != Some(ours) {
            return Err(bad(format!(
                "number {n}: recorded {ours:?}, sent {theirs:?}"
            )));
        }
    }
    Ok(recorded.len())
}

/// True for the notification of the recorder's own start, the first it receives.
fn is_own_start(event: &Event) -> bool {
    event.topic == "plugin_started" && event.payload["plugin_name"] == RECORDER
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn recorded(topic: &str, payload: &Value) -> Event {
        let line = json!({"topic": topic, "payload": payload});
        Event::parse(&line.to_string()).expect("a line")
    }

    fn sent(topic: &str, payload: &Value) -> Sent {
        let message = json!({"method": topic, "params": {topic: payload}});
        Sent::read(&message.to_string()).expect("a message")
    }

    const A: (&str, u8) = ("a", 1);
    const B: (&str, u8) = ("b", 2);

    /// What lightningd sent: the recorder missed the first, and `log` was not asked for.
    fn all() -> Vec<Sent> {
        let own = json!({"plugin_name": "eventlog"});
        vec![
            sent("a", &json!({"n": 0})),
            sent("plugin_started", &own),
            sent("a", &json!({"n": 1})),
            sent("log", &json!({})),
            sent("b", &json!({"n": 2})),
        ]
    }

    fn compare_with(events: &[(&str, u8)]) -> Result<usize> {
        let own = recorded("plugin_started", &json!({"plugin_name": "eventlog"}));
        let rest = events.iter().map(|(t, n)| recorded(t, &json!({"n": n})));
        let events: Vec<Event> = std::iter::once(own).chain(rest).collect();
        compare("l1", &all(), &events)
    }

    #[test]
    fn the_same_from_the_recorders_start_on() {
        assert_eq!(compare_with(&[A, B]).expect("the same"), 3);
        assert_eq!(compare_with(&[A, ("shutdown", 0)]).expect("a beginning"), 2);
    }

    #[test]
    fn missing_swapped_and_added_messages_are_found() {
        let extra = ("c", 3);
        for events in [&[B][..], &[B, A], &[A, B, extra], &[A, ("b", 5)]] {
            assert!(compare_with(events).is_err(), "{events:?}");
        }
        assert!(compare("l1", &all(), &[]).is_err());
        assert!(compare("l1", &all(), &[recorded("a", &json!({"n": 1}))]).is_err());
    }

    #[test]
    fn a_plugin_topic_is_its_params() {
        let message = r#"{"method":"m","origin":"p","params":{"origin":1,"x": 2}}"#;
        let sent = Sent::read(message).expect("a message");
        assert_eq!(sent.payload, r#"{"origin":1,"x": 2}"#);
        assert_eq!(sent.origin.as_deref(), Some("p"));
    }
}
