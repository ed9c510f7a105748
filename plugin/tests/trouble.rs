//! Trouble with the file, and how the plugin deals with it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use common::{Host, eventlog, eventually, json_lines, without_start};
use serde_json::{Value, json};
use tempfile::TempDir;

fn ns(records: &[Value]) -> Vec<u64> {
    records
        .iter()
        .map(|record| record["payload"]["n"].as_u64().unwrap())
        .collect()
}

fn trouble(host: &mut Host) -> Option<String> {
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    stats
        .get("trouble")
        .map(|trouble| trouble.as_str().unwrap().to_owned())
}

fn until_trouble(host: &mut Host, is: bool) {
    eventually("trouble to come or to go", || {
        (trouble(host).is_some() == is).then_some(())
    });
}

#[test]
fn seq_continues_after_a_restart() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.notify("connect", json!({"n": 2}));
    let mut host = Host::eventlog_in(host.into_dir(), json!({}));
    host.notify("connect", json!({"n": 3}));
    host.call("eventlog-rotate", json!({})).unwrap();
    let mut host = Host::eventlog_in(host.into_dir(), json!({}));
    host.notify("connect", json!({"n": 4}));
    // Each start has one as well.
    assert_eq!(host.records(1)[0]["seq"], 7);
}

/// The records of starts.
fn starts(host: &Host, count: usize) -> Vec<Value> {
    let path = host.path("eventlog.jsonl");
    eventually(&format!("{count} starts"), || {
        let mut records = json_lines(&path);
        records.retain(|record| record["topic"] == "eventlog_started");
        (records.len() >= count).then_some(records)
    })
}

#[test]
fn each_start_is_recorded_with_how_the_run_before_ended() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    // One that is killed, after one that ended on its own.
    let mut host = Host::eventlog_in(host.into_dir(), json!({}));
    starts(&host, 2);
    host.child.kill().unwrap();
    host.ended();
    let host = Host::eventlog_in(host.take_dir(), json!({}));
    let starts = starts(&host, 3);
    let payload = |last_seq: u64, previous: &str, lost: Value| {
        json!({
            "lightningd": "v26.06.6", "eventlog": env!("CARGO_PKG_VERSION"),
            "last_seq": last_seq, "previous": previous, "lost": lost,
        })
    };
    let after = |start: usize, mut payload: Value| {
        payload["previous_epoch"] = starts[start]["epoch"].clone();
        payload
    };
    assert_eq!(starts[0]["payload"], payload(0, "none", json!(0)));
    let ended = after(0, payload(2, "ended", json!(0)));
    assert_eq!(starts[1]["payload"], ended);
    let killed = after(1, payload(3, "killed", json!(null)));
    assert_eq!(starts[2]["payload"], killed);
}

#[test]
fn no_number_is_given_twice_whatever_becomes_of_the_file() {
    type Change = fn(&Path);
    let changes: [Change; 5] = [
        |path| fs::rename(path, path.with_extension("2026-11-21")).unwrap(),
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, "text\n").unwrap(),
        // A whole record that lacks its line end.
        |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, text.trim_end()).unwrap();
            fs::remove_file(path.with_extension("jsonl.state")).unwrap();
        },
    ];
    for change in changes {
        let mut host = Host::eventlog(json!({}));
        host.notify("connect", json!({"n": 1}));
        host.records(1);
        host.child.kill().unwrap();
        host.ended();
        change(&host.path("eventlog.jsonl"));
        let mut host = Host::eventlog_in(host.take_dir(), json!({}));
        host.notify("connect", json!({"n": 2}));
        let seq = eventually("the event after the change", || {
            let text = fs::read_to_string(host.path("eventlog.jsonl")).ok()?;
            let line = text.lines().find(|line| line.contains("{\"n\":2}}"))?;
            let record: Value = serde_json::from_str(line).unwrap();
            record["seq"].as_u64()
        });
        // 1 and 3 are of the starts.
        assert_eq!(seq, 4);
    }
}

