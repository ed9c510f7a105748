//! The embedded node beside lightningd: from its start to its first answer, and
//! the memory of all its processes. Pairs, alternating; medians and their ratio.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::ensure;
use cln_lab::{Lab, Node, NodeKind, NodeSpec, binaries};
use lab_tests::bench::{Pairs, node_memory};
use lab_tests::socket::call;
use lab_tests::{Outcome, block_on};

const PAIRS: usize = 10;
const INVOICES: usize = 1_000;

fn main() -> Outcome {
    block_on(bench())
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
        let idle = node_memory(node).await?;
        for n in 0..INVOICES {
            node.invoice("1000", &format!("i{n}"), "d").await?;
        }
        println!(
            "{}: {idle:.1} MB, after {INVOICES} invoices {:.1} MB",
            node.name(),
            node_memory(node).await?
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
        if call(&node.rpc_path(), "getinfo").is_ok() {
            break started.elapsed();
        }
        if started.elapsed() > Duration::from_secs(20) || child.try_wait()?.is_some() {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("{} did not answer", node.name());
        }
        std::thread::yield_now();
    };
    call(&node.rpc_path(), "stop")?;
    let status = child.wait()?;
    ensure!(status.success(), "{}: {status}", node.name());
    Ok(answered)
}
