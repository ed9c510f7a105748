//! A disk that hangs: the plugin keeps reading, and answers.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::process::Command;

use common::{Host, eventlog, eventually};
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_disk_that_hangs_does_not_stop_the_reading() {
    let folder = TempDir::new().unwrap();
    let (library, stall) = (folder.path().join("stall.so"), folder.path().join("stall"));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stall.c"))
        .arg("-ldl")
        .status()
        .expect("cc, which Rust links with");
    assert!(built.success());

    let mut command = eventlog();
    command.env("LD_PRELOAD", &library).env("STALL", &stall);
    let mut host = Host::spawn(command);
    host.handshake(json!({}));
    let mut n = 0;
    let mut flood = |host: &mut Host, count: usize| {
        for _ in 0..count {
            host.notify("connect", json!({"n": n, "pad": "x".repeat(200)}));
            n += 1;
        }
        n
    };
    // A single one, which the thread that reads writes itself, then more than a
    // pipe holds; twice, for the threads have changed their places by then.
    for _ in 0..2 {
        let before = flood(&mut host, 1);
        host.records(before);
        File::create(&stall).unwrap();
        flood(&mut host, 1);
        eventually("the first to be taken", || {
            (queued(&mut host) == 0).then_some(())
        });
        flood(&mut host, 1000);
        eventually("the rest to be read", || {
            (queued(&mut host) == 1000).then_some(())
        });
        assert_eq!(
            fs::read_to_string(host.path("eventlog.jsonl"))
                .unwrap()
                .lines()
                .count(),
            before
        );
        fs::remove_file(&stall).unwrap();
        host.records(before + 1001);
    }
    for (at, record) in host.records(n).iter().enumerate() {
        assert_eq!(record["payload"]["n"], at);
        assert_eq!(record["seq"], at + 1);
    }
}

fn queued(host: &mut Host) -> u64 {
    let stats: Value = host.call("eventlog-stats", json!({})).unwrap();
    stats["queue"]["length"].as_u64().unwrap()
}
