//! The command `eventlog-publish`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
#[cfg(feature = "amqp")]
use eventlog_publish::amqp::{self, Amqp};
use eventlog_publish::metrics::{self, Metrics};
use eventlog_publish::nats::Nats;
use eventlog_publish::nats::connect::Broker;
use eventlog_publish::nats::stream::Wanted;
use eventlog_publish::node::Node;
use eventlog_publish::outbox::Outbox;
use eventlog_publish::place::Place;
use eventlog_publish::progress::Progress;
use eventlog_publish::publisher;
use eventlog_publish::sink::Sink;
use eventlog_publish::webhook::{self, Webhook};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Publish the records of eventlog: to NATS JetStream each once, to a webhook at least once
///
/// It reads the file and the older ones that rotation left, and publishes each record, in
/// their order: to NATS with the subject cln.NETWORK.NODE_ID.TOPIC and its cursor as message
/// id. The stream says how far that is done, or a place in a file if it was emptied. While the other side is
/// away the files keep what comes: eventlog-rotate-keep says how much.
///
/// To a webhook (--webhook) a record is the body of a POST, signed as standardwebhooks.com
/// has it: in the header webhook-signature v1, and the base64 of the HMAC-SHA256 over
/// ID.TIME.BODY, of the headers webhook-id and webhook-timestamp. An answer of 2xx takes it;
/// after any other it is sent again, and what comes after it waits. A place in a file says
/// how far that is done: who is killed sends the last POST again, with the same id.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// The file that eventlog writes, with eventlog-format=json
    file: PathBuf,
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    stream: Wanted,
    #[command(flatten)]
    hook: webhook::Target,
    #[cfg(feature = "amqp")]
    #[command(flatten)]
    amqp: amqp::Exchange,
    /// The file that notes how far the other side has the records; beside them by default
    #[arg(long, value_name = "FILE")]
    cursor_file: Option<PathBuf>,
    /// The network in the subjects; the name of the file's folder by default
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// The node's id in the subjects; that of the records by default
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Only these topics, with commas between
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
    /// The most messages in flight, 256 by default; with 1 the order is kept even if a
    /// cluster's stream changes its leader. Of a webhook the most records in one POST, a line
    /// each; 1 by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    window: Option<u16>,
    /// Publish only what the disk has confirmed
    #[arg(long)]
    durable: bool,
    /// Go on with the oldest record where those before it are no longer kept
    #[arg(long)]
    skip_gap: bool,
    /// Numbers for Prometheus, at http://ADDRESS:PORT/metrics; a loopback address
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = metrics::loopback)]
    metrics: Option<SocketAddr>,
    /// Try the file, the broker and the stream, say what is wrong, and end
    #[arg(long)]
    check: bool,
}

impl Args {
    /// The arguments, with one sink: a choice on the command line beats the environment.
    fn chosen() -> Self {
        const SINKS: [&str; 3] = ["nats", "webhook", "amqp"];
        let mut command = Self::command();
        let matches = command.get_matches_mut();
        let mut args = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let from = |source| {
            let known = SINKS
                .into_iter()
                .filter(|id| matches.try_contains_id(id).is_ok());
            known
                .filter(|id| matches.value_source(id) == Some(source))
                .collect::<Vec<_>>()
        };
        let mut chosen = from(ValueSource::CommandLine);
        if chosen.is_empty() {
            chosen = from(ValueSource::EnvVariable);
        }
        if chosen.len() > 1 {
            let error = format!("--{}", chosen.join(" cannot be used with --"));
            command.error(ErrorKind::ArgumentConflict, error).exit();
        }
        let is = |id| chosen.contains(&id);
        args.hook.webhook = args.hook.webhook.filter(|_| is("webhook"));
        #[cfg(feature = "amqp")]
        {
            args.amqp.amqp = args.amqp.amqp.filter(|_| is("amqp"));
        }
        args
    }
}