/// The records of all files, the oldest first; lines that are none left out.
fn everything(dir: &Path) -> Vec<Value> {
    let log = dir.join("eventlog.jsonl");
    let older = (1..).map(|n| log.with_extension(format!("jsonl.{n}")));
    let mut files: Vec<_> = older.take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(log);
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let texts: Vec<String> = files.iter().map(read).collect();
    // Any file may end within a line.
    let lines = texts.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn seqs(records: &[Value]) -> Vec<u64> {
    let seq = |record: &Value| record["seq"].as_u64().unwrap();
    records.iter().map(seq).collect()
}

#[test]
fn a_state_from_a_backup_is_not_believed() {
    // Rotated since, and more text lines since than the old state's search went over.
    for text_lines in [0, 9000] {
        let mut host = Host::eventlog(json!({}));
        host.notify("connect", json!({"n": 1}));
        let dir = host.into_dir();
        let state = dir.path().join("eventlog.jsonl.state");
        let backup = fs::read(&state).unwrap();
        let mut host = Host::eventlog_in(dir, json!({}));
        for n in 2..10 {
            host.notify("connect", json!({"n": n}));
        }
        if text_lines == 0 {
            host.call("eventlog-rotate", json!({})).unwrap();
        } else {
            let text = json!({"config": "eventlog-format", "val": "text"});
            host.records(9);
            host.call("setconfig", text).unwrap();
            for _ in 0..text_lines {
                host.notify("connect", json!({"pad": "z".repeat(2000)}));
            }
        }
        let dir = host.into_dir();
        fs::write(&state, backup).unwrap();
        let mut host = Host::eventlog_in(dir, json!({}));
        host.notify("connect", json!({"n": 10}));
        let dir = host.into_dir();
        let records = everything(dir.path());
        assert_eq!(seqs(&records), (1..=13).collect::<Vec<_>>());
        let start = &records[11]["payload"];
        assert_eq!(
            (&start["previous"], &start["lost"]),
            (&json!("unknown"), &Value::Null)
        );
    }
}

#[test]
fn numbers_missing_after_a_kill_are_named_by_the_next_start() {
    let mut dir = TempDir::new().unwrap();
    let mut message = String::new();
    for n in 0..50 {
        message += &format!("{{\"method\":\"connect\",\"params\":{{\"n\":{n}}}}}\n\n");
    }
    for round in 0..20 {
        let mut host = Host::eventlog_in(
            dir,
            json!({"eventlog-rotate-size": "16KiB", "eventlog-rotate-keep": 1000}),
        );
        for _ in 0..round * 5 {
            host.write(message.as_bytes());
        }
        host.child.kill().unwrap();
        host.ended();
        dir = host.take_dir();
        // As if it had been killed before the write, and within it; in the middle of a
        // rotation there is no file.
        let log = dir.path().join("eventlog.jsonl");
        let whole = fs::metadata(&log).map_or(0, |file| file.len());
        let file = File::options().write(true).open(&log);
        if let (1, Ok(file)) = (round % 2, file) {
            file.set_len(whole.saturating_sub(100)).unwrap();
        }
    }
    let dir = Host::eventlog_in(dir, json!({})).into_dir();
    let records = everything(dir.path());
    let mut gaps = 0;
    for pair in records.windows(2) {
        let (before, seq) = (seqs(pair)[0], seqs(pair)[1]);
        assert!(before < seq, "{pair:?}");
        let missing = &pair[1]["payload"]["missing"];
        if seq == before + 1 {
            assert_eq!(*missing, Value::Null);
        } else {
            assert_eq!(*missing, json!([before + 1, seq - 1]), "{pair:?}");
            gaps += 1;
        }
    }
    assert!(gaps > 0, "no round left a gap");
}

#[test]
fn a_torn_last_line_is_closed_and_logged() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("eventlog.jsonl");
    let whole = r#"{"seq":41,"received_at":"t","node_id":null,"topic":"connect","payload":{}}"#;
    fs::write(&path, format!("{whole}\n{{\"seq\":42,\"recei")).unwrap();
    let mut host = Host::eventlog_in(dir, json!({}));
    host.notify("connect", json!({"n": 1}));
    let line = host.logged("has no end");
    assert!(line.starts_with("warn: "), "{line}");
    let lines = host.lines("eventlog.jsonl", 4);
    assert_eq!(lines[..2], [whole, "{\"seq\":42,\"recei"]);
    let record: Value = serde_json::from_str(&lines[3]).unwrap();
    assert_eq!(
        (&record["seq"], &record["payload"]["n"]),
        (&json!(43), &json!(1))
    );
    // It was others' to read, too.
    assert!(host.logged("others could read it").contains("now 600"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn rotation_by_size_keeps_n_files_and_every_line_whole() {
    let mut host = Host::eventlog(json!({
        "eventlog-rotate-size": "2KiB", "eventlog-rotate-keep": 3, "eventlog-fsync": true,
    }));
    for n in 0..200 {
        host.notify("connect", json!({"n": n}));
    }
    let dir = host.into_dir();
    let mut all = Vec::new();
    for name in [
        "eventlog.jsonl.3",
        "eventlog.jsonl.2",
        "eventlog.jsonl.1",
        "eventlog.jsonl",
    ] {
        let path = dir.path().join(name);
        let metadata = path.metadata().unwrap();
        assert!(
            metadata.len() <= 2048 && metadata.len() > 0,
            "{name}: {}",
            metadata.len()
        );
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        all.extend(json_lines(&path));
    }
    assert!(!dir.path().join("eventlog.jsonl.4").exists());
    let kept = all.len() as u64;
    assert!(kept > 20, "{kept}");
    assert_eq!(ns(&all), (200 - kept..200).collect::<Vec<_>>());
    let seqs: Vec<u64> = all
        .iter()
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (202 - kept..202).collect::<Vec<_>>());
}

#[test]
fn fewer_kept_files_after_the_option_changed() {
    let mut host = Host::eventlog(json!({}));
    for n in 0..4 {
        host.notify("connect", json!({"n": n}));
        host.call("eventlog-rotate", json!({})).unwrap();
    }
    assert!(host.path("eventlog.jsonl.4").exists());
    host.call(
        "setconfig",
        json!({"config": "eventlog-rotate-keep", "val": "2"}),
    )
    .unwrap();
    host.notify("connect", json!({"n": 4}));
    host.call("eventlog-rotate", json!({})).unwrap();
    assert!(host.path("eventlog.jsonl.2").exists());
    assert!(!host.path("eventlog.jsonl.3").exists() && !host.path("eventlog.jsonl.4").exists());
}

#[test]
fn a_line_larger_than_a_file_may_be_gets_one_of_its_own() {
    let mut host = Host::eventlog(json!({"eventlog-rotate-size": "1KiB"}));
    host.notify("connect", json!({"n": 0}));
    host.notify("connect", json!({"n": 1, "long": "x".repeat(5000)}));
    host.notify("connect", json!({"n": 2}));
    let dir = host.into_dir();
    let files = ["eventlog.jsonl.2", "eventlog.jsonl.1", "eventlog.jsonl"];
    let each = files.map(|name| ns(&without_start(json_lines(&dir.path().join(name)))));
    assert_eq!(each, [[0], [1], [2]]);
}

#[test]
fn logrotate_moves_the_file_and_sends_sighup() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    fs::rename(host.path("eventlog.jsonl"), host.path("moved")).unwrap();
    let pid = nix::unistd::Pid::from_raw(host.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGHUP).unwrap();
    // The new file is there before any event is, and carries the sequence on:
    // the plugin may not see the one before.
    let records = host.records(1);
    assert_eq!(
        (&records[0]["seq"], &records[0]["topic"]),
        (&json!(3), &json!("eventlog_reopened"))
    );
    let moved = without_start(json_lines(&host.path("moved")));
    assert_eq!(ns(&moved), [1]);
    let mut host = Host::eventlog_in(host.into_dir(), json!({}));
    host.notify("connect", json!({"n": 2}));
    let records = host.records(2);
    assert_eq!(
        (&records[1]["seq"], &records[1]["payload"]["n"]),
        (&json!(5), &json!(2))
    );
}

#[test]
fn a_file_moved_or_deleted_is_made_anew() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    fs::remove_file(host.path("eventlog.jsonl")).unwrap();
    host.notify("connect", json!({"n": 2}));
    let records = host.records(1);
    assert_eq!((ns(&records), &records[0]["seq"]), (vec![2], &json!(3)));
}

