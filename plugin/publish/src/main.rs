//! The command `eventlog-publish`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use eventlog_publish::connect::Broker;
use eventlog_publish::node::Node;
use eventlog_publish::publisher::{self, Progress};
use eventlog_publish::session::Settings;
use eventlog_publish::stream::Wanted;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Publish the records of eventlog to NATS JetStream: each once, in a node's order
///
/// It reads the file and the older ones that rotation left, and publishes each record to
/// the subject cln.NETWORK.NODE_ID.TOPIC. The stream says how far that is done: nothing is
/// kept here. While the broker is away the files keep what comes: eventlog-rotate-keep says
/// how much.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// The file that eventlog writes, with eventlog-format=json
    file: PathBuf,
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    stream: Wanted,
    /// The network in the subjects; the name of the file's folder by default
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// The node's id in the subjects; that of the records by default
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Only these topics, with commas between
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
    /// The most messages in flight; with 1 the order is kept even if a cluster's stream
    /// changes its leader
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    window: u16,
    /// Publish only what the disk has confirmed
    #[arg(long)]
    durable: bool,
    /// Go on with the oldest record where those before it are no longer kept
    #[arg(long)]
    skip_gap: bool,
    /// Try the file, the broker and the stream, say what is wrong, and end
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  eventlog-publish ~/.lightning/bitcoin/eventlog.jsonl --nats tls://broker:4222 --creds node.creds
  eventlog-publish eventlog.jsonl --topics invoice_payment,invoice_creation --check
  nats sub 'cln.*.*.invoice_payment'             the payments of the whole fleet

Passwords and tokens are read from files, or from NATS_PASSWORD and NATS_TOKEN.";

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("EVENTLOG_PUBLISH_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let stop = stop_on_signals()?;
    let find = {
        let (file, network, id) = (args.file.clone(), args.network, args.node_id);
        move || Node::find(&file, network.as_deref(), id.as_deref())
    };
    let mut stopped = stop.clone();
    let node = tokio::select! {
        found = tokio::task::spawn_blocking(find) => {
            found?.with_context(|| args.file.display().to_string())?
        }
        _ = stopped.changed() => std::process::exit(0), // it waits for a first record
    };
    let settings = Settings {
        topics: args.topics.into_iter().collect(),
        window: args.window.into(),
        durable: args.durable,
        skip_gap: args.skip_gap,
    };
    let to = (&args.broker, &args.stream);
    if args.check {
        let report = publisher::check(&args.file, &node, to, &settings).await?;
        println!("{report}");
        return Ok(());
    }
    let progress = Progress::default();
    publisher::publish(&args.file, &node, to, &settings, &progress, stop).await?;
    let counts = progress.counts();
    tracing::info!("stopped: {} records published", counts.published);
    Ok(())
}

fn stop_on_signals() -> Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("taking SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("taking SIGINT")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = stop.send(true); // nobody waits: it ends anyway
    });
    Ok(stopped)
}
