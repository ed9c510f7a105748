//! From a message on a plugin's stdin to the line in its file, at 500 a second:
//! `eventlog` beside the same in Python on pyln-client. No node is in between.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cln_lab::PluginHarness;
use lab_tests::bench::{Pairs, quantile};
use lab_tests::{Outcome, block_on, program, python};
use serde_json::json;

const COUNT: usize = 1_000;
const PACE: Duration = Duration::from_millis(2);
const TURNS: usize = 7;
const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

fn main() -> Outcome {
    block_on(bench())
}

async fn bench() -> Outcome {
    let dir = tempfile::Builder::new().prefix("latency-").tempdir()?;
    let python = match python::with(&["pyln-client==26.6.6"]) {
        Ok(python) => python,
        Err(error) => {
            println!("pyln-client: left out: {error:#}");
            return Ok(());
        }
    };
    let source = dir.path().join("pyln-eventlog.py");
    std::fs::write(&source, python::RECORDER)?;
    let mut pairs = QUANTILES.map(|(name, _)| {
        let title = format!("stdin to file at 500 a second, {name}");
        Pairs::new(&title, "eventlog", "a pyln-client plugin")
    });
    for turn in 0..TURNS {
        let file = dir.path().join(format!("eventlog.{turn}"));
        let mut harness = PluginHarness::spawn(program("eventlog")?).await?;
        harness.manifest().await?;
        harness
            .init(json!({"eventlog-file": file, "eventlog-topics": ["flood"]}))
            .await?;
        let ours = latencies(&mut harness, &file).await?;
        harness.close().await?;

        let file = dir.path().join(format!("pyln.{turn}"));
        let mut harness = PluginHarness::builder(&python)
            .arg(&source)
            .env("PYLN_FILE", &file.display().to_string())
            .spawn()
            .await?;
        harness.manifest().await?;
        harness.init(json!({})).await?;
        let theirs = latencies(&mut harness, &file).await?;
        harness.close().await?;

        for (pairs, (_, at)) in pairs.iter_mut().zip(QUANTILES) {
            let at = |latencies| quantile(latencies, at).map(Duration::from_secs_f64);
            if let (Some(ours), Some(theirs)) = (at(&ours), at(&theirs)) {
                pairs.add(ours, theirs);
            }
        }
    }
    for pairs in pairs {
        pairs.print();
    }
    Ok(())
}

/// Sends one message every 2 ms and sees how many seconds later its line is there.
async fn latencies(harness: &mut PluginHarness, file: &Path) -> anyhow::Result<Vec<f64>> {
    let mut seconds = Vec::with_capacity(COUNT);
    let (mut opened, mut seen) = (None, 0);
    let started = Instant::now();
    for n in 0..COUNT {
        let due = started + PACE * n as u32;
        tokio::time::sleep_until(due.into()).await;
        let message =
            json!({"jsonrpc": "2.0", "method": "flood", "params": {"n": n, "pad": "xxxxxxxxxx"}});
        let message = format!("{message}\n\n");
        let sent = Instant::now();
        harness.raw(&message).await?;
        loop {
            // A write that crosses a page shows its first part before the rest.
            if opened.is_none() {
                opened = File::open(file).ok();
            }
            if let Some(file) = &opened
                && ends_line(file, &mut seen)?
            {
                break;
            }
            ensure!(
                sent.elapsed() < Duration::from_secs(5),
                "number {n} was not recorded in 5 s"
            );
            // The harness reads what the plugin says on this thread.
            tokio::task::yield_now().await;
        }
        seconds.push(sent.elapsed().as_secs_f64());
    }
    let lines = std::fs::read_to_string(file)
        .context("the file")?
        .lines()
        .count();
    ensure!(lines == COUNT, "{lines} lines");
    Ok(seconds)
}

/// Whether there is more in the file than was `seen`, up to the end of a line.
fn ends_line(file: &File, seen: &mut u64) -> anyhow::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [0];
    if length == *seen || file.read_at(&mut last, length - 1)? == 0 || last != *b"\n" {
        return Ok(false);
    }
    *seen = length;
    Ok(true)
}