#[test]
fn a_directory_in_the_files_place_is_waited_out() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    let path = host.path("eventlog.jsonl");
    fs::rename(&path, host.path("moved")).unwrap();
    fs::create_dir(&path).unwrap();
    for n in 2..500 {
        host.notify("connect", json!({"n": n}));
    }
    assert!(host.logged("cannot record").contains("is a directory"));
    until_trouble(&mut host, true);
    assert_eq!(
        host.call("eventlog-rotate", json!({})).unwrap_err()["code"],
        -1
    );
    fs::remove_dir(&path).unwrap();
    assert_eq!(ns(&host.records(498)), (2..500).collect::<Vec<_>>());
    assert!(host.logged("recording to").contains("nothing was lost"));
    until_trouble(&mut host, false);
    let lines = host
        .log
        .iter()
        .filter(|(_, message)| message.contains("cannot record"));
    assert_eq!(lines.count(), 1);
}

#[test]
fn a_folder_taken_away_is_waited_for() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("logs");
    fs::create_dir(&folder).unwrap();
    let mut host = Host::eventlog_in(dir, json!({"eventlog-file": "logs/events"}));
    host.notify("connect", json!({"n": 1}));
    host.lines("logs/events", 2);
    fs::remove_dir_all(&folder).unwrap();
    host.notify("connect", json!({"n": 2}));
    assert!(
        host.logged("cannot record")
            .contains("its folder does not exist")
    );
    fs::create_dir(&folder).unwrap();
    assert!(host.lines("logs/events", 1)[0].contains("{\"n\":2}"));
}

