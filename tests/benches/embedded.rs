//! The embedded node beside lightningd: from its start to its first answer, and
//! the memory of all its processes. Pairs, alternating; medians and their ratio.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Lab, Node, NodeKind, NodeSpec, binaries};
use lab_tests::Outcome;
use lab_tests::bench::{Pairs, proportional_memory};
use serde_json::{Value, json};

const PAIRS: usize = 10;
const INVOICES: usize = 1_000;

fn main() -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(bench())
}

async fn bench() -> Outcome {
    let mut lab = Lab::builder().node(NodeSpec::new().name("embedded").kind(NodeKind::Embedded));
    let compared = binaries::lightningd().is_ok();
    if compared {
        let spec = NodeSpec::new()
            .name("lightningd")
            .kind(NodeKind::Lightningd);
        lab = lab.node(spec);
    } else {
        println!("the embedded node beside lightningd: no lightningd found");
    }
    let lab = lab.start().await?;
    for node in lab.nodes() {
        let idle = memory(node).await?;
        for n in 0..INVOICES {
            node.invoice("1000", &format!("i{n}"), "d").await?;
        }
        println!(
            "{}: {idle:.1} MB, after {INVOICES} invoices {:.1} MB",
            node.name(),
            memory(node).await?
        );
        node.stop().await?;
    }
    if compared {
        let (embedded, lightningd) = (lab.node("embedded")?, lab.node("lightningd")?);
        let mut pairs = Pairs::new("start to the first answer", "embedded node", "lightningd");
        for _ in 0..PAIRS {
            pairs.add(answer(embedded)?, answer(lightningd)?);
        }
        pairs.print();
    }
    Ok(lab.stop().await?)
}

/// In MB.
async fn memory(node: &Node) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for process in node.processes().await? {
        sum += proportional_memory(process.pid)?;
    }
    Ok(sum)
}

/// Starts the process of a node that is down until it answers, and ends it.
fn answer(node: &Node) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let mut child = node
        .start_command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let answered = loop {
        if request(&node.rpc_path(), "getinfo").is_ok() {
            break started.elapsed();
        }
        if started.elapsed() > Duration::from_secs(20) || child.try_wait()?.is_some() {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("{} did not answer", node.name());
        }
        std::thread::yield_now();
    };
    request(&node.rpc_path(), "stop")?;
    let status = child.wait()?;
    ensure!(status.success(), "{}: {status}", node.name());
    Ok(answered)
}

fn request(socket: &Path, method: &str) -> anyhow::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
    stream.write_all(format!("{request}\n\n").as_bytes())?;
    let mut text = String::new();
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            break;
        }
        text.push_str(&line);
    }
    let mut answer: Value = serde_json::from_str(&text).context("no answer")?;
    Ok(answer["result"].take())
}
