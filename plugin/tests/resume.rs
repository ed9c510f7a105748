//! Going on after a cursor: over crashes, power failures, rotation and deletion.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use common::{Host, PATIENCE};
use eventlog::cursor::{Cursor, Error};
use eventlog::older::older;
use eventlog::tail::{self, From, Item, Tail};
use serde_json::{Value, json};
use tempfile::TempDir;

const LOG: &str = "eventlog.jsonl";

/// Every record in the files, as it is.
fn records(dir: &Path) -> Vec<tail::Record> {
    let mut tail = Tail::open(&dir.join(LOG), From::Oldest).unwrap();
    let mut records = Vec::new();
    while let Some(item) = tail.next().unwrap() {
        if let Item::Record(record) = item {
            records.push(record);
        }
    }
    records
}

fn cursors(records: &[tail::Record]) -> Vec<Cursor> {
    records.iter().map(|record| record.cursor).collect()
}

/// Returns when what was sent is in the file.
fn recorded(host: &mut Host) {
    let durable = json!({"durable": true, "limit": 1});
    host.call("eventlog-list", durable).unwrap();
}

/// Has eventlog record these, in a folder; it ends on its own, or not.
fn run(dir: TempDir, ns: std::ops::Range<u64>, clean: bool) -> TempDir {
    let mut host = Host::eventlog_in(dir, json!({}));
    for n in ns.clone() {
        host.notify("connect", json!({"n": n}));
    }
    recorded(&mut host);
    if clean {
        return host.into_dir();
    }
    host.child.kill().unwrap();
    host.ended();
    host.take_dir()
}

#[test]
fn an_epoch_lasts_over_clean_ends_alone() {
    let dir = run(TempDir::new().unwrap(), 0..3, true);
    let dir = run(dir, 3..5, true);
    let first = records(dir.path());
    assert!(
        first
            .iter()
            .all(|r| r.cursor.epoch == first[0].cursor.epoch)
    );
    assert_eq!(first.len(), 3 + 2 + 2);
    let dir = run(dir, 5..6, false);
    let dir = run(dir, 6..7, true);
    let all = records(dir.path());
    let epochs: Vec<_> = all.iter().map(|r| r.cursor.epoch).collect();
    assert_eq!(epochs[7..9], [epochs[0]; 2], "the run that was killed");
    assert!(
        epochs[9..]
            .iter()
            .all(|e| *e != epochs[0] && *e == epochs[9])
    );
    let start: Value = serde_json::from_str(&all[9].line).unwrap();
    assert_eq!(start["payload"]["previous_epoch"], json!(epochs[0]));
}

/// What may have happened while eventlog was not there.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    /// A power failure: the log is as long as this part of it, in permille.
    Cut(u64),
    /// The same, and zeros stand in its place.
    Zeros(u64),
    LogGone,
    StateGone,
    /// The state as it was at the end before.
    OldState,
    /// The whole folder as it was at the end before.
    OldFolder,
    Rotated,
}