#[test]
fn a_full_disk_is_waited_out_and_no_line_is_torn() {
    // A limit on the file's size stands for the disk. (`ulimit -f` counts
    // blocks of 512 or 1024 bytes, as the shell has it.)
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -S -f 8; exec \"$0\"",
        env!("CARGO_BIN_EXE_eventlog"),
    ]);
    command.env("LIGHTNINGD_VERSION", "v26.06.6");
    let mut host = Host::spawn(command);
    host.handshake(json!({}));
    for n in 0..300 {
        host.notify("connect", json!({"n": n}));
    }
    assert!(host.logged("cannot record").contains("File too large"));
    until_trouble(&mut host, true);
    // Reading continues, and requests are answered.
    for n in 300..400 {
        host.notify("connect", json!({"n": n}));
    }
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert!(stats["queue"]["length"].as_u64().unwrap() >= 100, "{stats}");
    let length = host.path("eventlog.jsonl").metadata().unwrap().len();
    assert!(length == 4096 || length == 8192, "{length}");
    let raised = Command::new("prlimit")
        .args([
            format!("--pid={}", host.child.id()),
            "--fsize=unlimited".to_owned(),
        ])
        .status()
        .expect("prlimit, of util-linux");
    assert!(raised.success());
    let records = host.records(400);
    assert_eq!(ns(&records), (0..400).collect::<Vec<_>>());
    assert!(host.logged("recording to").contains("nothing was lost"));
}

#[test]
fn notifications_without_room_in_memory_are_counted_and_marked() {
    let mut host = Host::eventlog(json!({"eventlog-buffer": "64KiB"}));
    let path = host.path("eventlog.jsonl");
    starts(&host, 1);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for n in 0..2000 {
        host.notify("connect", json!({"n": n, "pad": "x".repeat(100)}));
    }
    let dropped = eventually("drops", || {
        let stats = host.call("eventlog-stats", json!({})).unwrap();
        assert!(
            stats["queue"]["bytes"].as_u64().unwrap() <= 64 << 10,
            "{stats}"
        );
        stats["dropped"].as_u64().filter(|dropped| *dropped > 0)
    });
    fs::remove_dir(&path).unwrap();
    host.logged(&format!("{dropped} notifications were dropped"));
    host.notify("connect", json!({"n": 2000}));
    let kept = usize::try_from(2000 - dropped).unwrap();
    let records = eventually("the one that came after", || {
        let records = json_lines(&host.path("eventlog.jsonl"));
        let last = records.last()?;
        (last["payload"]["n"] == 2000).then_some(records)
    });
    assert_eq!(ns(&records[..kept]), (0..kept as u64).collect::<Vec<_>>());
    // The place is marked; twice, should what waited have been taken in between.
    let marks = &records[kept..records.len() - 1];
    let counts = marks.iter().map(|mark| {
        assert_eq!(mark["topic"], "eventlog_dropped");
        mark["payload"]["count"].as_u64().unwrap()
    });
    assert_eq!(counts.sum::<u64>(), dropped);
    assert!(matches!(marks.len(), 1 | 2), "{marks:?}");
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record["seq"], n + 2);
    }
}

