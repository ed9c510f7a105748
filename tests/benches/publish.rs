//! eventlog's records to a stream, beside async-nats alone; how long one takes from eventlog's
//! input to a consumer; memory while the broker is away; what durable reading costs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::{self, stream};
use cln_lab::{Lab, PluginHarness, Probe, binaries, eventually};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lab_tests::bench::{Pairs, median, peak_memory, quantile};
use lab_tests::{Outcome, block_on, program};
use serde_json::{Value, json};
use tempfile::TempDir;

const COUNT: u64 = 100_000;
const TURNS: usize = 3;
/// As eventlog-publish by default.
const WINDOW: usize = 256;
const PINGS: usize = 1_000;
const CALLS: usize = 200;
const AWAY: u64 = 1_000_000;
const SUBJECT: &str = "cln.regtest.02aa.flood";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Outcome {
    if binaries::nats_server().is_err() {
        println!("publish: skipped, no nats-server found");
        return Ok(());
    }
    block_on(bench())
}

async fn bench() -> Outcome {
    let lab = Lab::builder().nats().start().await?;
    let nats = lab.nats().context("it was asked for")?;
    let dir = TempDir::new()?;
    let file = dir.path().join("eventlog.jsonl");
    let mut eventlog = PluginHarness::spawn(program("eventlog")?).await?;
    let options = json!({"eventlog-file": file, "eventlog-topics": "flood"});
    eventlog.init(options).await?;
    notify(&mut eventlog, COUNT).await?;
    recorded(&mut eventlog, COUNT).await?;
    throughput(&nats.url(), &file).await?;
    latency(&nats.url(), &file, &mut eventlog).await?;
    durable(&mut eventlog).await?;
    let publisher = Publisher::start(&file, &nats.url())?;
    until(&nats.url(), COUNT).await?;
    let before = peak_memory(publisher.0.id());
    nats.kill().await?;
    notify(&mut eventlog, AWAY).await?;
    recorded(&mut eventlog, AWAY + COUNT).await?;
    let (after, of_eventlog) = (
        peak_memory(publisher.0.id()),
        eventlog.pid().map_or(f64::NAN, peak_memory),
    );
    nats.start().await?;
    let started = Instant::now();
    until(&nats.url(), AWAY + COUNT).await?;
    println!(
        "memory of eventlog-publish: {before:.1} MB; {after:.1} MB after {AWAY} events without a \
         broker, {:.1} MB when it has them, {:.1} s later; eventlog {of_eventlog:.1} MB",
        peak_memory(publisher.0.id()),
        started.elapsed().as_secs_f64()
    );
    drop(publisher);
    eventlog.close().await?;
    Ok(lab.stop().await?)
}

/// `eventlog-publish`; it ends with this.
struct Publisher(Child);

