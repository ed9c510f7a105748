//! Nodes whose events are published to one stream, in a lab with a NATS server.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use cln_lab::{Lab, Node, PATIENCE, Plugin, Probe, binaries, eventually};
use futures_util::StreamExt;
use lab_tests::sandbox::said;
use lab_tests::{Kinds, Outcome, Suite, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::eventlog::{custom_topics, eventlog, file, flood};
use super::proxy::Proxy;
use super::soak;

/// So many events at once; five times in each of 20 rounds of `make soak` are 20,000 of a
/// node.
const EACH: u64 = 200;

pub fn tests(suite: Suite) -> Suite {
    let missing = binaries::nats_server().err();
    let missing = missing.map(|_| "no nats-server".to_owned());
    suite
        .unless(missing)
        .scenario_alone("every_event_is_in_the_stream_once_whoever_is_killed", fleet)
        .scenario_alone("a_lab_has_a_nats_server_if_asked", asked)
}

/// `eventlog-publish` for a node; it ends with this.
struct Publisher(Child);

impl Publisher {
    fn start(node: &Node, url: &str) -> anyhow::Result<Publisher> {
        let mut command = Command::new(program("eventlog-publish")?);
        command.arg(file(node)).args(["--nats", url]);
        Ok(Publisher(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// What of a message matters here.
#[derive(Debug, Deserialize)]
struct Published {
    node_id: String,
    topic: String,
}

/// The stream's messages on these subjects, as lines.
async fn published(url: &str, filter: &str) -> anyhow::Result<Vec<String>> {
    let client = async_nats::connect(url).await?;
    let stream = async_nats::jetstream::new(client).get_stream("CLN").await?;
    let consumer = stream.create_consumer(OrderedConfig {
        filter_subject: filter.to_owned(),
        ..OrderedConfig::default()
    });
    let consumer = consumer.await?;
    let count = usize::try_from(consumer.cached_info().num_pending)?;
    let mut messages = consumer.messages().await?;
    let mut lines = Vec::new();
    while lines.len() < count {
        let next = tokio::time::timeout(PATIENCE, messages.next()).await;
        let message = next.context("no next message")?.context("the end")??;
        lines.push(String::from_utf8(message.payload.to_vec())?);
    }
    Ok(lines)
}

async fn fleet(kinds: Kinds) -> Outcome {
    let started = Instant::now();
    let rounds = soak::rounds(2, 20);
    let plugin = eventlog(&[("eventlog-topics", "flood,invoice_creation")])?;
    let lab = custom_topics(kinds.lab(3))
        .allow_plugin_death("eventlog")
        .nats()
        .start()
        .await?;
    let nats = lab.nats().context("it was asked for")?;
    let port = nats.url().rsplit(':').next().context("a port")?.parse()?;
    let proxy = Proxy::start(port);
    let through = format!("nats://127.0.0.1:{}", proxy.port);
    let mut publishers = Vec::new();
    for node in lab.nodes() {
        node.plugin_start(&Plugin::path(program("flood")?)).await?;
        node.plugin_start(&plugin).await?;
        publishers.push(Publisher::start(node, &through)?);
    }
    for round in 0..rounds {
        let at = round % publishers.len();
        let node = lab.nodes()[at];
        floods(&lab).await?;
        drop(publishers.remove(at)); // kill -9
        publishers.insert(at, Publisher::start(node, &through)?);
        floods(&lab).await?;
        nats.kill().await?;
        floods(&lab).await?;
        nats.start().await?;
        proxy.cut.store(true, SeqCst);
        floods(&lab).await?;
        proxy.cut.store(false, SeqCst);
        let (flooded, killed) = tokio::join!(floods(&lab), kill_eventlog(node, &plugin));
        flooded.and(killed)?;
        node.invoice("any", &round.to_string(), "").await?;
    }
    let mut expected = Vec::new();
    for node in lab.nodes() {
        node.plugin_stop("eventlog").await?;
        let events = recorded_whole(&file(node))?;
        ensure!(
            events.len() as u64 > 4 * EACH * rounds as u64,
            "{}",
            events.len()
        );
        expected.push(events);
    }
    let all: usize = expected.iter().map(Vec::len).sum();
    let patience = PATIENCE.max(Duration::from_secs(120));
    eventually(format!("{all} messages"), patience, async || {
        let found = published(&nats.url(), "cln.>")
            .await
            .map_or(0, |all| all.len());
        Ok(if found >= all {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{found} messages"))
        })
    })
    .await?;
    let lines = published(&nats.url(), "cln.>").await?;
    let mut failures = Vec::new();
    for (node, expected) in lab.nodes().into_iter().zip(&expected) {
        let of_node = |line: &&String| {
            serde_json::from_str::<Published>(line).is_ok_and(|line| line.node_id == node.id())
        };
        let found: Vec<&String> = lines.iter().filter(of_node).collect();
        let same = found.iter().zip(expected).take_while(|(a, b)| **a == *b);
        let same = same.count();
        if same != expected.len() || same != found.len() {
            let (found, expected) = (found.len(), expected.len());
            let name = node.name();
            failures.push(format!(
                "{name}: {found} of {expected}, the first {same} as recorded"
            ));
        }
    }
    let invoices = published(&nats.url(), "cln.*.*.invoice_creation").await?;
    for line in &invoices {
        let line: Published = serde_json::from_str(line)?;
        ensure!(line.topic == "invoice_creation", "{line:?}");
    }
    ensure!(invoices.len() == rounds, "{invoices:?}");
    // The same by hand.
    let mut events = Command::new(program("lab")?);
    events.args([
        "events",
        "--from",
        "nats",
        "--topic",
        "invoice_creation",
        "--dir",
    ]);
    let shown = said(events.arg(lab.dir()))?;
    ensure!(shown.code == Some(0), "{shown:?}");
    ensure!(shown.out.lines().eq(&invoices), "{shown:?}");
    drop(publishers);
    let name = format!(
        "kills and cuts in a fleet of 3, {all} events, {}",
        kinds.name()
    );
    soak::row(&name, rounds, &failures, started)?;
    Ok(lab.stop().await?)
}

/// All nodes at once.
async fn floods(lab: &Lab) -> Outcome {
    let (a, b, c) = (lab.nodes()[0], lab.nodes()[1], lab.nodes()[2]);
    tokio::try_join!(flood(a, EACH), flood(b, EACH), flood(c, EACH))?;
    Ok(())
}

/// Kills it and starts it again.
async fn kill_eventlog(node: &Node, plugin: &Plugin) -> Outcome {
    let pid = node.process_with("/eventlog").await?.pid;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?;
    eventually("eventlog to be gone", PATIENCE, async || {
        Ok(if node.plugin_active(plugin.executable()).await? {
            Probe::NotYet("it is listed".to_owned())
        } else {
            Probe::Ready(())
        })
    })
    .await?;
    node.plugin_start(plugin).await?;
    Ok(())
}

/// The records' lines; a kill may have left part of one.
fn recorded_whole(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(path)?;
    let is_record =
        |line: &&str| cln_lab::Event::parse(line).is_ok_and(|event| event.seq.is_some());
    Ok(text.lines().filter(is_record).map(str::to_owned).collect())
}

async fn asked(kinds: Kinds) -> Outcome {
    let events = [
        program("lab")?.display().to_string(),
        "events --from nats".to_owned(),
    ];
    for (asked, answer) in [
        (
            &["--nats"][..],
            "nothing is published: `eventlog-publish FILE --nats nats://127.0.0.1:",
        ),
        (&[], "this lab has no NATS server: `lab up --nats`"),
    ] {
        let mut exec = Command::new(program("lab")?);
        exec.args(["exec", "--nodes", "1", "--node", kinds.name()])
            .args(asked);
        let said = said(exec.args(["--", "sh", "-c", &events.join(" ")]))?;
        ensure!(
            said.code == Some(1) && said.err.contains(answer),
            "{said:?}"
        );
    }
    Ok(())
}