#[test]
fn losses_at_the_end_are_logged() {
    let mut host = Host::eventlog(json!({}));
    let path = host.path("eventlog.jsonl");
    starts(&host, 1);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for n in 0..5 {
        host.notify("connect", json!({"n": n}));
    }
    host.logged("cannot record");
    host.notify("shutdown", json!({}));
    assert!(!host.ended().success());
    let log = host.log_until_end();
    assert!(
        log.iter()
            .any(|(level, m)| level == "error" && m.contains("lost 5 notifications")),
        "{log:?}"
    );
    // The next start records it.
    fs::remove_dir(&path).unwrap();
    let host = Host::eventlog_in(host.take_dir(), json!({}));
    let start = &starts(&host, 1)[0]["payload"];
    assert_eq!(
        (&start["previous"], &start["lost"]),
        (&json!("ended"), &json!(5))
    );
}

/// With a folder in the file's place and little memory: sends these notifications.
fn flooded(count: usize) -> Host {
    let mut host = Host::eventlog(json!({"eventlog-buffer": "64KiB"}));
    let path = host.path("eventlog.jsonl");
    starts(&host, 1);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    for n in 0..count {
        host.notify("connect", json!({"n": n}));
    }
    host
}

#[test]
fn losses_at_the_end_include_what_was_dropped_before() {
    let count = 5000;
    let mut host = flooded(count);
    eventually("drops", || {
        let stats = host.call("eventlog-stats", json!({})).unwrap();
        (stats["dropped"] != 0).then_some(())
    });
    assert!(!host.close().success());
    fs::remove_dir(host.path("eventlog.jsonl")).unwrap();
    let host = Host::eventlog_in(host.take_dir(), json!({}));
    assert_eq!(starts(&host, 1)[0]["payload"]["lost"], count);
}

#[test]
fn what_was_read_when_a_signal_ends_the_plugin_is_recorded() {
    let (input, mut end) = std::io::pipe().unwrap();
    let mut host = Host::reading(
        input.try_clone().unwrap(),
        eventlog(),
        TempDir::new().unwrap(),
    );
    let mut ids = 0;
    let mut request = |method: &str, params: Value| {
        ids += 1;
        let request = json!({"jsonrpc": "2.0", "id": ids, "method": method, "params": params});
        writeln!(end, "{request}\n").unwrap();
    };
    request("getmanifest", json!({}));
    request(
        "init",
        json!({"options": {}, "configuration": {
            "lightning-dir": host.dir.path(), "rpc-file": "no-rpc", "startup": false,
            "network": "regtest", "feature_set": {},
        }}),
    );
    // As fast as it is taken, until nobody reads.
    let flood = std::thread::spawn(move || {
        let message = |n| format!("{{\"method\":\"connect\",\"params\":{{\"n\":{n}}}}}\n\n");
        let mut n = 0;
        while end.write_all(message(n).as_bytes()).is_ok() {
            n += 1;
        }
    });
    host.records_as_text(1000);
    let pid = nix::unistd::Pid::from_raw(host.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(host.ended().success());
    // Millions: only the last one is read. Before the first is the start's.
    let recorded = host.records_as_text(1000);
    let last = recorded.len() as u64 - 2;
    let record: Value = serde_json::from_str(recorded.last().unwrap()).unwrap();
    assert_eq!(record["payload"]["n"], last);
    // What comes next is still in the pipe, but for the part of a message.
    let next = BufReader::new(input)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("{\"method\""))
        .unwrap();
    let next: Value = serde_json::from_str(&next).unwrap();
    let next = next["params"]["n"].as_u64().unwrap();
    assert!(matches!(next - last, 1 | 2), "{last}, then {next}");
    flood.join().unwrap();
}

