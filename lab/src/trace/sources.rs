//! What others have written in a lab's folder: recorders of notifications, tees,
//! lightningd itself, and those who print.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::output::{MORE, cut};
use super::{Entry, Kind};
use crate::Follower;

/// Of a longer file, in bytes, only the end is read.
const LONGEST: u64 = 64 << 20;

/// The lines of a file; of a long one its last, which is noted.
pub(super) fn lines(path: &Path, notes: &mut Vec<String>) -> Vec<String> {
    let length = path.metadata().map_or(0, |metadata| metadata.len());
    let skipped = length.saturating_sub(LONGEST);
    let mut file = Follower::from_offset(path, skipped);
    let mut lines = file.lines().unwrap_or_else(|error| {
        notes.push(error.to_string());
        Vec::new()
    });
    lines.extend(file.rest());
    if skipped > 0 {
        // The first may be half a line.
        lines.drain(..1.min(lines.len()));
        notes.push(format!(
            "of {} only the last {} MiB are here",
            path.display(),
            LONGEST >> 20
        ));
    }
    lines
}

/// What a recorder wrote: `eventlog`, a tap. Each line has its time; those of other
/// recorders have none, and are left out.
pub(super) fn recorded(node: &str, recorder: &str, lines: &[String]) -> Vec<Entry> {
    #[derive(Deserialize)]
    struct Record<'a> {
        received_at: String,
        topic: String,
        origin: Option<String>,
        #[serde(borrow)]
        payload: Option<&'a RawValue>,
    }
    let lane = format!("{node}/{recorder}");
    let entry = |line: &String| {
        let record: Record<'_> = serde_json::from_str(line).ok()?;
        // The recorder's own are no notifications.
        let mut entry = if record.topic.starts_with("eventlog_") {
            Entry::new(Kind::Log, lane.as_str())
        } else {
            let from = record.origin.map(|plugin| format!("{node}/{plugin}"));
            let from = from.unwrap_or_else(|| node.to_owned());
            Entry::new(Kind::Notification, from).to(lane.as_str())
        };
        entry.at = record.received_at;
        let entry = entry.name(record.topic);
        let payload = record
            .payload
            .map(|payload| entry.clone().json(payload.get()));
        Some(payload.unwrap_or(entry))
    };
    lines.iter().filter_map(entry).collect()
}

/// A message, as far as it says what it is.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Message<'_> {
    /// As an entry from one to the other; the names of requests are in `asked`.
    fn entry(&self, from: &str, to: &str, asked: &mut HashMap<String, String>) -> Entry {
        let id = self.id.map(|id| id.get().trim_matches('"').to_owned());
        let (kind, name) = match (&self.method, &id) {
            (Some(method), Some(id)) => {
                asked.insert(id.clone(), method.clone());
                let hook = cln_topics::Hook::find(method).is_some();
                (
                    if hook { Kind::Hook } else { Kind::Request },
                    method.clone(),
                )
            }
            (Some(method), None) => (Kind::Notification, method.clone()),
            (None, _) => {
                let name = id.as_ref().and_then(|id| asked.remove(id));
                (Kind::Answer, name.unwrap_or_default())
            }
        };
        let mut entry = Entry::new(kind, from)
            .to(to)
            .name(name)
            .bad(self.error.is_some());
        entry.id = id.map(|id| format!("{}#{id}", if kind == Kind::Answer { to } else { from }));
        let data = self.error.or(self.result).or(self.params);
        match data {
            Some(data) => entry.json(data.get()),
            None => entry,
        }
    }
}

