//! Many nodes in one lab: time and memory a node, 5, 20 and 50 of them, with all
//! of lightningd's own plugins and without those a test of connections does not
//! need (`lean`).

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::{Lab, LabBuilder, NodeKind, binaries};
use lab_tests::bench::{median, node_memory};
use lab_tests::{Outcome, block_on};

const SIZES: [usize; 3] = [5, 20, 50];
const TURNS: usize = 3;

fn main() -> Outcome {
    if binaries::lightningd().is_err() {
        println!("many nodes: skipped, no lightningd found");
        return Ok(());
    }
    block_on(up(Lab::builder(), 1))?; // mines the prepared chain, if need be
    let mut figures = Vec::new();
    for name in ["whole", "lean"] {
        let builder = || match name {
            "lean" => Lab::builder().lean([]),
            _ => Lab::builder(),
        };
        let mut sizes = Vec::new();
        for size in SIZES {
            let (mut times, mut memories) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                let (time, memory) = block_on(up(builder(), size))?;
                times.push(time.as_secs_f64() * 1000.0 / size as f64);
                memories.push(memory / size as f64);
            }
            let time = median(times).context("no times")?;
            let memory = median(memories).context("no memories")?;
            println!("{size} {name} nodes up: {time:.0} ms and {memory:.1} MB a node");
            sizes.push((time, memory));
        }
        let (few, many) = (sizes[0], sizes[SIZES.len() - 1]);
        println!(
            "  from {} to {} {name} nodes: time a node x {:.2}, memory a node x {:.2}",
            SIZES[0],
            SIZES[SIZES.len() - 1],
            many.0 / few.0,
            many.1 / few.1
        );
        figures.push(sizes);
    }
    for (n, size) in SIZES.iter().enumerate() {
        let (whole, lean) = (figures[0][n], figures[1][n]);
        println!(
            "lean, {size} nodes: {:.2} x the time, {:.2} x the memory",
            lean.0 / whole.0,
            lean.1 / whole.1
        );
    }
    Ok(())
}

/// The time until all answer, and the memory of all their processes in MB.
async fn up(builder: LabBuilder, nodes: usize) -> anyhow::Result<(Duration, f64)> {
    let started = Instant::now();
    let lab = builder
        .nodes(nodes)
        .kind(NodeKind::Lightningd)
        .start()
        .await?;
    let time = started.elapsed();
    ensure!(lab.nodes().len() == nodes);
    let mut memory = 0.0;
    for node in lab.nodes() {
        memory += node_memory(node).await?;
    }
    lab.stop().await?;
    Ok((time, memory))
}