#[test]
fn what_came_with_shutdown_is_recorded() {
    let mut host = Host::eventlog(json!({"eventlog-topics": "*"}));
    let message = |n| format!("{{\"method\":\"connect\",\"params\":{{\"n\":{n}}}}}\n\n");
    let after: String = (0..500).map(message).collect();
    host.write(format!("{{\"method\":\"shutdown\",\"params\":{{}}}}\n\n{after}").as_bytes());
    assert!(host.ended().success());
    assert_eq!(ns(&host.records(501)[1..]), (0..500).collect::<Vec<_>>());
}

#[test]
fn what_another_process_does_to_the_last_line_costs_no_other() {
    let mut host = Host::eventlog(json!({}));
    host.notify("connect", json!({"n": 1}));
    host.records(1);
    let path = host.path("eventlog.jsonl");
    let open = || File::options().append(true).open(&path).unwrap();
    let changes: [&dyn Fn(); 3] = [
        &|| {
            open()
                .set_len(open().metadata().unwrap().len() - 10)
                .unwrap()
        },
        &|| open().write_all(b"text").unwrap(),
        &|| {
            open()
                .set_len(open().metadata().unwrap().len() + 100)
                .unwrap()
        },
    ];
    for (change, n) in changes.iter().zip(2..) {
        change();
        host.notify("connect", json!({"n": n}));
        host.logged("has no end");
        host.log.clear();
        let listed = host.call("eventlog-list", json!({"limit": 1})).unwrap();
        assert_eq!(listed["events"][0]["payload"]["n"], n, "{listed}");
    }
}

#[test]
fn a_directory_among_the_older_files_does_not_stop_rotation() {
    let mut host = Host::eventlog(json!({"eventlog-rotate-keep": 2}));
    fs::create_dir(host.path("eventlog.jsonl.2")).unwrap();
    for n in 0..4 {
        host.notify("connect", json!({"n": n}));
        host.records(1);
        host.call("eventlog-rotate", json!({})).unwrap();
    }
    let kept = |name: &str| ns(&without_start(json_lines(&host.path(name))));
    assert_eq!(
        (kept("eventlog.jsonl.1"), kept("eventlog.jsonl.3")),
        (vec![3], vec![2])
    );
}

#[test]
fn a_file_cut_to_nothing_counts_from_nothing() {
    let mut host = Host::eventlog(json!({"eventlog-rotate-size": "4KiB"}));
    host.notify("connect", json!({"n": 1, "pad": "x".repeat(3000)}));
    host.records(1);
    // As logrotate's copytruncate does.
    File::options()
        .write(true)
        .truncate(true)
        .open(host.path("eventlog.jsonl"))
        .unwrap();
    host.notify("connect", json!({"n": 2, "pad": "x".repeat(3000)}));
    let length = host.path("eventlog.jsonl").metadata().unwrap().len();
    host.records(1);
    let stats = host.call("eventlog-stats", json!({})).unwrap();
    assert!(
        stats["file_bytes"].as_u64().unwrap() < 4096,
        "{length}: {stats}"
    );
    assert_eq!(stats["rotations"], 0);
}

#[test]
fn a_single_event_larger_than_the_buffer_is_recorded() {
    let mut host = Host::eventlog(json!({"eventlog-buffer": "64KiB"}));
    host.notify("connect", json!({"n": 1, "pad": "x".repeat(200_000)}));
    assert_eq!(ns(&host.records(1)), [1]);
}

#[test]
fn that_secrets_are_recorded_is_logged() {
    let mut host = Host::eventlog(json!({}));
    let set = |host: &mut Host, name: &str, value: &str| {
        host.call("setconfig", json!({"config": name, "val": value}))
            .unwrap();
    };
    set(&mut host, "eventlog-format", "text");
    let line = host.logged("secrets are recorded");
    assert!(line.starts_with("info: "), "{line}");
    let mut host = Host::eventlog(json!({"eventlog-format": "text"}));
    host.logged("secrets are recorded");
}