/// What passed between lightningd and a plugin that was started with a tee (`lab tee`).
/// What the plugin logs is in the node's log, too, and is left out.
pub(super) fn wire(node: &str, plugin: &str, lines: &[String]) -> Vec<Entry> {
    #[derive(Deserialize)]
    struct Passed<'a> {
        at: String,
        from: String,
        #[serde(borrow)]
        message: Option<&'a RawValue>,
        text: Option<String>,
    }
    let lane = format!("{node}/{plugin}");
    let mut asked = HashMap::new();
    let mut entry = |line: &String| {
        let passed: Passed<'_> = serde_json::from_str(line).ok()?;
        let (from, to) = match passed.from.as_str() {
            "lightningd" => (node, lane.as_str()),
            _ => (lane.as_str(), node),
        };
        let mut entry = match (passed.message, passed.text) {
            (Some(message), _) => {
                let message: Message<'_> = serde_json::from_str(message.get()).ok()?;
                if message.method.as_deref() == Some("log") && passed.from == "plugin" {
                    return None;
                }
                message.entry(from, to, &mut asked)
            }
            (None, Some(text)) if passed.from == "stderr" => {
                Entry::new(Kind::Stderr, from).text(cut(&text))
            }
            (None, Some(text)) if passed.from == "tee" => {
                Entry::new(Kind::Note, from).text(cut(&text))
            }
            // On stdout, where only messages belong.
            (None, text) => Entry::new(Kind::Note, from).text(cut(&text?)).bad(true),
        };
        entry.at = passed.at;
        Some(entry)
    };
    lines.iter().filter_map(&mut entry).collect()
}

/// What lightningd saved as it sent it, and hooks' answers (`dev-save-plugin-io`): a file
/// each, `KIND-NAME-PID-START-NUMBER`. Their time is that of the file.
pub(super) fn saved(node: &str, folder: &Path, most: usize, notes: &mut Vec<String>) -> Vec<Entry> {
    let lane = format!("{node}/plugins");
    let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name
            .rsplit('-')
            .next()
            .and_then(|number| number.parse().ok());
        let ours = ["notification_out-", "hook_out-", "hook_in-"];
        if let (true, Some(number)) = (ours.iter().any(|kind| name.starts_with(kind)), number)
            && let Ok(written) = entry.metadata().and_then(|file| file.modified())
        {
            files.push((written, number, entry.path()));
        }
    }
    files.sort();
    let skipped = files.len().saturating_sub(most);
    if skipped > 0 {
        let folder = folder.display();
        notes.push(format!("{skipped} older files in {folder} are left out"));
    }
    let mut asked = HashMap::new();
    let entry = |(written, _, path): &(std::time::SystemTime, u64, PathBuf)| {
        let text = std::fs::read_to_string(path).ok()?;
        let message: Message<'_> = serde_json::from_str(&text).ok()?;
        let answer = message.method.is_none();
        let (from, to) = if answer {
            (lane.as_str(), node)
        } else {
            (node, lane.as_str())
        };
        let mut entry = message.entry(from, to, &mut asked);
        entry.at = humantime::format_rfc3339_micros(*written).to_string();
        Some(entry)
    };
    files[skipped..].iter().filter_map(entry).collect()
}