const EXAMPLES: &str = "\
Examples:
  eventlog-publish ~/.lightning/bitcoin/eventlog.jsonl --nats tls://broker:4222 --creds node.creds
  eventlog-publish eventlog.jsonl --webhook https://HOST/PATH --webhook-secret-file secret
  eventlog-publish eventlog.jsonl --topics invoice_payment,invoice_creation --check
  nats sub 'cln.*.*.invoice_payment'             the payments of the whole fleet

Secrets are read from files, or from NATS_PASSWORD, NATS_TOKEN and WEBHOOK_SECRET.";

#[tokio::main]
async fn main() {
    let args = Args::chosen();
    let filter = EnvFilter::try_from_env("EVENTLOG_PUBLISH_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info,async_nats=off"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let code = match run(args).await {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!("{error:#}");
            1
        }
    };
    // Not by a return, which would wait for a thread at a file or at a slow server.
    std::process::exit(code)
}

async fn run(args: Args) -> Result<()> {
    let stop = stop_on_signals()?;
    let find = {
        let (file, network, id) = (args.file.clone(), args.network, args.node_id);
        move || Node::find(&file, network.as_deref(), id.as_deref())
    };
    let mut stopped = stop.clone();
    // To wait, for a first record or for the other side, is what it is started for.
    publisher::notify(NotifyState::Ready);
    let node = tokio::select! {
        found = tokio::task::spawn_blocking(find) => {
            found?.with_context(|| args.file.display().to_string())?
        }
        _ = stopped.changed() => return Ok(()), // it waits for a first record
    };
    let window = args
        .window
        .unwrap_or(if args.hook.webhook.is_some() { 1 } else { 256 });
    let outbox = Outbox {
        file: args.file,
        topics: args.topics.into_iter().collect(),
        window: window.into(),
        durable: args.durable,
        skip_gap: args.skip_gap,
    };
    let place = |kind| Place::new(args.cursor_file, &outbox.file, &format!(".{kind}.cursor"));
    let run = Run {
        node: &node,
        outbox: &outbox,
        metrics: args.metrics,
        check: args.check,
    };
    if let Some(url) = &args.hook.webhook {
        let (place, tls) = (place(Webhook::KIND), &args.broker.tls);
        let webhook = Webhook::new(url, &args.hook, tls, place, &node, &outbox)?;
        return run.to(&webhook, stop).await;
    }
    #[cfg(feature = "amqp")]
    if let Some(url) = &args.amqp.amqp {
        let (make, place) = (!args.stream.no_create, place(Amqp::KIND));
        let amqp = Amqp::new(url, &args.amqp, &args.broker, make, (&node, place))?;
        return run.to(&amqp, stop).await;
    }
    let place = place(Nats::KIND);
    let nats = Nats::new(args.broker, args.stream, place, &node, &outbox)?;
    run.to(&nats, stop).await
}

/// What is the same for each kind of sink.
struct Run<'a> {
    node: &'a Node,
    outbox: &'a Outbox,
    metrics: Option<SocketAddr>,
    check: bool,
}

impl Run<'_> {
    async fn to<S: Sink>(self, sink: &S, stop: watch::Receiver<bool>) -> Result<()> {
        if self.check {
            println!("{}", publisher::check(sink, self.outbox).await?);
            return Ok(());
        }
        let progress = Arc::new(Progress::default());
        if let Some(address) = self.metrics {
            let metrics = Metrics {
                progress: progress.clone(),
                outbox: self.outbox.clone(),
                node: self.node.clone(),
                sink: S::KIND,
            };
            metrics::serve(address, metrics).await?;
        }
        publisher::publish(sink, self.outbox, &progress, stop).await?;
        let counts = progress.counts();
        tracing::info!("stopped: {} records published", counts.published);
        Ok(())
    }
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
        publisher::notify(NotifyState::Stopping);
        let _ = stop.send(true); // nobody waits: it ends anyway
    });
    Ok(stopped)
}
