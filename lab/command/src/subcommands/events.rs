//! `lab events`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use cln_lab::{Error, Event, Follower, Lab, Nats, Node, Plugin, binaries, scaled};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::target::{Target, node};
use super::{out, usage};

/// How long the node may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// The stream of eventlog-publish, by default.
const STREAM: &str = "CLN";
/// How often to look for new events.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  lab events l1                         what eventlog recorded
  lab events l1 -f                      that, and new events until Ctrl-C
  lab events l1 -f --topic connect,disconnect
  lab events l1 -f --topic connect | head -n 1     wait for one
  lab events --from nats -f             what the fleet published, in a lab with --nats
  lab events l1 --file my-plugin.txt    another recorder's file, in the node's network directory

If eventlog is not running on the node, -f starts it: events are recorded from then on.")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The node: l1, or 1 for short
    #[arg(required_unless_present = "from")]
    node: Option<String>,
    /// Continue with new events
    #[arg(short, long)]
    follow: bool,
    /// Only these topics
    #[arg(short, long = "topic", value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
    /// From the lab's NATS server, what `eventlog-publish` published: of all nodes, or of one
    #[arg(long, conflicts_with = "file")]
    from: Option<From>,
    /// The recorder's file, if it is not that of eventlog
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Where events are read from, if not from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// The lab's NATS server.
    Nats,
}

/// Prints each event as it was recorded, a line each.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let lab = args.target.lab().await?;
    let of = args
        .node
        .as_deref()
        .map(|name| node(&lab, name))
        .transpose()?;
    let node = match (of, args.from) {
        (of, Some(From::Nats)) => return published(&lab, of, &args).await,
        (Some(node), None) => node,
        (None, None) => return Err(usage("name a node, or --from nats")),
    };
    let path = match &args.file {
        Some(file) => node.network_dir().join(file),
        None => recorded(node, args.follow).await?,
    };
    if !args.follow && !path.exists() {
        anyhow::bail!(
            "{} does not exist: nothing has been recorded",
            path.display()
        );
    }
    let mut events = Follower::new(path);
    loop {
        let ended = !args.follow || Lab::attach(lab.dir()).is_err();
        let mut lines = events.lines()?;
        if ended {
            lines.extend(events.rest());
        }
        for line in lines {
            if is_wanted(&line, &args.topics) {
                out::line(line)?;
            }
        }
        if ended || out::is_closed() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Prints what the stream has, in its order, of all nodes or of one.
async fn published(lab: &Lab, node: Option<&Node>, args: &Args) -> anyhow::Result<()> {
    let url = Nats::url_in(lab.dir()).context("this lab has no NATS server: `lab up --nats`")?;
    let client = async_nats::connect(&url).await;
    let client = client.with_context(|| url.clone())?;
    let stream = async_nats::jetstream::new(client).get_stream(STREAM).await;
    let stream = stream.with_context(|| {
        format!(
            "nothing is published: `eventlog-publish FILE --nats {url}` makes the stream {STREAM}"
        )
    })?;
    let consumer = stream.create_consumer(OrderedConfig {
        filter_subject: format!("cln.*.{}.>", node.map_or("*", Node::id)),
        ..OrderedConfig::default()
    });
    let consumer = consumer.await?;
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await?;
    while args.follow || left > 0 {
        let message = tokio::select! {
            message = messages.next() => message.context("the stream has ended")??,
            () = tokio::time::sleep(LOOK), if args.follow => {
                if out::is_closed() || Lab::attach(lab.dir()).is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        left = left.saturating_sub(1);
        let line = String::from_utf8_lossy(&message.payload);
        if is_wanted(&line, &args.topics) {
            out::line(&line)?;
        }
    }
    Ok(())
}

/// A line that cannot be read as an event has no topic.
fn is_wanted(line: &str, topics: &[String]) -> bool {
    topics.is_empty() || Event::parse(line).is_ok_and(|event| topics.contains(&event.topic))
}

/// eventlog's file on this node. If it is neither running nor has recorded anything,
/// `start` decides whether it is started. A node that is down has its file still.
async fn recorded(node: &Node, start: bool) -> anyhow::Result<PathBuf> {
    const USUAL: &str = "eventlog.jsonl";
    let usual = node.network_dir().join(USUAL);
    let running = tokio::time::timeout(scaled(ANSWER), file_of(node)).await;
    match running {
        Ok(Ok(Some(path))) => return Ok(node.network_dir().join(path)),
        Ok(Ok(None)) if usual.exists() && !start => return Ok(usual),
        Ok(Ok(None)) => {}
        // It is down, or does not answer.
        Ok(Err(Error::Rpc { code: None, .. })) | Err(_) if usual.exists() => return Ok(usual),
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => anyhow::bail!("{} does not answer", node.name()),
    }
    let program = binaries::built("EVENTLOG", "eventlog");
    anyhow::ensure!(
        start,
        "eventlog is not running on {0}: run `lab cli {0} plugin start {1}` first, or \
         `lab events {0} -f`, which starts it; or name another recorder's file with --file",
        node.name(),
        program.map_or("PATH/eventlog".to_owned(), |path| path
            .display()
            .to_string())
    );
    let plugin = Plugin::path(program?);
    node.plugin_start(&plugin)
        .await
        .with_context(|| format!("start eventlog on {}", node.name()))?;
    out::note(format_args!("note: started eventlog on {}", node.name()));
    Ok(usual)
}

/// The file that a running eventlog names; `None` if none is running.
async fn file_of(node: &Node) -> cln_lab::Result<Option<PathBuf>> {
    let plugins = node.plugin_list().await?;
    let running = plugins
        .iter()
        .any(|plugin| plugin.active && plugin.name.ends_with("/eventlog"));
    if !running {
        return Ok(None);
    }
    let stats: Value = node.call("eventlog-stats", json!({})).await?;
    let file = &stats["file"];
    Ok(Some(file.as_str().unwrap_or("eventlog.jsonl").into()))
}