/// The reason the plugin gives to disable itself with these options.
fn refused(dir: TempDir, options: Value) -> String {
    let mut host = Host::spawn_in(eventlog(), dir);
    host.call("getmanifest", json!({})).unwrap();
    let answer = host.init(options).unwrap();
    let reason = answer["disable"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned();
    assert!(host.ended().success());
    assert!(!reason.contains('\n'), "{reason}");
    // lightningd shows the answer at debug level only.
    let line = host.logged("eventlog is disabled");
    assert!(
        line.starts_with("error: ") && line.contains(&reason),
        "{line}"
    );
    reason
}

#[test]
fn bad_values_disable_the_plugin_with_one_line() {
    for (option, value, reason) in [
        (
            "eventlog-format",
            "xml",
            "eventlog-format=xml: give `json` or `text`",
        ),
        (
            "eventlog-topics",
            "",
            "eventlog-topics=: `` has an empty name in it",
        ),
        ("eventlog-file", "", "eventlog-file=: name a file"),
        (
            "eventlog-buffer",
            "5",
            "eventlog-buffer=5: give a size from 64KiB to 4GiB",
        ),
        (
            "eventlog-rotate-size",
            "x",
            "eventlog-rotate-size=x: give a size from 1KiB, such as `100MiB`, or 0 for never",
        ),
    ] {
        assert_eq!(
            refused(TempDir::new().unwrap(), json!({option: value})),
            reason
        );
    }
    let keep = json!({"eventlog-rotate-keep": 1001});
    assert_eq!(
        refused(TempDir::new().unwrap(), keep),
        "eventlog-rotate-keep=1001: give a number from 1 to 1000"
    );
}

#[test]
fn files_that_should_not_be_written_are_refused() {
    type Make = fn(&Path);
    let cases: [(Make, &str); 5] = [
        (|path| fs::create_dir(path).unwrap(), "is a directory"),
        (
            |path| {
                fs::write(path.with_extension("target"), "").unwrap();
                symlink(path.with_extension("target"), path).unwrap();
            },
            "is a symbolic link",
        ),
        (
            |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "is a named pipe",
        ),
        (
            |path| symlink("/dev/null", path).unwrap(),
            "is a symbolic link",
        ),
        (
            |path| {
                fs::write(path.with_extension("first"), "").unwrap();
                fs::hard_link(path.with_extension("first"), path).unwrap();
            },
            "has a second name",
        ),
    ];
    for (make, expected) in cases {
        let dir = TempDir::new().unwrap();
        make(&dir.path().join("eventlog.jsonl"));
        let reason = refused(dir, json!({}));
        assert!(reason.contains(expected), "{reason}");
    }
    let reason = refused(
        TempDir::new().unwrap(),
        json!({"eventlog-file": "no/such/folder"}),
    );
    assert!(reason.contains("its folder does not exist"), "{reason}");
    let reason = refused(
        TempDir::new().unwrap(),
        json!({"eventlog-file": "/dev/null"}),
    );
    assert!(reason.contains("is a device"), "{reason}");
}

#[test]
fn a_file_another_process_records_to_is_refused() {
    let host = Host::eventlog(json!({}));
    let path = host.path("eventlog.jsonl");
    let reason = refused(TempDir::new().unwrap(), json!({"eventlog-file": path}));
    assert!(reason.contains("another process records there"), "{reason}");
}

#[test]
fn a_file_that_cannot_be_opened_for_lack_of_permission_is_refused() {
    if nix::unistd::geteuid().is_root() {
        // Nothing is forbidden to root. Another user's file is refused all the same.
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("eventlog.jsonl");
        fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        let reason = refused(dir, json!({}));
        assert!(reason.contains("belongs to user 65534"), "{reason}");
    } else {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("eventlog.jsonl");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        let reason = refused(dir, json!({}));
        assert!(reason.contains("permission denied"), "{reason}");
    }
}
