//! What `make test` tries a few times, `make soak` tries many times: the rows of its
//! table. Two more are in `eventlog` and `leaks`.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Event, PATIENCE, Plugin, PluginHarness, Probe, eventually};
use lab_tests::sandbox::said;
use lab_tests::{Kinds, Outcome, Suite, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::eventlog::{custom_topics, eventlog, file, flood, recorded};

pub fn tests(suite: Suite) -> Suite {
    suite
        .scenario_alone("invoices_and_reconnects_are_recorded", invoices)
        .scenario_alone("eventlog_is_killed_and_no_number_is_used_twice", kills)
        .scenario_alone("labs_side_by_side", labs)
        .test("a_file_cut_anywhere_is_continued", cuts)
        .unless(no_tmpfs())
        .test("a_disk_that_is_full_and_back_loses_nothing", disk)
}

/// How many rounds there are: the first with `make test`, the second with `make soak`.
pub fn rounds(few: usize, many: usize) -> usize {
    // nextest sets it.
    let soak = std::env::var("NEXTEST_PROFILE").is_ok_and(|profile| profile == "soak");
    if soak { many } else { few }
}

/// Adds a row to the table that `make soak` prints.
///
/// # Errors
/// With the failures, if there are any.
pub fn row(name: &str, rounds: usize, failures: &[String], started: Instant) -> Outcome {
    let seconds = started.elapsed().as_secs_f64();
    let row = format!(
        "{name:<60} {rounds:>8} {:>8} {seconds:>7.1} s\n",
        failures.len()
    );
    print!("{row}");
    let table = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    let mut options = OpenOptions::new();
    let mut table = options.append(true).create(true).open(table)?;
    table.write_all(row.as_bytes())?;
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// The numbers of these events of a topic.
fn numbers(events: &[Event], topic: &str, number: impl Fn(&Event) -> Option<u64>) -> Vec<u64> {
    let wanted = events.iter().filter(|event| event.topic == topic);
    wanted.filter_map(number).collect()
}

/// What is wrong with these numbers, which must be 0, 1, 2, …
fn in_order(what: &str, numbers: &[u64], count: usize) -> Option<String> {
    let expected = 0..count as u64;
    let first = expected
        .zip(numbers)
        .find(|(wanted, number)| wanted != *number);
    (first.is_some() || numbers.len() != count).then(|| {
        format!(
            "{} of {count} {what}, the first difference {first:?}",
            numbers.len()
        )
    })
}

/// The oracles are the answers, whose order is known, and a tap on the same node.
async fn invoices(kinds: Kinds) -> Outcome {
    let started = Instant::now();
    let (invoices, reconnects) = (rounds(50, 5_000), rounds(20, 2_000));
    let topics = ["connect", "disconnect", "invoice_creation"];
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    l1.plugin_start(&eventlog(&[("eventlog-topics", &topics.join(","))])?)
        .await?;
    let mut tap = l1.tap_topics(&topics).await?;
    let create = async {
        for n in 0..invoices {
            l1.invoice("1000", &n.to_string(), "d").await?;
        }
        Ok(())
    };
    let reconnect = async {
        for _ in 0..reconnects {
            l1.connect(l2).await?;
            l1.disconnect(l2).await?;
            for (node, peer) in [(l1, l2), (l2, l1)] {
                eventually("the peer to be gone", PATIENCE, async || {
                    Ok(if node.is_connected(peer).await? {
                        Probe::NotYet("it is connected".to_owned())
                    } else {
                        Probe::Ready(())
                    })
                })
                .await?;
            }
        }
        Ok(())
    };
    let work: cln_lab::Result<_> = async { tokio::try_join!(create, reconnect) }.await;
    work?;
    let all = invoices + 2 * reconnects;
    let mut tapped = Vec::new();
    eventually("the tap to have all", Duration::from_secs(60), async || {
        tapped = tap.pending()?;
        Ok(if tapped.len() >= all {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{} of {all}", tapped.len()))
        })
    })
    .await?;
    l1.stop().await?;
    let mut events = recorded(&file(l1))?;
    let label = |event: &Event| {
        let label = &event.payload["label"];
        label.as_str()?.parse().ok()
    };
    let created = numbers(&events, "invoice_creation", label);
    let mut failures = Vec::new();
    failures.extend(in_order("invoices", &created, invoices));
    let seqs = events.iter().map(|event| event.seq.unwrap_or_default() - 1);
    failures.extend(in_order("records", &seqs.collect::<Vec<_>>(), all + 1));
    events.retain(|event| topics.contains(&event.topic.as_str()));
    let connections = events
        .iter()
        .filter(|event| event.topic != "invoice_creation");
    for (n, event) in connections.enumerate() {
        if event.topic != topics[n % 2] || event.payload["id"] != l2.id() {
            failures.push(format!("connection event {n}: {}", event.line));
        }
    }
    let without_secrets = |event: &Event| {
        let mut payload = event.payload.clone();
        // The tap leaves nothing out.
        payload
            .as_object_mut()
            .map(|payload| payload.shift_remove("preimage"));
        (event.topic.clone(), payload)
    };
    let ours: Vec<_> = events.iter().map(without_secrets).collect();
    let theirs: Vec<_> = tapped.iter().map(without_secrets).collect();
    if ours != theirs {
        let first = ours
            .iter()
            .zip(&theirs)
            .find(|(ours, theirs)| ours != theirs);
        failures.push(format!(
            "{} recorded, {} tapped: {first:?}",
            ours.len(),
            theirs.len()
        ));
    }
    let name = format!(
        "{invoices} invoices, {reconnects} reconnects, {}",
        kinds.name()
    );
    row(&name, all, &failures, started)?;
    Ok(lab.stop().await?)
}

async fn kills(kinds: Kinds) -> Outcome {
    let started = Instant::now();
    let rounds = rounds(3, 100);
    let plugin = eventlog(&[("eventlog-topics", "flood")])?;
    let lab = custom_topics(kinds.lab(1))
        .allow_plugin_death("eventlog")
        .start()
        .await?;
    let l1 = lab.l1();
    l1.plugin_start(&Plugin::path(program("flood")?)).await?;
    for n in 0..rounds {
        l1.plugin_start(&plugin).await?;
        let pid = l1.process_with("/eventlog").await?.pid;
        let killed = async {
            // Spread over the flood.
            tokio::time::sleep(Duration::from_millis((n as u64 * 7) % 50)).await;
            Ok(kill(Pid::from_raw(pid as i32), Signal::SIGKILL)?)
        };
        tokio::try_join!(flood(l1, 1_000), killed)?;
        eventually("eventlog to be gone", PATIENCE, async || {
            Ok(if l1.plugin_active(plugin.executable()).await? {
                Probe::NotYet("it is listed".to_owned())
            } else {
                Probe::Ready(())
            })
        })
        .await?;
    }
    l1.plugin_start(&plugin).await?;
    flood(l1, 1_000).await?;
    l1.stop().await?;
    let text = fs::read_to_string(file(l1))?;
    let records: Vec<Event> = text
        .lines()
        .filter_map(|line| Event::parse(line).ok())
        .collect();
    let mut failures = gaps(&records);
    let torn = text.lines().count() - records.len();
    if torn > rounds {
        failures.push(format!("{torn} lines are no records"));
    }
    let starts = numbers(&records, "eventlog_started", |event| event.seq);
    if starts.len() != rounds + 1 {
        failures.push(format!("{} starts are recorded", starts.len()));
    }
    // Each flood has a beginning of itself in the file, the last one all of it.
    let mut next = 0;
    for event in &records {
        match (event.topic.as_str(), event.payload["n"].as_u64()) {
            ("flood", Some(n)) if n == next => next += 1,
            ("eventlog_started", _) => next = 0,
            _ => failures.push(format!("{next} expected: {}", event.line)),
        }
    }
    if next != 1_000 {
        failures.push(format!("{next} after the last kill"));
    }
    row(
        &format!("kill -9 of eventlog, {}", kinds.name()),
        rounds,
        &failures,
        started,
    )?;
    Ok(lab.stop().await?)
}

/// Where numbers go back, or are missing and the record after does not name them.
fn gaps(records: &[Event]) -> Vec<String> {
    let unnamed = |pair: &&[Event]| {
        let seq = |event: &Event| event.seq.unwrap_or_default();
        let (before, after) = (seq(&pair[0]), seq(&pair[1]));
        let missing = &pair[1].payload["missing"];
        before >= after || (after > before + 1 && *missing != json!([before + 1, after - 1]))
    };
    let pairs = records.windows(2).filter(unnamed);
    pairs
        .map(|pair| format!("{}\n{}", pair[0].line, pair[1].line))
        .collect()
}

/// A plugin without a node that records to this file.
async fn recording_to(path: &Path) -> anyhow::Result<PluginHarness> {
    let mut plugin = PluginHarness::spawn(program("eventlog")?).await?;
    plugin.init(json!({"eventlog-file": path})).await?;
    Ok(plugin)
}

/// After a power cut the file may end anywhere, whether its state is there or not.
async fn cuts() -> Outcome {
    let started = Instant::now();
    let dir = TempDir::new()?;
    let path = dir.path().join("log");
    let state = dir.path().join("log.state");
    let mut plugin = recording_to(&path).await?;
    for n in 0..3 {
        plugin.notify("connect", json!({"n": n})).await?;
    }
    ensure!(plugin.close().await?.success());
    let (whole, known) = (fs::read(&path)?, fs::read(&state)?);
    let step = rounds(97, 1);
    let mut failures = Vec::new();
    let mut played = 0;
    for cut in (0..=whole.len()).step_by(step) {
        for with_state in [true, false] {
            fs::write(&path, &whole[..cut])?;
            fs::remove_file(&state)?;
            if with_state {
                fs::write(&state, &known)?;
            }
            played += 1;
            if let Err(error) = continued(&path, with_state).await {
                failures.push(format!("cut at {cut}, state {with_state}: {error:#}"));
            }
        }
    }
    row(
        "a file cut anywhere, with and without its state",
        played,
        &failures,
        started,
    )
}

/// Starts on a file that was cut, and checks what becomes of it.
async fn continued(path: &Path, with_state: bool) -> Outcome {
    let before = fs::read_to_string(path)?;
    let mut plugin = recording_to(path).await?;
    plugin.notify("connect", json!({"n": 9})).await?;
    ensure!(plugin.close().await?.success());
    let after = fs::read_to_string(path)?;
    let rest = after
        .strip_prefix(&before)
        .context("what was there has changed")?;
    let torn = !before.is_empty() && !before.ends_with('\n');
    ensure!(rest.starts_with('\n') == torn, "{after}");
    let new: Vec<Event> = rest
        .trim_start()
        .lines()
        .map(Event::parse)
        .collect::<Result<_, _>>()?;
    ensure!(new.len() == 2 && new[1].payload["n"] == 9, "{after}");
    let old = before
        .lines()
        .filter_map(|line| Event::parse(line).ok()?.seq)
        .max();
    // The start and three events were recorded, whatever is left of them.
    let last = if with_state { 4 } else { old.unwrap_or(0) };
    ensure!(
        new[0].seq > Some(last) && new[1].seq > new[0].seq,
        "{after}"
    );
    Ok(())
}

/// Why there is no small disk to fill.
fn no_tmpfs() -> Option<String> {
    let mut mount = Command::new("unshare");
    mount.args(["-Urm", "mount", "-t", "tmpfs", "none", "/tmp"]);
    let mounted = said(&mut mount).is_ok_and(|said| said.code == Some(0));
    (!mounted).then(|| "no user namespaces".to_owned())
}

async fn disk() -> Outcome {
    const EACH: usize = 100;
    let started = Instant::now();
    let rounds = rounds(2, 50);
    let dir = TempDir::new()?;
    let script = "mount -t tmpfs -o size=4m none \"$0\" && exec \"$1\"";
    let mut plugin = PluginHarness::builder("/usr/bin/env")
        .arg("unshare")
        .arg("-Urm")
        .arg("sh")
        .arg("-c");
    plugin = plugin.arg(script).arg(dir.path()).arg(program("eventlog")?);
    let mut plugin = plugin.spawn().await?;
    let options = json!({"eventlog-file": dir.path().join("log"), "eventlog-topics": "connect"});
    plugin.init(options).await?;
    // Its disk, as it is seen from outside.
    let root = PathBuf::from(format!("/proc/{}/root", plugin.pid().context("it runs")?));
    let disk = root.join(dir.path().strip_prefix("/")?);
    let mut sent = 0;
    for _ in 0..rounds {
        let mut filler = fs::File::create(disk.join("filler"))?;
        while filler.write_all(&[0; 4096]).is_ok() {}
        // Its blocks are free once nobody has it open.
        drop(filler);
        for _ in 0..EACH {
            plugin.notify("connect", json!({"n": sent})).await?;
            sent += 1;
        }
        plugin.expect_log("cannot record").await?;
        fs::remove_file(disk.join("filler"))?;
        plugin.expect_log("nothing was lost").await?;
    }
    let events = recorded(&disk.join("log"))?;
    let received = numbers(&events, "connect", |event| event.payload["n"].as_u64());
    let mut failures = gaps(&events);
    failures.extend(in_order("notifications", &received, sent));
    ensure!(plugin.close().await?.success());
    row("a disk full and back", rounds, &failures, started)
}

/// Labs that start, work and end at the same time, each in a thread.
async fn labs(kinds: Kinds) -> Outcome {
    let started = Instant::now();
    let (rounds, beside) = (rounds(1, 10), rounds(3, 8));
    let mut failures = Vec::new();
    for n in 0..rounds {
        let play = || lab_tests::block_on(one_lab(kinds));
        let played: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..beside).map(|_| scope.spawn(play)).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        for outcome in played {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failures.push(format!("round {n}: {error:#}")),
                Err(_) => failures.push(format!("round {n}: a panic")),
            }
        }
    }
    let name = format!("{beside} labs side by side, {}", kinds.name());
    row(&name, rounds, &failures, started)
}

/// Sees its own chain, peers and events, and no other lab's.
async fn one_lab(kinds: Kinds) -> Outcome {
    let lab = kinds.lab(2).start().await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let before = lab.bitcoind().height().await?;
    lab.bitcoind().mine(1).await?;
    l1.plugin_start(&eventlog(&[])?).await?;
    l1.connect(l2).await?;
    let invoice = l1.invoice("1000", "label", "d").await?;
    let after = lab.bitcoind().height().await?;
    let mut events = lab.events("l1")?;
    let connect = events.expect("connect").await?;
    let created = events.expect("invoice_creation").await?;
    let peers: Value = l1.call("listpeers", json!({})).await?;
    let peers: BTreeSet<&str> = peers["peers"]
        .as_array()
        .context("no peers")?
        .iter()
        .filter_map(|peer| peer["id"].as_str())
        .collect();
    ensure!(
        after == before + 1
            && connect.payload["id"] == l2.id()
            && created.payload["preimage"] == format!("sha256:{}", invoice.payment_hash)
            && peers == BTreeSet::from([l2.id()]),
        "blocks {before} to {after}, {connect:?}, {created:?}, peers {peers:?}"
    );
    Ok(lab.stop().await?)
}
