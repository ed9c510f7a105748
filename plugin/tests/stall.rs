//! A disk that hangs: the plugin keeps reading, and answers.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};

use common::{Host, eventlog, eventually, preloaded};
use serde_json::{Value, json};

#[test]
fn a_disk_that_hangs_does_not_stop_the_reading() {
    let (folder, library) = preloaded("stall.c");
    let stall = folder.path().join("stall");

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
        eventually("the first to be read", || {
            (queued(&mut host) == 1).then_some(())
        });
        flood(&mut host, 1000);
        eventually("the rest to be read", || {
            (queued(&mut host) == 1001).then_some(())
        });
        assert_eq!(host.records(before).len(), before);
        // That is trouble, in the stats and in the node's log.
        eventually("the trouble to be noticed", || {
            let stats: Value = host.call("eventlog-stats", json!({})).unwrap();
            let trouble = stats["trouble"].as_str()?.to_owned();
            trouble.contains("the disk hangs").then_some(())
        });
        flood(&mut host, 1);
        host.logged("the disk hangs");
        host.log.clear();
        fs::remove_file(&stall).unwrap();
        host.records(before + 1002);
    }
    for (at, record) in host.records(n).iter().enumerate() {
        assert_eq!(record["payload"]["n"], at);
        assert_eq!(record["seq"], at + 2);
    }
}

fn queued(host: &mut Host) -> u64 {
    let stats: Value = host.call("eventlog-stats", json!({})).unwrap();
    stats["queue"]["length"].as_u64().unwrap()
}
