//! 100,000 custom notifications from one plugin through lightningd to another:
//! `eventlog`, beside a plugin that only reads, and beside one on pyln-client.
//!
//! Each turn starts the receiving plugin in the same node, floods it, and stops
//! it. The time is from the request to the last notification recorded; the memory
//! is the receiving process's highest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use cln_lab::{Lab, Node, NodeKind, Plugin, Probe, binaries, eventually};
use lab_tests::bench::{Pairs, median, peak_memory};
use lab_tests::{Outcome, block_on, program, python, write_script};
use serde_json::{Value, json};

const COUNT: u64 = 100_000;
const TURNS: usize = 5;

fn main() -> Outcome {
    if binaries::lightningd().is_err() {
        println!("notifications: skipped, no lightningd found");
        return Ok(());
    }
    block_on(bench())
}

/// One way of receiving: a plugin, and how to see that it has them all.
struct Receiver {
    plugin: Plugin,
    /// Part of its command line, to find its process.
    process: &'static str,
    file: PathBuf,
    all_there: fn(&Path) -> anyhow::Result<u64>,
}

async fn bench() -> Outcome {
    let lab = Lab::builder()
        .nodes(1)
        .kind(NodeKind::Lightningd)
        .start()
        .await?;
    let l1 = lab.l1();
    l1.plugin_start(&Plugin::path(program("flood")?)).await?;

    let eventlog = Receiver {
        plugin: Plugin::path(program("eventlog")?)
            .option("eventlog-topics", "flood")
            .option("eventlog-file", "flood.jsonl"),
        process: "eventlog",
        file: l1.network_dir().join("flood.jsonl"),
        all_there: lines,
    };
    let sink = counting(lab.dir(), "sink", "examples/sink")?;
    let noop = counting(lab.dir(), "noop", "examples/noop")?;
    compare(l1, &eventlog, &sink, "a plugin that only reads").await?;
    let nothing = "a cln-plugin handler that does nothing";
    compare(l1, &eventlog, &noop, nothing).await?;
    match python::with(&["pyln-client==26.6.6"]) {
        Ok(python) => {
            let pyln = pyln(lab.dir(), &python)?;
            compare(l1, &eventlog, &pyln, "a pyln-client plugin").await?;
        }
        Err(error) => println!("pyln-client: left out: {error:#}"),
    }
    Ok(lab.stop().await?)
}

/// The example `name`, which counts what it receives in a file.
fn counting(folder: &Path, name: &str, process: &'static str) -> anyhow::Result<Receiver> {
    let file = folder.join(format!("{name}.count"));
    let command = format!(
        "SINK_FILE='{}' exec '{}'",
        file.display(),
        program(name)?.display()
    );
    Ok(Receiver {
        plugin: Plugin::path(write_script(&folder.join(name), &command)?),
        process,
        file,
        all_there: counted,
    })
}

/// The recorder on pyln-client, run by this Python.
fn pyln(folder: &Path, python: &Path) -> anyhow::Result<Receiver> {
    let source = folder.join("pyln-eventlog.py");
    std::fs::write(&source, python::RECORDER)?;
    let file = folder.join("pyln.jsonl");
    let command = format!(
        "PYLN_FILE='{}' exec '{}' '{}'",
        file.display(),
        python.display(),
        source.display()
    );
    Ok(Receiver {
        plugin: Plugin::path(write_script(&folder.join("pyln"), &command)?),
        process: "pyln-eventlog.py",
        file,
        all_there: lines,
    })
}

async fn compare(l1: &Node, ours: &Receiver, theirs: &Receiver, name: &str) -> Outcome {
    let mut pairs = Pairs::new(&format!("{COUNT} notifications recorded"), "eventlog", name);
    let (mut our_memory, mut their_memory) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let (our_time, memory) = turn(l1, ours).await?;
        our_memory.push(memory);
        let (their_time, memory) = turn(l1, theirs).await?;
        their_memory.push(memory);
        pairs.add(our_time, their_time);
    }
    pairs.print();
    let (ours, theirs) = (median(our_memory), median(their_memory));
    if let (Some(ours), Some(theirs)) = (ours, theirs) {
        println!(
            "  memory: eventlog {ours:.1} MB, {name} {theirs:.1} MB, ratio {:.2}",
            ours / theirs
        );
    }
    Ok(())
}

/// One flood; the time it took, and the highest memory in MB.
async fn turn(l1: &Node, receiver: &Receiver) -> anyhow::Result<(Duration, f64)> {
    let _ = std::fs::remove_file(&receiver.file);
    l1.plugin_start(&receiver.plugin).await?;
    let pid = l1.process_with(receiver.process).await?.pid;
    let started = Instant::now();
    let sent: Value = l1.call("flood", json!({"count": COUNT})).await?;
    ensure!(sent["sent"] == COUNT, "{sent}");
    let last = eventually(
        "the last notification",
        Duration::from_secs(60),
        async || {
            let there = (receiver.all_there)(&receiver.file).unwrap_or(0);
            Ok(if there >= COUNT {
                Probe::Ready(Instant::now())
            } else {
                Probe::NotYet(format!("{there} of {COUNT}"))
            })
        },
    )
    .await?;
    let highest = peak_memory(pid);
    if receiver
        .file
        .extension()
        .is_some_and(|extension| extension == "jsonl")
    {
        check_order(&receiver.file)?;
    }
    l1.plugin_stop(&receiver.plugin.executable().display().to_string())
        .await?;
    Ok((last - started, highest))
}

/// How many lines a file has, without reading it as text.
fn lines(path: &Path) -> anyhow::Result<u64> {
    Ok(std::fs::read(path)?
        .iter()
        .filter(|&&byte| byte == b'\n')
        .count() as u64)
}

fn counted(path: &Path) -> anyhow::Result<u64> {
    Ok(std::fs::read_to_string(path)?.trim().parse()?)
}

fn check_order(path: &Path) -> Outcome {
    for (n, line) in std::fs::read_to_string(path)?.lines().enumerate() {
        let record: Value = serde_json::from_str(line)?;
        let payload = record.get("payload").unwrap_or(&record);
        ensure!(payload["n"] == n, "line {n}: {line}");
    }
    Ok(())
}