impl Publisher {
    fn start(file: &Path, url: &str) -> anyhow::Result<Publisher> {
        let mut command = Command::new(program("eventlog-publish")?);
        command
            .arg(file)
            .args(["--nats", url, "--network", "regtest"]);
        command
            .args(["--node-id", "02aa"])
            .env("EVENTLOG_PUBLISH_LOG", "error");
        Ok(Publisher(command.stdin(Stdio::null()).spawn()?))
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

async fn notify(eventlog: &mut PluginHarness, count: u64) -> Outcome {
    for n in 0..count {
        eventlog
            .notify("flood", json!({"n": n, "text": "x".repeat(100)}))
            .await?;
    }
    Ok(())
}

async fn recorded(eventlog: &mut PluginHarness, count: u64) -> Outcome {
    loop {
        let stats: Value = eventlog.call("eventlog-stats", json!({})).await?;
        ensure!(stats["dropped"] == 0, "{stats}");
        if stats["recorded"].as_u64() >= Some(count) && stats["queue"]["length"] == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn context(url: &str) -> anyhow::Result<jetstream::Context> {
    let client = async_nats::connect(url).await?;
    Ok(ContextBuilder::new()
        .max_ack_inflight(WINDOW * 2)
        .build(client))
}

/// Waits until the stream has so many messages.
async fn until(url: &str, count: u64) -> Outcome {
    let context = context(url).await?;
    eventually(format!("{count} messages"), PATIENCE, async || {
        let stream = context.get_stream("CLN").await.ok();
        let there = stream.map_or(0, |stream| stream.cached_info().state.messages);
        Ok(if there >= count {
            Probe::Ready(())
        } else {
            Probe::NotYet(format!("{there}"))
        })
    })
    .await?;
    Ok(())
}

async fn throughput(url: &str, file: &Path) -> Outcome {
    let title = format!("{COUNT} records from a file to a stream, {WINDOW} in flight");
    let mut pairs = Pairs::new(&title, "eventlog-publish", "async-nats alone");
    let context = context(url).await?;
    for _ in 0..TURNS {
        let started = Instant::now();
        let publisher = Publisher::start(file, url)?;
        until(url, COUNT).await?;
        let ours = started.elapsed();
        drop(publisher);
        context.delete_stream("CLN").await?;
        let started = Instant::now();
        alone(&context, file.to_owned()).await?;
        pairs.add(ours, started.elapsed());
        context.delete_stream("CLN").await?;
    }
    pairs.print();
    Ok(())
}

/// The lines of the file, as async-nats publishes them and nothing else is done.
async fn alone(context: &jetstream::Context, file: PathBuf) -> Outcome {
    let config = stream::Config {
        name: "CLN".to_owned(),
        subjects: vec!["cln.>".to_owned()],
        ..stream::Config::default()
    };
    context.create_stream(config).await?;
    let mut in_flight = FuturesOrdered::new();
    for line in std::fs::read_to_string(file)?.lines() {
        if in_flight.len() >= WINDOW {
            let acknowledged: Option<Result<_, _>> = in_flight.next().await;
            acknowledged.transpose()?;
        }
        let sent = context.publish(SUBJECT, line.to_owned().into()).await?;
        in_flight.push_back(sent.into_future());
    }
    while let Some(acknowledged) = in_flight.next().await {
        acknowledged?;
    }
    Ok(())
}

async fn latency(url: &str, file: &Path, eventlog: &mut PluginHarness) -> Outcome {
    let publisher = Publisher::start(file, url)?;
    until(url, COUNT).await?;
    let client = async_nats::connect(url).await?;
    let mut messages = client.subscribe("cln.>").await?;
    client.flush().await?;
    let mut latencies = Vec::new();
    for n in 0..PINGS {
        let started = Instant::now();
        eventlog.notify("flood", json!({"n": n})).await?;
        messages.next().await.context("the end")?;
        latencies.push(started.elapsed().as_secs_f64());
    }
    drop(publisher);
    context(url).await?.delete_stream("CLN").await?;
    let at = |share| quantile(&latencies, share).map(Duration::from_secs_f64);
    println!(
        "from eventlog's input to a consumer, {PINGS} one by one: p50 {:.1?}, p99 {:.1?}",
        at(0.5).unwrap_or_default(),
        at(0.99).unwrap_or_default()
    );
    Ok(())
}

/// Each call has a new record to wait for the disk for.
async fn durable(eventlog: &mut PluginHarness) -> Outcome {
    for method in ["eventlog-list", "eventlog-wait"] {
        let mut times = [Vec::new(), Vec::new()];
        for n in 0..2 * CALLS {
            let durable = n % 2 == 1;
            let stats: Value = eventlog.call("eventlog-stats", json!({})).await?;
            let cursor = &stats["cursor"];
            eventlog.notify("flood", json!({"n": n})).await?;
            let started = Instant::now();
            let params = json!({"cursor": cursor, "durable": durable});
            let answer = eventlog.call(method, params).await?;
            times[usize::from(durable)].push(started.elapsed().as_secs_f64());
            ensure!(!answer.is_null(), "{answer}");
        }
        let [without, with] = times.map(|times| median(times).unwrap_or(f64::NAN) * 1e6);
        println!(
            "{method}, {CALLS} calls: {without:.0} µs, durable {with:.0} µs, ratio {:.2}",
            with / without
        );
    }
    Ok(())
}
