//! `eventlog-fsync`: what is on the disk, seen by the calls that put it there.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::path::PathBuf;

use common::{Host, eventlog, eventually, preloaded};
use serde_json::json;
use tempfile::TempDir;

/// eventlog, whose calls are noted; the library's folder, with `calls` and `fail`.
fn watched(options: serde_json::Value) -> (Host, TempDir) {
    let (folder, library) = preloaded("sync.c");
    let mut command = eventlog();
    command
        .env("LD_PRELOAD", &library)
        .env("CALLS", folder.path().join("calls"))
        .env("FAIL", folder.path().join("fail"));
    let mut host = Host::spawn(command);
    host.handshake(options);
    (host, folder)
}

/// The calls: what, and on which path.
fn calls(folder: &TempDir) -> Vec<(String, PathBuf)> {
    let text = fs::read_to_string(folder.path().join("calls")).unwrap();
    let call = |line: &str| {
        let (what, path) = line.split_once(' ').unwrap();
        (what.to_owned(), PathBuf::from(path))
    };
    text.lines().map(call).collect()
}

#[test]
fn every_file_and_every_name_is_on_the_disk() {
    let options = json!({"eventlog-fsync": true, "eventlog-rotate-size": "1KiB"});
    let (mut host, folder) = watched(options);
    // In one piece: a chunk may go over several files.
    let all: String = (0..100)
        .map(|n| format!("{{\"method\":\"connect\",\"params\":{{\"n\":{n}}}}}\n\n"))
        .collect();
    host.write(all.as_bytes());
    let log = host.path("eventlog.jsonl");
    let dir = host.into_dir();
    let calls = calls(&folder);
    let mut unsynced = false;
    // The name of a new file; at first of the one made at the start.
    let mut unnamed = true;
    let mut rotations = 0;
    for (what, path) in &calls {
        if *path == log {
            match what.as_str() {
                "write" => {
                    assert!(
                        !unnamed,
                        "written to before its name was synced: {calls:#?}"
                    );
                    unsynced = true;
                }
                "sync" => unsynced = false,
                "rename" => {
                    assert!(!unsynced, "moved away unsynced: {calls:#?}");
                    unnamed = true;
                    rotations += 1;
                }
                other => panic!("{other}"),
            }
        } else if what == "sync" && path == dir.path() {
            unnamed = false;
        }
    }
    assert!(!unsynced && rotations > 5, "{rotations}: {calls:#?}");
}

#[test]
fn a_sync_that_fails_is_a_loss_reported_once() {
    let (mut host, folder) = watched(json!({"eventlog-fsync": true}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    File::create(folder.path().join("fail")).unwrap();
    host.notify("connect", json!({"n": 2}));
    let line = host.logged("did not confirm the records 3 to 3");
    assert!(line.starts_with("error: "), "{line}");
    host.notify("connect", json!({"n": 3}));
    let records = host.records(4);
    let marks: Vec<_> = records
        .iter()
        .filter(|record| record["topic"] == "eventlog_unsynced")
        .collect();
    assert_eq!(marks.len(), 1, "{records:?}");
    assert_eq!(
        (
            &marks[0]["payload"]["first_seq"],
            &marks[0]["payload"]["last_seq"]
        ),
        (&json!(3), &json!(3))
    );
    // The last is counted once it is synced, which is after it can be seen.
    let stats = eventually("three recorded", || {
        let stats = host.call("eventlog-stats", json!({})).unwrap();
        (stats["recorded"] == 3).then_some(stats)
    });
    assert_eq!(stats["unsynced"], 1);
    assert!(
        host.log
            .iter()
            .all(|(_, line)| !line.contains("nothing was lost"))
    );
}