#[test]
fn a_place_that_was_shown_is_never_given_again() {
    let mut dir = TempDir::new().unwrap();
    let mut shown: HashMap<Cursor, String> = HashMap::new();
    let (mut state, mut log) = (Vec::new(), Vec::new());
    let fates = [
        Fate::Nothing,
        Fate::Cut(400),
        Fate::Zeros(700),
        Fate::OldState,
        Fate::LogGone,
        Fate::StateGone,
        Fate::Rotated,
        Fate::OldFolder,
        Fate::Cut(0),
        Fate::Cut(999),
    ];
    let mut n = 0;
    for clean in [true, false, true] {
        for fate in fates {
            dir = run(dir, n..n + 5, clean);
            n += 5;
            for record in records(dir.path()) {
                let before = shown.insert(record.cursor, record.line.clone());
                let same = before.is_none_or(|before| before == record.line);
                assert!(
                    same,
                    "{fate:?}, clean {clean}: given twice: {}",
                    record.line
                );
            }
            let path = dir.path().join(LOG);
            let state_path = dir.path().join("eventlog.jsonl.state");
            let before = (fs::read(&state_path).unwrap(), fs::read(&path).unwrap());
            let cut = |permille| before.1.len() as u64 * permille / 1000;
            let truncate = |length| {
                let file = File::options().write(true).open(&path).unwrap();
                file.set_len(length).unwrap();
                file
            };
            match fate {
                Fate::Nothing => {}
                Fate::Cut(permille) => drop(truncate(cut(permille))),
                Fate::Zeros(permille) => {
                    truncate(cut(permille))
                        .set_len(before.1.len() as u64)
                        .unwrap();
                }
                Fate::LogGone => fs::remove_file(&path).unwrap(),
                Fate::StateGone => fs::remove_file(&state_path).unwrap(),
                Fate::OldState => fs::write(&state_path, &state).unwrap(),
                Fate::OldFolder => {
                    fs::write(&state_path, &state).unwrap();
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, &log).unwrap();
                }
                Fate::Rotated => fs::rename(&path, older(&path, 1)).unwrap(),
            }
            (state, log) = before;
        }
    }
    assert!(shown.len() as u64 > n);
}

#[test]
fn a_reader_goes_on_after_its_cursor_or_learns_why_not() {
    let dir = run(TempDir::new().unwrap(), 0..20, true);
    let all = cursors(&records(dir.path()));
    let path = dir.path().join(LOG);
    for (n, cursor) in all.iter().enumerate() {
        let mut tail = Tail::open(&path, From::After(*cursor)).unwrap();
        let mut rest = Vec::new();
        while let Some(Item::Record(record)) = tail.next().unwrap() {
            rest.push(record.cursor);
        }
        assert_eq!(rest, all[n + 1..]);
    }
    let elsewhere = format!("00000000000000aa:{}", all[3].seq).parse().unwrap();
    let unknown = Tail::open(&path, From::After(elsewhere)).unwrap_err();
    assert!(
        matches!(unknown, tail::Error::Cursor(Error::Unknown { .. })),
        "{unknown}"
    );
    // The records before the tenth are no longer kept.
    let text = fs::read_to_string(&path).unwrap();
    let kept: String = text.split_inclusive('\n').skip(10).collect();
    fs::write(&path, kept).unwrap();
    assert!(Tail::open(&path, From::After(all[9])).is_ok());
    let old = Tail::open(&path, From::After(all[8])).unwrap_err();
    assert!(
        old.to_string()
            .contains(&format!("the oldest is {}", all[10])),
        "{old}"
    );
}

#[test]
fn what_a_power_failure_took_is_a_gap_and_the_rest_follows() {
    let dir = run(TempDir::new().unwrap(), 0..20, false);
    let all = cursors(&records(dir.path()));
    let path = dir.path().join(LOG);
    let text = fs::read_to_string(&path).unwrap();
    let left: String = text.split_inclusive('\n').take(11).collect();
    fs::write(&path, left).unwrap();
    let dir = run(dir, 20..22, true);
    // The reader had seen more than is left.
    let mut tail = Tail::open(&dir.path().join(LOG), From::After(all[15])).unwrap();
    let Some(Item::Gap { after, before }) = tail.next().unwrap() else {
        panic!("not a gap");
    };
    assert_eq!(after, all[15]);
    assert_ne!(before.epoch, after.epoch);
    let Some(Item::Record(start)) = tail.next().unwrap() else {
        panic!("not a record");
    };
    assert_eq!(
        (start.cursor, start.topic.as_str()),
        (before, "eventlog_started")
    );
}

