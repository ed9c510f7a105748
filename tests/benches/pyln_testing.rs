//! The same test written twice: two nodes, a plugin, connect, disconnect, an
//! invoice, what the plugin recorded, and all of it taken down; with `cln_lab`,
//! and with pyln-testing on pytest. Pairs, alternating; medians and their ratio.
//!
//! Of pytest only the test counts with its fixtures, as it says itself
//! (`--durations`), not the time Python takes to start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cln_lab::{Events, Lab, NodeKind, Plugin, binaries};
use lab_tests::bench::{Pairs, timed};
use lab_tests::{Outcome, block_on, program, python};

const PAIRS: usize = 5;

fn main() -> Outcome {
    if binaries::lightningd().is_err() {
        println!("pyln-testing: skipped, no lightningd found");
        return Ok(());
    }
    let packages = ["pyln-testing==26.6.6", "pyln-client==26.6.6", "pytest==9.*"];
    let python = match python::with(&packages) {
        Ok(python) => python,
        Err(error) => {
            println!("pyln-testing: left out: {error:#}");
            return Ok(());
        }
    };
    let plugin = program("eventlog")?;
    ours(&plugin)?; // Mines the prepared chain, should this be the first lab here.
    let title = "a test with two nodes and a plugin";
    let mut pairs = Pairs::new(title, "lab", "pyln-testing");
    let mut lean = Pairs::new(title, "lean lab", "pyln-testing");
    for _ in 0..PAIRS {
        let theirs = theirs(&python, &plugin)?;
        pairs.add(timed(|| ours(&plugin))?, theirs);
        lean.add(timed(|| leanly(&plugin))?, theirs);
    }
    pairs.print();
    lean.print();
    Ok(())
}

fn ours(plugin: &Path) -> Outcome {
    block_on(test(Lab::builder(), plugin))
}

fn leanly(plugin: &Path) -> Outcome {
    block_on(test(Lab::builder().lean([]), plugin))
}

async fn test(lab: cln_lab::LabBuilder, plugin: &Path) -> Outcome {
    let plugin = Plugin::path(plugin).option("eventlog-file", "events");
    let lab = lab
        .nodes(2)
        .kind(NodeKind::Lightningd)
        .plugin(plugin)
        .start()
        .await?;
    let (l1, l2) = (lab.l1(), lab.l2());
    let mut events = Events::open(l1.network_dir().join("events"));
    l1.connect(l2).await?;
    let connect = events.expect("connect").await?;
    ensure!(connect.payload["id"] == l2.id());
    l1.disconnect(l2).await?;
    let disconnect = events.expect("disconnect").await?;
    ensure!(disconnect.payload["id"] == l2.id());
    l1.invoice("100000sat", "inv", "pizza").await?;
    let invoice = events.expect("invoice_creation").await?;
    ensure!(invoice.payload["label"] == "inv");
    Ok(lab.stop().await?)
}

const TEST: &str = r#"
import json, os
from pyln.testing.fixtures import *
from pyln.testing.utils import wait_for


def test_events(node_factory):
    opts = {"plugin": os.environ["PLUGIN"], "eventlog-file": "events"}
    l1, l2 = node_factory.get_nodes(2, opts=opts)
    path = os.path.join(l1.daemon.lightning_dir, "regtest", "events")

    def recorded(topic):
        events = [json.loads(line) for line in open(path)]
        return [event["payload"] for event in events if event["topic"] == topic]

    l1.rpc.connect(l2.info["id"], "localhost", l2.port)
    wait_for(lambda: recorded("connect"))
    assert recorded("connect")[0]["id"] == l2.info["id"]
    l1.rpc.disconnect(l2.info["id"], force=True)
    wait_for(lambda: recorded("disconnect"))
    assert recorded("disconnect")[0]["id"] == l2.info["id"]
    l1.rpc.invoice(100_000_000, "inv", "pizza")
    wait_for(lambda: recorded("invoice_creation"))
    assert recorded("invoice_creation")[0]["label"] == "inv"
"#;

/// One run of pytest. It chooses a port that something else may take before
/// bitcoind does: such a run is made again.
fn theirs(python: &Path, plugin: &Path) -> anyhow::Result<Duration> {
    let mut failed = String::new();
    for _ in 0..3 {
        match pytest(python, plugin) {
            Ok(time) => return Ok(time),
            Err(error) => failed = format!("{error:#}"),
        }
    }
    bail!("pytest failed three times: {failed}");
}

fn pytest(python: &Path, plugin: &Path) -> anyhow::Result<Duration> {
    let dir = tempfile::Builder::new().prefix("pytest-").tempdir()?;
    let test = dir.path().join("test_events.py");
    std::fs::write(&test, TEST)?;
    let labs = dir.path().join("labs");
    std::fs::create_dir(&labs)?;
    let output = Command::new(python)
        .args(["-m", "pytest", "-p", "no:cacheprovider"])
        .args(["--durations=0", "-vv"])
        .arg(&test)
        .current_dir(dir.path())
        .env("PATH", path()?)
        .env("PLUGIN", plugin)
        .env("TEST_DIR", &labs)
        .env("RUST", "0")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}");
    // `0.44s setup    test_events.py::test_events`: setup, call and teardown.
    let seconds: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            let (seconds, rest) = line.trim().split_once("s ")?;
            let phase = rest.split_whitespace().next()?;
            ["setup", "call", "teardown"]
                .contains(&phase)
                .then(|| seconds.parse().ok())?
        })
        .collect();
    ensure!(seconds.len() >= 2, "no durations in {text}");
    Ok(Duration::from_secs_f64(seconds.iter().sum()))
}

/// The PATH with the executables that we use, which pyln-testing finds there.
fn path() -> anyhow::Result<std::ffi::OsString> {
    let bitcoind = binaries::bitcoind()?;
    let folders = [
        folder(&binaries::lightningd()?)?,
        folder(&binaries::bitcoin_cli(&bitcoind)?)?,
        folder(&bitcoind)?,
    ];
    let rest = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(
        folders.into_iter().chain(std::env::split_paths(&rest)),
    )?)
}

fn folder(program: &Path) -> anyhow::Result<PathBuf> {
    let parent = program.parent().context("a program without a folder")?;
    Ok(parent.to_owned())
}