/// What a daemon printed that the lab did not write down: the lab was killed, or is up.
/// `written` has what it did.
pub(super) fn printed(
    daemon: &str,
    path: &Path,
    written: &[Entry],
    notes: &mut Vec<String>,
) -> Vec<Entry> {
    let ours = |entry: &&Entry| entry.kind == Kind::Stderr && entry.from == daemon;
    let (count, full) = written
        .iter()
        .filter(ours)
        .fold((0, false), |(count, full), entry| {
            (count + 1, full || entry.name == MORE)
        });
    let Ok(modified) = path.metadata().and_then(|file| file.modified()) else {
        return Vec::new();
    };
    if full {
        return Vec::new();
    }
    let at = humantime::format_rfc3339_micros(modified).to_string();
    let entry = |line: &String| {
        let mut entry = Entry::new(Kind::Stderr, daemon).text(cut(line));
        entry.at.clone_from(&at);
        entry
    };
    lines(path, notes).iter().skip(count).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn recorders_are_read() {
        let text = r#"{"seq":1,"received_at":"2026-01-01T00:00:00.000001Z","topic":"eventlog_started","payload":{}}
{"seq":2,"received_at":"2026-01-01T00:00:00.000002Z","topic":"connect","payload":{"id":"02","x":1.50}}
{"seq":3,"received_at":"2026-01-01T00:00:00.000003Z","topic":"mine","origin":"my.py","payload":[]}
connect notification: 02
"#;
        let entries = recorded("l1", "eventlog", &all(text));
        let seen: Vec<_> = entries
            .iter()
            .map(|e| (e.kind, e.from.as_str(), e.name.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (Kind::Log, "l1/eventlog", "eventlog_started"),
                (Kind::Notification, "l1", "connect"),
                (Kind::Notification, "l1/my.py", "mine"),
            ]
        );
        let data = entries[1].data.as_ref().map(|data| data.get());
        assert_eq!(data, Some(r#"{"id":"02","x":1.50}"#));
    }

    #[test]
    fn a_wire_is_read() {
        let text = r#"{"at":"2026-01-01T00:00:00.1Z","from":"tee","text":"started, process 1"}
{"at":"2026-01-01T00:00:00.2Z","from":"lightningd","message":{"id":"a#1","method":"getmanifest","params":{}}}
{"at":"2026-01-01T00:00:00.3Z","from":"plugin","message":{"id":"a#1","result":{"x":1}}}
{"at":"2026-01-01T00:00:00.4Z","from":"lightningd","message":{"id":7,"method":"peer_connected","params":{}}}
{"at":"2026-01-01T00:00:00.5Z","from":"plugin","message":{"id":7,"error":{"code":-1}}}
{"at":"2026-01-01T00:00:00.6Z","from":"plugin","message":{"method":"log","params":{}}}
{"at":"2026-01-01T00:00:00.7Z","from":"stderr","text":"oops"}
{"at":"2026-01-01T00:00:00.8Z","from":"plugin","text":"printed"}
torn
"#;
        let seen: Vec<String> = wire("l1", "p", &all(text))
            .iter()
            .map(|e| format!("{:?} {} {} {}", e.kind, e.from, e.name, e.bad))
            .collect();
        assert_eq!(
            seen,
            [
                "Note l1/p  false",
                "Request l1 getmanifest false",
                "Answer l1/p getmanifest false",
                "Hook l1 peer_connected false",
                "Answer l1/p peer_connected true",
                "Stderr l1/p  false",
                "Note l1/p  true",
            ]
        );
    }

    #[test]
    fn what_lightningd_saved_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            (
                "notification_out-connect-1-2-0",
                r#"{"method":"connect","params":{"connect":{}}}"#,
            ),
            (
                "hook_out-peer_connected-1-2-1",
                r#"{"id":"x","method":"peer_connected","params":{}}"#,
            ),
            (
                "hook_in-peer_connected-1-2-2",
                r#"{"id":"x","result":{"result":"continue"}}"#,
            ),
            ("hook_in-peer_connected-1-2-3", "half"),
            ("notification_out-connect-1-2-x", "{}"),
        ] {
            std::fs::write(dir.path().join(name), text).expect("write");
        }
        let mut notes = Vec::new();
        let seen: Vec<_> = saved("l1", dir.path(), 10, &mut notes)
            .into_iter()
            .map(|e| (e.kind, e.from, e.name))
            .collect();
        let entry = |kind, from: &str, name: &str| (kind, from.to_owned(), name.to_owned());
        assert_eq!(
            seen,
            [
                entry(Kind::Notification, "l1", "connect"),
                entry(Kind::Hook, "l1", "peer_connected"),
                entry(Kind::Answer, "l1/plugins", "peer_connected"),
            ]
        );
        assert_eq!(saved("l1", dir.path(), 2, &mut notes).len(), 1);
        assert!(notes[0].starts_with("2 older files"), "{notes:?}");
    }
}