#[test]
fn a_tail_follows_every_rotation_without_a_gap() {
    const MANY: u64 = 20_000;
    let options = json!({"eventlog-rotate-size": "64KiB", "eventlog-rotate-keep": 1000});
    let mut host = Host::eventlog(options);
    let path = host.dir.path().join(LOG);
    let mut tail = Tail::open(&path, From::Oldest).unwrap();
    let reader = std::thread::spawn(move || {
        let mut ns = Vec::new();
        while ns.len() as u64 <= MANY {
            while let Some(item) = tail.next().unwrap() {
                let Item::Record(record) = item else {
                    panic!("{item:?} after {}", ns.len());
                };
                let record: Value = serde_json::from_str(&record.line).unwrap();
                ns.push(record["payload"]["n"].as_u64());
            }
            assert!(tail.wait(Some(PATIENCE)).unwrap() || ns.len() as u64 > MANY);
        }
        ns
    });
    for n in 0..MANY {
        host.notify("connect", json!({"n": n}));
    }
    let ns = reader.join().unwrap();
    assert_eq!(ns[0], None, "the start's record");
    assert!(ns[1..].iter().copied().eq((0..MANY).map(Some)));
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert!(stats["rotations"].as_u64() > Some(10), "{stats}");
}

#[test]
fn files_removed_before_they_were_read_are_a_gap() {
    let mut host = Host::eventlog(json!({"eventlog-rotate-keep": 1}));
    let path = host.dir.path().join(LOG);
    let mut tail = Tail::open(&path, From::Oldest).unwrap();
    for n in 0..5 {
        host.notify("connect", json!({"n": n}));
        recorded(&mut host);
        host.call("eventlog-rotate", json!({})).unwrap();
    }
    host.notify("connect", json!({"n": 5}));
    recorded(&mut host);
    let mut seen = Vec::new();
    while let Some(item) = tail.next().unwrap() {
        seen.push(match item {
            Item::Record(record) => record.cursor.seq.to_string(),
            Item::Gap { after, before } => format!("{}..{}", after.seq, before.seq),
        });
    }
    // The first file is open; the third and the fourth are gone.
    assert_eq!(seen, ["1", "2", "2..6", "6", "7"]);
    assert!(!tail.wait(Some(Duration::ZERO)).unwrap() || tail.next().unwrap().is_none());
}

#[test]
fn the_methods_take_and_give_cursors() {
    let mut host = Host::eventlog(json!({}));
    for n in 0..5 {
        host.notify(
            if n % 2 == 0 { "connect" } else { "disconnect" },
            json!({"n": n}),
        );
    }
    recorded(&mut host);
    let page = |host: &mut Host, params| host.call("eventlog-list", params).unwrap();
    let first = page(&mut host, json!({"newest": "last", "limit": 2}));
    let mut cursor = first["cursor"].clone();
    let mut ns = Vec::new();
    for _ in 0..9 {
        let next = json!({"cursor": cursor, "limit": 2, "topic": "connect", "durable": true});
        let next = page(&mut host, next);
        ns.extend(
            next["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["payload"]["n"].clone()),
        );
        cursor = next["cursor"].clone();
    }
    assert_eq!(ns, [json!(2), json!(4)]);
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert_eq!(stats["cursor"], cursor);
    let waits = host.request("eventlog-wait", json!({"cursor": cursor, "durable": true}));
    host.notify("connect", json!({"n": 6}));
    let event = host.answer(&waits).unwrap();
    assert_eq!(event["payload"]["n"], 6);
    let given = format!("{}:{}", event["epoch"].as_str().unwrap(), event["seq"]);
    let again = host
        .call("eventlog-wait", json!({"cursor": cursor}))
        .unwrap();
    assert_eq!(again, event);
    let (epoch, _) = given.split_once(':').unwrap();
    for (params, says) in [
        (json!({"cursor": "x"}), "should be a cursor"),
        (
            json!({"cursor": given, "since": 3}),
            "cannot be given together",
        ),
        (
            json!({"cursor": format!("{epoch}:999")}),
            "is ahead of the last record",
        ),
        (json!({"cursor": "00000000000000aa:1"}), "from another node"),
        (json!({"durable": 3}), "should be 'true' or 'false'"),
    ] {
        let error = host.call("eventlog-list", params).unwrap_err();
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
}
