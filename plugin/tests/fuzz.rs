//! Captured messages, garbled in any way and cut anywhere, through everything that
//! reads them. `PROPTEST_CASES` sets how many runs each test makes (`make fuzz`).

#![allow(clippy::unwrap_used)]

mod common;
#[allow(dead_code)]
#[path = "../examples/from_scratch.rs"]
mod from_scratch;

use std::sync::LazyLock;
use std::time::SystemTime;

use cln_wire::{Frame, Members, Splitter};
use common::captures;
use eventlog::chunk::{Entry, Kind};
use eventlog::format::{self, Format, Style};
use eventlog::notification::{Message, Notification, parse};
use eventlog::reader::{self, Order};
use proptest::prelude::*;
use proptest::sample::Index;

/// Every capture's bytes.
static ALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let versions = ["v23.02.2", "v26.06.6"];
    let all = versions.iter().flat_map(|version| captures(version));
    all.map(|(_, bytes)| bytes).collect()
});

fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A change: at a place, of so many bytes, to these.
type Change = (Index, usize, Vec<u8>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4),
        prop::sample::select(vec![
            &b"\n\n"[..],
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b"\\",
            b"\\u",
            b":",
            b",",
            b"007",
            b"1{",
            b"1e400",
            b"\"\\ud800\"",
            b"\t",
            b"null",
            b"\"preimage\":",
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec((any::<Index>(), 0..5_usize, piece), 0..5)
}

/// A few captures with these changes.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(any::<Index>(), 1..4), changes()).prop_map(|(which, changes)| {
        let messages = which.iter().map(|index| index.get(&ALL).as_slice());
        let mut bytes = messages.collect::<Vec<_>>().join(&b"\n\n"[..]);
        bytes.extend(b"\n\n");
        for (at, length, with) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, with);
        }
        bytes
    })
}

/// The frames of these bytes, cut at these places, as text.
fn frames(bytes: &[u8], cuts: &[Index]) -> Vec<(String, Vec<u8>)> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut splitter = Splitter::with_limit(2000);
    let mut seen = Vec::new();
    for ends in cuts.windows(2) {
        let mut frames = splitter.push(&bytes[ends[0]..ends[1]]);
        while let Some(frame) = frames.next() {
            seen.push(match frame {
                Frame::Message(bytes) => ("message".to_owned(), bytes.to_vec()),
                other => (format!("{other:?}"), Vec::new()),
            });
        }
    }
    seen
}

/// Records a notification in each form, and reads it back.
fn record(notification: &Notification, redact: bool) -> Result<(), TestCaseError> {
    let entry = Entry {
        received_at: SystemTime::now(),
        kind: if notification.is_json {
            Kind::Event
        } else {
            Kind::NotJson
        },
        topic: &notification.topic,
        origin: notification.origin.as_deref(),
        payload: notification.payload,
    };
    for format in [Format::Json, Format::Text] {
        let style = Style {
            node_id: None,
            epoch: eventlog::cursor::Epoch::NONE,
            format,
            redact,
        };
        let mut line = String::new();
        format::line(&mut line, 7, &entry, style);
        let line = line.strip_suffix('\n').unwrap();
        prop_assert!(!line.contains(['\n', '\r']));
        if format == Format::Text {
            prop_assert!(reader::record(line.as_bytes()).is_none());
            continue;
        }
        let (record, whole) = reader::record(line.as_bytes()).unwrap();
        prop_assert_eq!(whole, line);
        prop_assert_eq!((record.seq, &record.topic), (7, &notification.topic));
        if redact {
            continue;
        }
        if notification.is_json {
            let payload = notification.payload.replace(['\n', '\r'], "");
            prop_assert_eq!(record.payload.get(), payload);
        } else {
            let text: String = serde_json::from_str(record.payload.get()).unwrap();
            prop_assert_eq!(text, notification.payload);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    /// However a stream is cut, the frames are the same; each message is refused,
    /// or recorded as one line that reads back as what it was decoded to.
    #[test]
    fn any_stream_is_framed_decoded_and_recorded(
        bytes in stream(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
        redact in any::<bool>(),
    ) {
        let seen = frames(&bytes, &cuts);
        prop_assert_eq!(&seen, &frames(&bytes, &[]));
        for (_, message) in &seen {
            match parse(message) {
                Ok(Message::Notification(notification)) => record(&notification, redact)?,
                Ok(Message::Request(_)) => {}
                Err(_) => {
                    let text = String::from_utf8_lossy(message);
                    let found = Members::read(&text).unwrap_or_default();
                    if let (None, Some(notification)) = (found.get("id"), Notification::not_json(&found)) {
                        record(&notification, redact)?;
                    }
                }
            }
        }
    }

    /// A file of anything: both ways give the same records, and none that is not there.
    #[test]
    fn any_file_is_read(
        seqs in prop::collection::vec(1..9_u64, 0..40),
        changes in changes(),
        since in 0..60_u64,
    ) {
        let mut seq = 0;
        let mut bytes: Vec<u8> = Vec::new();
        for step in seqs {
            seq += step;
            let line = format!("{{\"seq\":{seq},\"received_at\":\"\",\"topic\":\"t\",\"payload\":{{}}}}\n");
            bytes.extend(line.into_bytes());
        }
        for (at, length, with) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, with);
        }
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, &bytes).unwrap();
        let read = |order, since| {
            let mut seen = Vec::new();
            let failed = reader::lines(&path, order, since, |line| {
                seen.extend(reader::record(line).map(|(record, _)| record.seq));
                true
            });
            assert!(failed.is_empty(), "{failed:?}");
            seen
        };
        let ahead = read(Order::OldestFirst, 0);
        let mut back = read(Order::NewestFirst, 0);
        back.reverse();
        prop_assert_eq!(&ahead, &back);
        let later = |seqs: &[u64]| seqs.iter().filter(|seq| **seq >= since).count();
        prop_assert_eq!(later(&ahead), later(&read(Order::OldestFirst, since)));
        let (last, _) = reader::last_seq(&path, false);
        // An unfinished line may be one more.
        prop_assert!(ahead.last().is_none_or(|known| last == *known) || !bytes.ends_with(b"\n"));
    }

    /// The example survives any stream, and writes one line a message.
    #[test]
    fn any_stream_does_from_scratch_no_harm(
        bytes in stream().prop_filter("it ends the process", |bytes| {
            memchr::memmem::find(bytes, b"shutdown").is_none()
        }),
    ) {
        let topics = ["connect".to_owned(), "coin_movement".to_owned()];
        let (mut answers, mut records) = (Vec::new(), Vec::new());
        from_scratch::run(&bytes[..], &mut answers, &mut records, &topics).unwrap();
        for line in String::from_utf8(records).unwrap().lines() {
            let known = topics.iter().any(|topic| line.starts_with(&format!("{topic} notification: {{")));
            prop_assert!(known);
        }
    }
}
